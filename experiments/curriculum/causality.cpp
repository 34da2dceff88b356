// Changing one digit of a working.
#include "experiments/curriculum/causality.h"

#include "engine/engine.h"
#include "engine/text/tokenizer.h"

namespace vitrine::curriculum {
namespace {

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

}  // namespace

Edit edit_working(std::string_view working, uint64_t seed, uint64_t index) {
    std::vector<size_t> places;
    for (size_t i = 0; i + 1 < working.size(); ++i)
        if (working[i] == '=' && is_digit(working[i + 1])) places.push_back(i + 1);
    if (places.empty()) return {};
    Draws draw(CounterRng(seed, index));
    const size_t at = draw.pick(places);
    Edit e;
    e.kept = e.changed = std::string(working.substr(0, at + 1));
    e.changed.back() = static_cast<char>('0' + (e.kept.back() - '0' + 1 + static_cast<int>(draw.below(9))) % 10);
    return e;
}

bool takes_over(std::string_view before, std::string_view after, char digit) {
    if (before.size() != after.size()) return false;
    int n = 0;
    bool is_taken = false;
    for (size_t i = 0; i < before.size(); ++i)
        if (before[i] != after[i]) ++n, is_taken = is_digit(before[i]) && after[i] == digit;
    return n == 1 && is_taken;
}

Causality corrupt_digits(const Asker& asker, const std::vector<Item>& items, uint64_t seed, int n_examples) {
    const Mode mode = Mode::high;
    std::vector<GreedyRequest> asked;
    for (const Item& i : items)
        asked.push_back({asker.prompt(i.prompt, mode), answer_budget(mode)});
    const auto by_itself = asker.ask(asked, {});
    std::vector<GreedyRequest> changed, kept;
    std::vector<Edit> edits;
    std::vector<std::string> before;
    std::vector<size_t> which;
    for (size_t i = 0; i < items.size(); ++i) {
        const Said said = asker.read(by_itself[i], mode);
        const Edit e = edit_working(said.thinking, seed, i);
        if (!said.is_finished || e.kept.empty()) continue;
        const auto from = [&](const std::string& prefix) {
            GreedyRequest r = asked[i];
            const std::vector<int32_t> ids = asker.tokenizer().encode(prefix);
            r.prompt.insert(r.prompt.end(), ids.begin(), ids.end());
            return r;
        };
        changed.push_back(from(e.changed)), kept.push_back(from(e.kept));
        edits.push_back(e), before.push_back(said.reply), which.push_back(i);
    }
    const auto after_change = asker.ask(changed, {}), after_nothing = asker.ask(kept, {});
    Causality c;
    c.n = static_cast<int>(edits.size());
    for (size_t i = 0; i < edits.size(); ++i) {
        const Edit& e = edits[i];
        const Said a = asker.read(after_change[i], mode, e.changed),
                               b = asker.read(after_nothing[i], mode, e.kept);
        c.n_unfinished += !a.is_finished;
        c.mean_spent += static_cast<double>(after_change[i].size()) / static_cast<double>(edits.size());
        c.n_changed += a.is_finished && a.reply != before[i];
        c.n_taken_over += a.is_finished && takes_over(before[i], a.reply, e.changed.back());
        c.n_changed_without += !b.is_finished || b.reply != before[i];
        const std::string went_on = a.thinking.substr(e.changed.size());
        c.n_taken_back += went_on.find("[back]") != std::string::npos;
        if (static_cast<int>(i) < n_examples)
            c.examples.push_back({items[which[i]].prompt, e.kept, e.changed, went_on, a.reply, before[i]});
    }
    return c;
}

}  // namespace vitrine::curriculum
