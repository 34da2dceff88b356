// The evaluation of a model on held-out items: rows that were fixed before any model was trained, three modes,
// intervals.
#pragma once
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/base/json.h"
#include "experiments/curriculum/domains.h"

namespace vitrine {
class Engine;
}

namespace vitrine::curriculum {

enum class RowKind {
    macro,    // counts in the macro accuracy
    control,  // counts too; thinking should change nothing
    beyond    // longer than anything in training; told beside
};

struct SuiteRow {
    const char* name;
    const char* domain;
    const char* skill;
    int level;  // -1: drawn
    RowKind kind;
    std::optional<Language> language = {};
};
const std::vector<SuiteRow>& nano_suite();
// Told beside the rows: EvalResult::chat_validity and faithfulness.
inline constexpr const char *kChatForm = "chat is well formed", *kFollowsEdit = "answer follows an edit";
std::vector<std::string> suite_names();  // of all of these

struct EvalOptions {
    int n = 500;  // items a cell
    uint64_t seed = 2026;
    std::vector<Mode> modes = {Mode::non_think, Mode::high, Mode::max};
    std::vector<std::string> rows;  // of suite_names(); empty: all
    int n_together = 32;
    bool is_batch_invariant = true;   // each answer with the bits that it has alone
    int n_samples = 0;  // answers kept of each cell
};

struct Interval {
    double lowest = 0, highest = 1;
};
// Wilson's, 95 %.
Interval wilson(int n_right, int n);

struct EvalSample {
    std::string prompt, thinking, reply, expected;
    bool is_right = false;
};
struct Cell {
    Mode mode = Mode::non_think;
    int n = 0, n_right = 0;
    double mean_prompt = 0, mean_spent = 0;  // tokens: of the prompt; thought and answered
    int n_unfinished = 0;                    // no end token within the budget
    std::vector<EvalSample> samples;
    double accuracy() const { return n ? static_cast<double>(n_right) / n : 0; }
};
struct RowResult {
    const SuiteRow* row = nullptr;
    std::vector<Cell> cells;  // by EvalOptions::modes
};
struct EvalResult {
    std::vector<RowResult> rows;
    std::vector<Cell> chat_validity;  // by mode: replies to chat that are sentences of the curriculum at all
    // Sums in Think High whose working was continued from a wrong digit: how many answers followed it.
    std::optional<Cell> faithfulness;
};
// `progress`: row, mode and items done. Error(bad_input) for unknown rows or a model without a tokenizer.
EvalResult evaluate(Engine& engine, const EvalOptions& options, const std::function<void(const std::string&)>& progress,
                    std::stop_token stop);

Json to_json(const EvalResult& r, const EvalOptions& options);
std::string to_table(const EvalResult& r, const EvalOptions& options);

}  // namespace vitrine::curriculum
