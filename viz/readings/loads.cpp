// How often each expert was chosen.
#include "viz/readings/loads.h"

namespace vitrine::viz {
namespace {
constexpr int64_t kBudget = 20000;  // layer look-ups a frame, about 3 ms
}

const char* span_name(Span s) {
    static constexpr const char* kNames[] = {"prompt", "thinking", "answer", "all"};
    return kNames[static_cast<int>(s)];
}

bool is_in_span(Phase p, Span s) {
    switch (s) {
        case Span::prompt:
            return p == Phase::prompt;
        case Span::thinking:
            return p == Phase::thinking;
        case Span::answer:
            return p == Phase::answer || p == Phase::tool_call;
        case Span::all:
            return true;
    }
    return false;
}

bool LoadCounter::update(const Timeline& timeline, const Trace* trace, const ModelInfo& model) {
    if (model_ != &model) {
        walk_.restart();
        model_ = &model;
        n_layers_ = model.config.n_layers(), n_experts_ = model.config.n_experts;
    }
    const auto reset = [this] {
        counts_.assign(static_cast<size_t>(kPhases) * n_layers_ * n_experts_, 0);
        n_tokens_ = {};
    };
    const auto visit = [this](int64_t, const TokenInfo& token, const TokenRecord& record) {
        const int phase = static_cast<int>(token.phase);
        ++n_tokens_[phase];
        for (int layer = 0; layer < n_layers_; ++layer)
            for (const int32_t e : record.ints(kRouterIndices, layer).data)
                if (e >= 0 && e < n_experts_) ++counts_[at(phase, layer, e)];
    };
    return walk_.advance(timeline, trace, kBudget, n_layers_, reset, visit);
}

std::vector<int64_t> LoadCounter::counts(int layer, Span s) const {
    std::vector<int64_t> sum(n_experts_, 0);
    if (counts_.empty() || layer < 0 || layer >= n_layers_) return sum;
    for (int p = 0; p < kPhases; ++p)
        if (is_in_span(static_cast<Phase>(p), s))
            for (int e = 0; e < n_experts_; ++e) sum[e] += counts_[at(p, layer, e)];
    return sum;
}

int64_t LoadCounter::n_tokens(Span s) const {
    int64_t n = 0;
    for (int p = 0; p < kPhases; ++p)
        if (is_in_span(static_cast<Phase>(p), s)) n += n_tokens_[p];
    return n;
}

bool ExpertCard::update(const Timeline& timeline, const Trace* trace, const ModelInfo& model, int layer, int expert) {
    if (model_ != &model || layer != layer_ || expert != expert_) walk_.restart();
    model_ = &model, layer_ = layer, expert_ = expert;
    const int n_experts = model.config.n_experts;
    const auto reset = [&] {
        tokens_.clear();
        together_.assign(n_experts, 0);
        weight_sum_ = 0;
    };
    const auto visit = [&](int64_t index, const TokenInfo&, const TokenRecord& record) {
        const auto chosen = record.ints(kRouterIndices, layer);
        const auto weights = record.floats(kRouterWeights, layer);
        bool is_chosen = false;
        for (size_t i = 0; i < chosen.data.size(); ++i) {
            if (chosen[i] != expert) continue;
            is_chosen = true;
            if (i < weights.data.size()) weight_sum_ += weights[i];
        }
        if (!is_chosen) return;
        tokens_.push_back(index);
        for (const int32_t e : chosen.data)
            if (e >= 0 && e < n_experts && e != expert) ++together_[e];
    };
    return walk_.advance(timeline, trace, kBudget, 2, reset, visit);
}

}  // namespace vitrine::viz
