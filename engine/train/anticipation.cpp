// Experts chosen by older weights.
#include "engine/train/anticipation.h"

#include <algorithm>

#include "engine/base/rng.h"

namespace vitrine {
namespace {

// Keeps the experts that routers publish.
class ChoiceSink : public ProbeSink {
  public:
    ChoiceSink(ExpertChoices& out) : out_(out) {}
    void put(int, Probe, int, const float*, int, int) override {}
    void put(int token, Probe p, int layer, const int32_t* data, int rows, int cols) override {
        if (p != kRouterIndices) return;
        keep_choice(out_, token, layer, {data, static_cast<size_t>(rows * cols)});
    }

  private:
    ExpertChoices& out_;
};

}  // namespace

void keep_choice(ExpertChoices& choices, int token, int layer, std::span<const int32_t> experts) {
    if (choices.by_layer.size() <= static_cast<size_t>(layer)) choices.by_layer.resize(static_cast<size_t>(layer) + 1);
    auto& ids = choices.by_layer[static_cast<size_t>(layer)];
    ids.resize(static_cast<size_t>(choices.n_tokens) * experts.size());
    std::copy(experts.begin(), experts.end(), ids.data() + static_cast<size_t>(token) * experts.size());
}

ExpertChoices random_control(const ExpertChoices& old, const ExpertChoices& now, int n_experts, uint64_t seed) {
    ExpertChoices control = now;
    for (size_t l = 0; l < std::min(old.by_layer.size(), now.by_layer.size()); ++l) {
        const auto &was = old.by_layer[l], &is = now.by_layer[l];
        if (was.size() != is.size() || is.empty()) continue;
        const CounterRng rng(seed, l);
        const auto k = static_cast<int64_t>(is.size()) / now.n_tokens;
        uint64_t at = 0;
        for (int64_t t = 0; t < now.n_tokens; ++t) {
            int32_t* row = control.by_layer[l].data() + t * k;
            const auto holds = [&](const int32_t* first, int32_t e) { return std::find(first, first + k, e) != first + k; };
            int64_t n_changed = 0;
            for (int64_t j = 0; j < k; ++j) n_changed += !holds(was.data() + t * k, is[static_cast<size_t>(t * k + j)]);
            n_changed = std::min<int64_t>(n_changed, n_experts - k);
            std::vector<int64_t> slots(static_cast<size_t>(k));
            for (size_t j = 0; j < slots.size(); ++j) slots[j] = static_cast<int64_t>(j);
            for (int64_t j = 0; j < n_changed; ++j) {
                const auto here = static_cast<size_t>(j), left = static_cast<uint64_t>(k - j);
                std::swap(slots[here], slots[here + rng.bits(at++) % left]);
                int32_t e = 0;  // neither one of now nor one already taken
                do e = static_cast<int32_t>(rng.bits(at++) % static_cast<uint64_t>(n_experts));
                while (holds(row, e) || holds(is.data() + t * k, e));
                row[slots[here]] = e;
            }
        }
    }
    return control;
}

Forced ExpertChoices::forced(int n_layers) const {
    Forced f;
    f.experts_TK.resize(static_cast<size_t>(n_layers));
    f.entries_Tk.resize(static_cast<size_t>(n_layers));
    for (size_t l = 0; l < by_layer.size() && l < f.experts_TK.size(); ++l) {
        if (by_layer[l].empty()) continue;
        const int64_t k = static_cast<int64_t>(by_layer[l].size()) / n_tokens;
        f.experts_TK[l] = {const_cast<int32_t*>(by_layer[l].data()), DType::i32, {n_tokens, k}};  // ops only read it
    }
    return f;
}

std::vector<Segment> segments_of(const TrainBatch& batch) {
    std::vector<Segment> segments;
    for (const TrainBatch::Sample& s : batch.samples) segments.push_back({nullptr, s.begin, s.end, 0});
    return segments;
}

ExpertChoices choose_experts(Ctx& ctx, const ModelConfig& c, const ModelWeights& w, const TrainBatch& batch, bool has_mtp,
                             const TrainingStep* like) {
    ExpertChoices choices;
    choices.n_tokens = static_cast<int64_t>(batch.tokens.size());
    ChoiceSink sink(choices);
    Watch watch;
    watch.set(probe_bit(kRouterIndices));
    const Arena::Scope scratch(ctx.arena);
    Tape none(false);
    TrainingStep asked;
    DelayedScales scales;
    if (like) asked.quant = like->quant, asked.indexer = like->indexer;
    if (like && like->delayed) scales.before = like->delayed->before, asked.delayed = &scales;
    Ctx quiet = ctx;
    quiet.tape = &none, quiet.watch = &watch, quiet.probes = &sink, quiet.training = &asked;
    const std::vector<Segment> segments = segments_of(batch);
    const Batch b{batch.tokens, segments};
    const Tensor x_TND = trunk(quiet, c, w, b);
    const std::vector<int32_t> following = batch.next_tokens();
    if (has_mtp) mtp_logits(quiet, c, w, w.mtp[0], x_TND, following, b);
    return choices;
}

double churn(const ExpertChoices& a, const ExpertChoices& b) {
    int64_t n = 0, n_other = 0;
    for (size_t l = 0; l < std::min(a.by_layer.size(), b.by_layer.size()); ++l) {
        const auto &x = a.by_layer[l], &y = b.by_layer[l];
        if (x.size() != y.size() || x.empty()) continue;
        const auto k = static_cast<int64_t>(x.size()) / a.n_tokens;
        for (int64_t t = 0; t < a.n_tokens; ++t)
            for (int64_t j = 0; j < k; ++j) {
                const auto first = y.begin() + t * k;
                n_other += std::find(first, first + k, x[static_cast<size_t>(t * k + j)]) == first + k;
                ++n;
            }
    }
    return n ? static_cast<double>(n_other) / static_cast<double>(n) : 0;
}

}  // namespace vitrine
