// Filling patterns, and how people really type.
#include "experiments/curriculum/wording.h"

namespace vitrine::curriculum {

const std::string& Item::thinking(Mode m) const {
    static const std::string nothing;
    return m == Mode::high ? high : m == Mode::max ? max : nothing;
}

std::function<bool(std::string_view)> exactly(std::string reply) {
    return [reply = std::move(reply)](std::string_view given) {
        const size_t begin = given.find_first_not_of(" \n");
        if (begin == std::string_view::npos) return false;
        return given.substr(begin, given.find_last_not_of(" \n") + 1 - begin) == reply;
    };
}

std::string fill(std::string_view pattern, std::initializer_list<std::string_view> values) {
    std::string out;
    for (size_t i = 0; i < pattern.size(); ++i) {
        if (pattern[i] == '{' && i + 2 < pattern.size() && pattern[i + 2] == '}') {
            const auto index = static_cast<size_t>(pattern[i + 1] - 'a');
            if (index < values.size()) {
                out += values.begin()[index];
                i += 2;
                continue;
            }
        }
        out += pattern[i];
    }
    return out;
}

namespace {

bool ends_in(std::string& s, std::string_view mark) {
    if (!s.ends_with(mark)) return false;
    s.resize(s.size() - mark.size());
    return true;
}

// `begins_in_words`: the first letter is the wording's, not a name's.
void type_carelessly(Wish& w, std::string& s, bool begins_in_words) {
    if (w.draw.chance(0.5) && begins_in_words && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'a' && s[1] <= 'z')
        s[0] = static_cast<char>(s[0] - 'A' + 'a');
    if (!w.draw.chance(0.5)) return;
    if (!ends_in(s, "?") && !ends_in(s, "？") && !ends_in(s, "。")) ends_in(s, ".");
}

}  // namespace

std::string ask(Wish& w, const Wordings& wordings, std::initializer_list<std::string_view> values) {
    const std::string_view pattern = w.draw.pick(wordings.of(w.language));
    std::string s = fill(pattern, values);
    if (w.draw.chance(0.15)) type_carelessly(w, s, pattern[0] != '{');
    if (w.is_chinese() && w.draw.chance(0.25) && ends_in(s, "？")) s += "?";
    return s;
}

const WorkingWords& words(Language l) {
    static const WorkingWords english = {"Plan:", "Check:", "ok", "wrong", "so"};
    static const WorkingWords chinese = {"计划：", "检查：", "对", "不对", "所以"};
    return l == Language::chinese ? chinese : english;
}

std::string joined(const std::vector<std::string>& parts, std::string_view separator) {
    std::string out;
    for (const std::string& p : parts) {
        if (!out.empty()) out += separator;
        out += p;
    }
    return out;
}

}  // namespace vitrine::curriculum
