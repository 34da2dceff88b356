// Asking rows of the suite.
#include "experiments/questions.h"

#include <algorithm>

#include "engine/base/error.h"
#include "engine/engine.h"
#include "experiments/curriculum/domains.h"
#include "experiments/curriculum/suite.h"
#include "experiments/experiment.h"

namespace vitrine::lab {

using curriculum::Item;

std::vector<Item> suite_items(const std::string& row, int n, uint64_t seed, const ModelConfig& model) {
    std::string list;
    for (const curriculum::SuiteRow& r : curriculum::nano_suite()) {
        list += (list.empty() ? "" : ", ") + std::string(r.name);
        if (row != r.name) continue;
        const curriculum::Selection what{.domain = curriculum::domain_index(r.domain),
                                         .skill = &curriculum::find_skill(r.skill),
                                         .level = r.level,
                                         .language = r.language,
                                         .model = &model};
        std::vector<Item> items;
        for (int i = 0; i < n; ++i)
            items.push_back(
                make_item(mix64(seed ^ fnv1a64(r.name)), curriculum::Split::test, what, static_cast<uint64_t>(i)));
        return items;
    }
    throw_if_any({{"", "row", row, "expected one of " + list, ""}});
    throw Error(ErrorKind::internal, "unreachable");
}

int Answers::n_right() const {
    return static_cast<int>(std::count(is_right.begin(), is_right.end(), true));
}

double Answers::accuracy() const {
    return is_right.empty() ? 0 : static_cast<double>(n_right()) / static_cast<double>(is_right.size());
}

Answers ask_all(const curriculum::Asker& asker, const std::vector<Item>& items, Mode mode) {
    std::vector<GreedyRequest> requests;
    for (const Item& i : items) requests.push_back({asker.prompt(i.prompt, mode), curriculum::answer_budget(mode)});
    const auto ids = asker.ask(requests, {});
    Answers a;
    for (size_t i = 0; i < items.size(); ++i) {
        a.said.push_back(asker.read(ids[i], mode));
        a.is_right.push_back(a.said.back().is_finished && items[i].accepts(a.said.back().reply));
        a.mean_tokens += static_cast<double>(ids[i].size()) / static_cast<double>(items.size());
    }
    return a;
}

std::string with_interval(int n_right, int n) {
    const curriculum::Interval i = curriculum::wilson(n_right, n);
    return fixed(n ? 100.0 * n_right / n : 0, 1) + " [" + fixed(100 * i.lowest, 1) + ", " + fixed(100 * i.highest, 1) +
           "]";
}

}  // namespace vitrine::lab
