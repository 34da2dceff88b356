// Curves to numbers; small models.
#include "experiments/runs.h"

#include <algorithm>
#include <cmath>

#include "engine/base/error.h"

namespace vitrine::lab {

double last_mean(const LabSeries& s, int n) {
    if (s.value.empty()) return NAN;
    const size_t from = s.value.size() - std::min(s.value.size(), static_cast<size_t>(n));
    double sum = 0;
    for (size_t i = from; i < s.value.size(); ++i) sum += s.value[i];
    return sum / static_cast<double>(s.value.size() - from);
}

double first_mean(const LabSeries& s, int n) {
    const size_t end = std::min(s.value.size(), static_cast<size_t>(n));
    double sum = 0;
    for (size_t i = 0; i < end; ++i) sum += s.value[i];
    return end ? sum / static_cast<double>(end) : NAN;
}

double largest(const LabSeries& s) {
    double top = -INFINITY;
    for (const double v : s.value) {
        if (std::isnan(v)) return NAN;
        top = std::max(top, v);
    }
    return s.value.empty() ? NAN : top;
}

double at_step(const LabSeries& s, double step) {
    double v = NAN;
    for (size_t i = 0; i < s.step.size() && s.step[i] <= step; ++i) v = s.value[i];
    return v;
}

Results::Results(const std::vector<Arm>& arms, const std::vector<LabRun>& runs) {
    for (const Arm& a : arms) order_.push_back(a.label);
    for (const LabRun& r : runs) {
        if (std::find(order_.begin(), order_.end(), r.arm) == order_.end()) continue;
        if (r.state == RunState::finished)
            runs_[r.arm][r.seed] = &r;
        else if (r.state == RunState::failed)
            errors_[r.arm] = r.error;
    }
}

std::vector<double> Results::values(const std::string& arm, const std::string& metric, const Reduce& reduce) const {
    VITRINE_ASSERT(std::find(order_.begin(), order_.end(), arm) != order_.end());
    std::vector<double> out;
    const auto found = runs_.find(arm);
    if (found == runs_.end()) return out;
    for (const auto& [seed, run] : found->second) {
        const auto series = run->scalars.find(metric);
        out.push_back(series == run->scalars.end() ? NAN : reduce(series->second));
    }
    return out;
}

std::vector<double> Results::values_if_measured(const std::string& arm, const std::string& metric,
                                                const Reduce& reduce) const {
    const auto n_points = [](const LabSeries& s) { return static_cast<double>(s.value.size()); };
    const std::vector<double> counts = values(arm, metric, n_points);  // NaN: no such metric
    const bool is_measured = std::any_of(counts.begin(), counts.end(), [](double n) { return n > 0; });
    return is_measured ? values(arm, metric, reduce) : std::vector<double>{};
}

bool Results::has(const std::string& arm) const {
    return runs_.count(arm) > 0;
}

int Results::n_seeds() const {
    size_t n = SIZE_MAX;
    for (const std::string& arm : order_) n = std::min(n, has(arm) ? runs_.at(arm).size() : 0);
    return order_.empty() ? 0 : static_cast<int>(n);
}

std::string Results::missing() const {
    std::string text;
    for (const std::string& arm : order_) {
        if (has(arm)) continue;
        const auto error = errors_.find(arm);
        text += (text.empty() ? "" : ", ") + arm +
                (error == errors_.end() ? "" : " (failed: " + escaped(error->second) + ")");
    }
    return text.empty() ? "" : "No finished run of: " + text + ".";
}

std::string each(const std::vector<double>& values, int digits) {
    std::string s;
    for (const double v : values) s += (s.empty() ? "" : " / ") + significant(v, digits);
    return s;
}

std::string each_fixed(const std::vector<double>& values, int digits) {
    std::string s;
    for (const double v : values) s += (s.empty() ? "" : " / ") + fixed(v, digits);
    return s;
}

double mean(const std::vector<double>& values) {
    double sum = 0;
    for (const double v : values) sum += v;
    return values.empty() ? NAN : sum / static_cast<double>(values.size());
}

int count_pairs(const std::vector<double>& a, const std::vector<double>& b,
                const std::function<bool(double, double)>& holds) {
    int n = 0;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) n += holds(a[i], b[i]);
    return n;
}

std::string of_seeds(int n, int of) {
    return std::to_string(n) + " of " + std::to_string(of) + (of == 1 ? " seed" : " seeds");
}

std::string of_runs(int n, int of) {
    return std::to_string(n) + " of " + std::to_string(of) + (of == 1 ? " run" : " runs");
}

// PyTorch's defaults at width 64: linear layers uniform in +-1 / sqrt(d), whose deviation is 1 / sqrt(3 d); embedding 1.
constexpr double kLinearDeviation = 0.0722, kEmbeddingFactor = 13.85;

ModelConfig micro_model(const MicroShape& s) {
    ModelConfig c;
    c.vocab_size = 48, c.hidden_size = 64;
    c.n_heads = 4, c.head_dim = 16, c.rope_dim = 8, c.q_lora_rank = 64, c.o_groups = 1, c.o_lora_rank = 64;
    c.sliding_window = 64;
    c.index_n_heads = 1, c.index_head_dim = 16, c.index_topk = 1;  // of no layer here; a checkpoint's config is checked
    c.n_experts = s.n_experts, c.n_shared_experts = 1, c.n_experts_per_tok = s.top_k, c.expert_width = s.width;
    c.hc_mult = s.residual == ResidualKind::plain ? 1 : 4, c.hc_sinkhorn_iters = 20;
    c.hc_eps = 1e-6, c.rms_norm_eps = 1e-6, c.routed_scaling_factor = 1, c.swiglu_limit = 10;
    c.rope_theta = 1e4, c.compress_rope_theta = 1.6e5;
    c.max_position = 4096;
    c.bos_id = 36, c.eos_id = 37;
    c.layers.assign(static_cast<size_t>(s.layers), {});
    c.variants.residual = s.residual;
    return c;
}

TrainConfig micro_training(int64_t steps, double lr) {
    TrainConfig t;
    t.data = "mix3", t.batch = 16, t.sequence_length = 64;
    t.steps = steps, t.lr = lr;
    t.init_std = kLinearDeviation, t.init_embedding = kEmbeddingFactor;
    t.balance = BalanceKind::none;
    t.checkpoint_every = 50;  // to rewind to
    return t;
}

std::vector<LabKnob> start_knobs() {
    return {number_knob("init_std", "Initial deviation", shortest(kLinearDeviation), 0.001, 1,
                        "of matrices; 1 / sqrt(3 d) as PyTorch's linear layers; V4's 0.02 is for widths of thousands", true),
            number_knob("init_embedding", "Embedding's deviation", shortest(kEmbeddingFactor), 0.001, 1000,
                        "times that of matrices: 1 in all, as PyTorch's embedding", true)};
}
void set_start(const Knobs& knobs, TrainConfig& t) {
    t.init_std = knobs.number("init_std"), t.init_embedding = knobs.number("init_embedding");
}
LabKnob size_knob(const std::string& what_full_adds) {
    return choice_knob("size", "Size", {"quick", "full"}, "full: " + what_full_adds);
}
bool is_full(const Knobs& knobs) {
    return knobs.text("size") == "full";
}

}  // namespace vitrine::lab
