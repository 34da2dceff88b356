// Rendering of workings.
#include "experiments/curriculum/working.h"

namespace vitrine::curriculum {

void Working::plan(const char* english, const char* chinese) {
    plan_ = wish_.is_chinese() ? std::string(words(wish_.language).plan) + chinese
                               : std::string(words(wish_.language).plan) + " " + english;
}

void Working::step(std::string right, std::string wrong) {
    steps_.push_back({std::move(right), std::move(wrong), true, true, begins_line_});
    begins_line_ = false;
}

void Working::high_step(std::string text) {
    steps_.push_back({std::move(text), "", true, false, false});
}

void Working::max_step(std::string right, std::string wrong) {
    steps_.push_back({std::move(right), std::move(wrong), false, true, begins_line_});
    begins_line_ = false;
}

void Working::new_line() {
    begins_line_ = true;
}

void Working::check(const std::string& text) {
    const WorkingWords& w = words(wish_.language);
    check_ += std::string(check_.empty() ? "" : "\n") + w.check + (wish_.is_chinese() ? "" : " ") + text +
              (wish_.is_chinese() ? "，" : " ") + w.ok;
}

std::string Working::high() const {
    std::string s;
    for (const Step& step : steps_)
        if (step.is_in_high) s += (s.empty() ? "" : " ") + step.right;
    return s;
}

std::string Working::max() const {
    std::vector<size_t> can_slip;
    for (size_t i = 0; i < steps_.size(); ++i)
        if (steps_[i].is_in_max && !steps_[i].wrong.empty() && steps_[i].wrong != steps_[i].right)
            can_slip.push_back(i);
    Draws& draw = wish_.draw;
    size_t first = steps_.size(), second = steps_.size();
    if (!can_slip.empty() && draw.chance(wish_.slip_rate)) {
        first = draw.pick(can_slip);
        if (draw.chance(0.25)) second = draw.pick(can_slip);
    }
    std::string s = plan_;
    bool begins_line = !plan_.empty();
    for (size_t i = 0; i < steps_.size(); ++i) {
        const Step& step = steps_[i];
        if (!step.is_in_max) continue;
        s += begins_line || step.begins_line ? "\n" : s.empty() ? "" : " ";
        begins_line = false;
        if (i == first || i == second) s += step.wrong + " " + kBack + " ";
        s += step.right;
    }
    if (!check_.empty()) s += "\n" + check_;
    return s;
}

Item finish(std::string prompt, std::string reply, const Working& working, const std::string& problem,
            std::function<bool(std::string_view)> accepts) {
    Item i;
    i.prompt = std::move(prompt);
    i.reply = std::move(reply);
    i.high = working.high(), i.max = working.max();
    i.accepts = accepts ? std::move(accepts) : exactly(i.reply);
    i.problem = fnv1a64(problem);
    return i;
}

}  // namespace vitrine::curriculum
