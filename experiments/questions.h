// Rows of the evaluation suite asked one by one: which answers were right, item by item, for paired comparisons.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "experiments/curriculum/asker.h"
#include "experiments/curriculum/item.h"

namespace vitrine {
struct ModelConfig;
}

namespace vitrine::lab {

// The items that `vitrine eval` with this seed asks for that row. Error(bad_input) listing the rows.
std::vector<curriculum::Item> suite_items(const std::string& row, int n, uint64_t seed, const ModelConfig& model);

struct Answers {
    std::vector<bool> is_right;          // by item
    std::vector<curriculum::Said> said;  // the same
    double mean_tokens = 0;              // written: thinking and reply
    int n_right() const;
    double accuracy() const;
};
Answers ask_all(const curriculum::Asker& asker, const std::vector<curriculum::Item>& items, Mode mode);

// "96.0 [90.2, 98.4]": percent with Wilson's 95 %.
std::string with_interval(int n_right, int n);

}  // namespace vitrine::lab
