// The ordered table of domains, and items drawn from it. To add a domain: one file, one row (README.md).
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "experiments/curriculum/item.h"

namespace vitrine::curriculum {

struct DomainInfo {
    const char* name;
    const char* what;
    double share;  // of the training tokens, in percent; the table's shares add up to 100
    const std::vector<Skill>& (*skills)();
};
const std::vector<DomainInfo>& domains();
int domain_index(const std::string& name);         // Error(bad_input) listing the names
const Skill& find_skill(const std::string& name);  // the same; names are unique over all domains

enum class Split { train, test };

// What is fixed of an item; the rest is drawn.
struct Selection {
    int domain = 0;
    const Skill* skill = nullptr;
    int level = -1;               // -1: drawn from the skill's range
    int highest_level = 1 << 20;  // when it is drawn
    std::optional<Language> language;
    const ModelConfig* model = nullptr;  // needed by chat
    double slip_rate = 0.4;
};

// Item `index` of a stream: a pure function of its arguments. Problems of the other split are drawn again.
Item make_item(uint64_t seed, Split split, const Selection& what, uint64_t index);

constexpr double kChineseShare = 0.3;

// One function per domain, for the table.
const std::vector<Skill>& arithmetic_skills();
const std::vector<Skill>& serial_skills();
const std::vector<Skill>& lookup_skills();
const std::vector<Skill>& string_skills();
const std::vector<Skill>& search_skills();
const std::vector<Skill>& chat_skills();
const std::vector<Skill>& fact_skills();

}  // namespace vitrine::curriculum
