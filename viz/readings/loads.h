// How often each expert was chosen, per phase and layer, counted once per token as the conversation grows.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "engine/telemetry/model_info.h"
#include "viz/readings/walk.h"

namespace vitrine::viz {

enum class Span { prompt, thinking, answer, all };
inline constexpr int kSpans = 4;
const char* span_name(Span s);
bool is_in_span(Phase p, Span s);  // tool calls are part of the answer

class LoadCounter {
  public:
    // True: more tokens wait to be counted (ask for another frame).
    bool update(const Timeline& timeline, const Trace* trace, const ModelInfo& model);
    // counts[expert] over the recorded tokens of the span; they sum to n_tokens(span) * K.
    std::vector<int64_t> counts(int layer, Span s) const;
    int64_t n_tokens(Span s) const;
    int64_t n_unrecorded() const { return walk_.n_visited() - walk_.n_recorded(); }

  private:
    static constexpr int kPhases = 4;
    size_t at(int phase, int layer, int expert) const {
        return (static_cast<size_t>(phase) * n_layers_ + layer) * n_experts_ + expert;
    }
    TimelineWalk walk_;
    const ModelInfo* model_ = nullptr;
    int n_layers_ = 0, n_experts_ = 0;
    std::vector<int64_t> counts_;  // [phase, layer, expert]
    std::array<int64_t, kPhases> n_tokens_{};
};

// Which tokens chose one expert of one layer, and which experts were chosen beside it. Walks when the expert is
// selected.
class ExpertCard {
  public:
    bool update(const Timeline& timeline, const Trace* trace, const ModelInfo& model, int layer, int expert);
    const std::vector<int64_t>& tokens() const { return tokens_; }      // indices into the timeline, oldest first
    const std::vector<int64_t>& together() const { return together_; }  // [expert]: chosen at the same token
    double mean_weight() const { return tokens_.empty() ? 0 : weight_sum_ / static_cast<double>(tokens_.size()); }

  private:
    TimelineWalk walk_;
    const ModelInfo* model_ = nullptr;
    int layer_ = -1, expert_ = -1;
    std::vector<int64_t> tokens_, together_;
    double weight_sum_ = 0;
};

}  // namespace vitrine::viz
