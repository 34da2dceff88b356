// Held-out samples of the curriculum fed to a model as they stand ("teacher forcing"): what it thought of each token.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/base/config/sampling.h"
#include "engine/telemetry/probes.h"
#include "experiments/statistics.h"

namespace vitrine {
class Engine;
}

namespace vitrine::lab {

struct ForcedText {
    std::vector<int32_t> ids;
    std::vector<bool> is_learnt;  // token t is one that the assistant writes
    int domain = 0;
    Mode mode = Mode::non_think;
};
// `n` of each domain of the curriculum, in its own mixture of modes, never trained on, none longer than `most_tokens`.
// The same for the same seed and tokenizer. Error(bad_input) when the model has no tokenizer.
std::vector<ForcedText> held_out_texts(const Engine& engine, int n_per_domain, int most_tokens, uint64_t seed);

struct TextScore {
    TextSum loss;               // [nat] over the assistant's tokens
    int64_t n_top = 0;          // of them the model's most probable ones
    std::vector<int32_t> best;  // the model's most probable token, one for each of them
};
// Reads the text in a session of its own. `extra` gets what `probes` names, by token of the text; may be null.
TextScore read_text(Engine& engine, const ForcedText& text, std::stop_token stop, ProbeSink* extra = nullptr,
                    ProbeSet probes = kNoProbes);

// -ln p(id) of softmax(logits).
double loss_of(std::span<const float> logits, int32_t id);

}  // namespace vitrine::lab
