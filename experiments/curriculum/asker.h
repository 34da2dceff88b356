// Asking a model questions and reading what it answers: many side by side, greedily.
#pragma once
#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/base/config/sampling.h"

namespace vitrine {
class Engine;
struct GreedyRequest;
namespace text {
class Tokenizer;
}
}  // namespace vitrine

namespace vitrine::curriculum {

// Most new tokens by mode: the budgets of the training data with room for the reply.
int answer_budget(Mode m);

struct Said {
    std::string thinking, reply;
    bool is_finished = false;  // the reply ended with the end token
};

class Asker {
  public:
    struct Options {
        int n_together = 32;             // sequences in one pass
        bool is_batch_invariant = true;  // each answer with the bits that it has alone
    };
    // `engine` outlives this. Error(bad_input) when it has no tokenizer.
    Asker(Engine& engine, Options options, std::stop_token stop);

    const text::Tokenizer& tokenizer() const;
    // The question as one user message, up to where the answer starts. Error(bad_input) for a mode that the model's
    // chat format can't ask for.
    std::vector<int32_t> prompt(const std::string& question, Mode mode) const;
    // The new tokens of each request. `progress`: requests done.
    std::vector<std::vector<int32_t>> ask(const std::vector<GreedyRequest>& requests,
                                          const std::function<void(size_t)>& progress) const;
    // New tokens as thinking and reply. `prefix`: thinking that was put into its mouth.
    Said read(const std::vector<int32_t>& ids, Mode mode, const std::string& prefix = "") const;
    // One answer to each question.
    std::vector<Said> ask(const std::vector<std::string>& questions, Mode mode) const;

  private:
    Engine& engine_;
    Options options_;
    std::stop_token stop_;
    int32_t end_think_ = 0;
};

}  // namespace vitrine::curriculum
