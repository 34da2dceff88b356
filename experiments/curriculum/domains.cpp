// The table of domains, and how an item is drawn.
#include "experiments/curriculum/domains.h"

#include <algorithm>

#include "engine/base/error.h"

namespace vitrine::curriculum {

const std::vector<DomainInfo>& domains() {
    static const std::vector<DomainInfo> all = {
        {"arithmetic", "sums, differences, products, quotients, comparisons, remainders", 22, arithmetic_skills},
        {"serial", "states that change step by step: chains, swaps, squaring, circuits, automata", 15, serial_skills},
        {"lookup", "finding what stands in the text: pairs, pointers, families, counting, far back", 15, lookup_skills},
        {"strings", "letters and lists turned, copied, sorted, counted, checked", 10, string_skills},
        {"search", "easy to check, hard to find: countdown, Latin squares, subset sums, paths", 16, search_skills},
        {"chat", "greetings, what Vitrine is, its own numbers, a glossary, what it can't know", 17, chat_skills},
        {"facts", "invented people, to be known by heart", 5, fact_skills},
    };
    return all;
}

namespace {

[[noreturn]] void unknown(const char* key, const std::string& name, const std::vector<std::string>& names) {
    std::string list;
    for (const std::string& n : names) list += (list.empty() ? "" : ", ") + n;
    const std::string near = nearest_name(name, names);
    throw_if_any(
        {{"", key, name, "expected one of " + list + (near.empty() ? "" : "; did you mean " + near + "?"), ""}});
    throw Error(ErrorKind::internal, "unreachable");
}

const Skill& drawn(Draws& draw, const std::vector<Skill>& skills) {
    double total = 0;
    for (const Skill& s : skills) total += s.weight;
    double at = draw.uniform() * total;
    for (const Skill& s : skills)
        if ((at -= s.weight) < 0) return s;
    return skills.back();
}

}  // namespace

int domain_index(const std::string& name) {
    std::vector<std::string> names;
    for (const DomainInfo& d : domains()) {
        if (name == d.name) return static_cast<int>(names.size());
        names.emplace_back(d.name);
    }
    unknown("domain", name, names);
}

const Skill& find_skill(const std::string& name) {
    std::vector<std::string> names;
    for (const DomainInfo& d : domains())
        for (const Skill& s : d.skills()) {
            if (name == s.name) return s;
            names.emplace_back(s.name);
        }
    unknown("skill", name, names);
}

Item make_item(uint64_t seed, Split split, const Selection& what, uint64_t index) {
    const DomainInfo& domain = domains()[static_cast<size_t>(what.domain)];
    const uint64_t stream = mix64(fnv1a64(domain.name) ^ (split == Split::test ? 1 : 0)) + index;
    constexpr int kAttempts = 400;  // a problem is of the other split with probability 0.9 at most
    for (int attempt = 0;; ++attempt) {
        Draws draw(CounterRng(mix64(seed) + static_cast<uint64_t>(attempt), stream));
        const Skill& skill = what.skill ? *what.skill : drawn(draw, domain.skills());
        Wish w{draw, what.level, what.language.value_or(Language::english), what.slip_rate, what.model};
        if (w.level < 0)
            w.level = draw.between(skill.lowest, std::max(skill.lowest, std::min(skill.highest, what.highest_level)));
        if (!what.language && draw.chance(kChineseShare)) w.language = Language::chinese;
        Item item = skill.make(w);
        item.skill = skill.name, item.domain = what.domain, item.level = w.level, item.language = w.language;
        if (w.level < skill.first_split_level || is_held_out(item.problem) == (split == Split::test)) return item;
        VITRINE_ASSERT(attempt < kAttempts);
    }
}

}  // namespace vitrine::curriculum
