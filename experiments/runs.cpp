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

namespace {

SeedState state_of(const LabRun& r) {
    if (r.state == RunState::finished) return r.changed.empty() ? SeedState::counted : SeedState::changed;
    return r.error.find("not finite") == std::string::npos ? SeedState::failed : SeedState::diverged;
}

const char* word_of(SeedState s) {
    static constexpr const char* kWords[] = {"", "changed", "failed", "diverged", "-"};
    return kWords[static_cast<int>(s)];
}

std::string of_each(const BySeed& values, const std::function<std::string(double)>& number) {
    const bool has_run =
        std::any_of(values.of.begin(), values.of.end(), [](const auto& v) { return v.second.state != SeedState::absent; });
    std::string s;
    for (const auto& [seed, v] : values.of) {
        if (!has_run) break;
        const bool has_value = v.state == SeedState::counted || v.state == SeedState::changed;
        s += (s.empty() ? "" : " / ") + (has_value ? number(v.value) : word_of(v.state)) +
             (v.state == SeedState::changed ? " (changed)" : "");
    }
    return s;
}

// "hc 8 layers lr 0.01, seed 2, at step 57 (loss is not finite)"
std::string about(const LabRun& r) {
    const std::string why = r.state == RunState::finished ? r.changed : r.error;
    const bool has_step = r.state != RunState::finished;
    return r.arm + ", seed " + std::to_string(r.seed) + (has_step ? ", at step " + std::to_string(r.step) : "") +
           (why.empty() ? "" : " (" + escaped(why, 160) + ")");
}

// "1 run diverged and is not counted: ...". At most three by name; the table has all.
std::string sentence_about(const std::vector<const LabRun*>& runs, const std::string& what) {
    if (runs.empty()) return "";
    std::string s = " " + std::to_string(runs.size()) + (runs.size() == 1 ? " run " : " runs ");
    s += what + (runs.size() == 1 ? " and is not counted: " : " and are not counted: ");
    for (size_t i = 0; i < std::min<size_t>(3, runs.size()); ++i) s += (i ? "; " : "") + about(*runs[i]);
    return s + (runs.size() > 3 ? "; " + std::to_string(runs.size() - 3) + " more in the table." : ".");
}

}  // namespace

std::vector<double> BySeed::counted() const {
    std::vector<double> list;
    for (const auto& [seed, v] : of)
        if (v.state == SeedState::counted) list.push_back(v.value);
    return list;
}

BySeed combined(const BySeed& a, const BySeed& b, const std::function<double(double, double)>& f) {
    BySeed out;
    for (const auto& [seed, x] : a.of) {
        const auto y = b.of.find(seed);
        if (y == b.of.end()) continue;
        const SeedState state = std::max(x.state, y->second.state);
        const bool has_value = state == SeedState::counted || state == SeedState::changed;
        out.of[seed] = {state, has_value ? f(x.value, y->second.value) : NAN};
    }
    return out;
}

Results::Results(const std::vector<Arm>& arms, const std::vector<LabRun>& runs) {
    for (const Arm& a : arms) order_.push_back(a.label);
    for (const LabRun& r : runs) {
        if (std::find(order_.begin(), order_.end(), r.arm) == order_.end()) continue;
        if (r.state != RunState::finished && r.state != RunState::failed) continue;
        runs_[r.arm][r.seed] = &r, seeds_.insert(r.seed);
    }
}

BySeed Results::numbers(const std::string& arm, const std::function<double(const LabRun&)>& number) const {
    VITRINE_ASSERT(std::find(order_.begin(), order_.end(), arm) != order_.end());
    BySeed out;
    const auto found = runs_.find(arm);
    for (const int64_t seed : seeds_) {
        SeedValue& v = out.of[seed];
        if (found == runs_.end() || !found->second.contains(seed)) continue;
        const LabRun& run = *found->second.at(seed);
        v = {state_of(run), number(run)};
    }
    return out;
}

BySeed Results::values(const std::string& arm, const std::string& metric, const Reduce& reduce) const {
    return numbers(arm, [&](const LabRun& run) {
        const auto series = run.scalars.find(metric);
        return series == run.scalars.end() ? NAN : reduce(series->second);
    });
}

BySeed Results::values_if_measured(const std::string& arm, const std::string& metric, const Reduce& reduce) const {
    const auto n_points = [](const LabSeries& s) { return static_cast<double>(s.value.size()); };
    const BySeed counts = values(arm, metric, n_points);  // NaN: no such metric
    const bool is_measured = std::any_of(counts.of.begin(), counts.of.end(), [](const auto& n) { return n.second.value > 0; });
    return is_measured ? values(arm, metric, reduce) : BySeed{};
}

std::vector<const LabRun*> Results::runs_of(const std::string& arm) const {
    std::vector<const LabRun*> out;
    if (const auto found = runs_.find(arm); found != runs_.end())
        for (const auto& [seed, run] : found->second)
            if (state_of(*run) == SeedState::counted) out.push_back(run);
    return out;
}

bool Results::has(const std::string& arm) const {
    return !runs_of(arm).empty();
}

int Results::n_seeds() const {
    size_t n = SIZE_MAX;
    for (const std::string& arm : order_) n = std::min(n, runs_of(arm).size());
    return order_.empty() ? 0 : static_cast<int>(n);
}

std::string Results::missing() const {
    std::string text;
    for (const std::string& arm : order_) {
        if (has(arm)) continue;
        text += (text.empty() ? "" : ", ") + arm;
        const auto found = runs_.find(arm);
        if (found == runs_.end()) continue;
        const LabRun& r = *found->second.begin()->second;
        text += r.state == RunState::failed ? " (failed: " + escaped(r.error) + ")" : " (changed while it ran)";
    }
    return text.empty() ? "" : "No finished run of: " + text + ".";
}

int Results::n_diverged() const {
    int n = 0;
    for (const auto& [arm, runs] : runs_)
        for (const auto& [seed, run] : runs) n += state_of(*run) == SeedState::diverged;
    return n;
}

void Results::tell_uncounted(LabVerdict& v) const {
    LabTable t{"Runs that are not counted", {"arm", "seed", "what", "step", "why"}, {}};
    std::map<SeedState, std::vector<const LabRun*>> by_state;
    for (const std::string& arm : order_) {
        const auto found = runs_.find(arm);
        if (found == runs_.end()) continue;
        for (const auto& [seed, run] : found->second) {
            const SeedState state = state_of(*run);
            if (state == SeedState::counted) continue;
            by_state[state].push_back(run);
            t.rows.push_back({arm, std::to_string(seed), state == SeedState::changed ? "changed while it ran" : word_of(state),
                              std::to_string(run->step),
                              escaped(state == SeedState::changed ? run->changed : run->error, 300)});
        }
    }
    if (t.rows.empty()) return;
    v.tables.push_back(std::move(t));
    v.sentence += sentence_about(by_state[SeedState::diverged], "diverged");
    v.sentence += sentence_about(by_state[SeedState::failed], "failed");
    v.sentence += sentence_about(by_state[SeedState::changed], "changed by hand");
    const bool has_failed = !by_state[SeedState::diverged].empty() || !by_state[SeedState::failed].empty();
    if (has_failed && v.outcome == LabVerdict::Outcome::holds) v.outcome = LabVerdict::Outcome::mixed;
}

std::string each(const std::vector<double>& values, int digits) {
    std::string s;
    for (const double v : values) s += (s.empty() ? "" : " / ") + significant(v, digits);
    return s;
}
std::string each(const BySeed& values, int digits) {
    return of_each(values, [&](double v) { return significant(v, digits); });
}
std::string each_fixed(const BySeed& values, int digits) {
    return of_each(values, [&](double v) { return fixed(v, digits); });
}

double mean(const std::vector<double>& values) {
    double sum = 0;
    for (const double v : values) sum += v;
    return values.empty() ? NAN : sum / static_cast<double>(values.size());
}
double mean(const BySeed& values) {
    return mean(values.counted());
}

int count_pairs(const BySeed& a, const BySeed& b, const std::function<bool(double, double)>& holds) {
    int n = 0;
    for (const double x : combined(a, b, [&](double u, double v) { return holds(u, v) ? 1.0 : 0.0; }).counted()) n += x > 0;
    return n;
}
int n_pairs(const BySeed& a, const BySeed& b) {
    return static_cast<int>(combined(a, b, [](double, double) { return 0.0; }).size());
}

LabCurve curve_over(const std::string& label, const std::vector<std::pair<double, BySeed>>& points) {
    LabCurve c{label, {}, {}, {}, {}};
    for (const auto& [x, values] : points) {
        std::vector<double> all = values.counted();
        std::erase_if(all, [](double v) { return !std::isfinite(v); });  // not measured, or not to be drawn
        if (all.empty()) continue;
        c.x.push_back(x), c.y.push_back(mean(all));
        c.lowest.push_back(*std::min_element(all.begin(), all.end()));
        c.highest.push_back(*std::max_element(all.begin(), all.end()));
    }
    return c;
}

std::string of_seeds(int n, int of) {
    return std::to_string(n) + " of " + std::to_string(of) + (of == 1 ? " seed" : " seeds");
}

std::string of_runs(int n, int of) {
    return std::to_string(n) + " of " + std::to_string(of) + (of == 1 ? " run" : " runs");
}

std::string within_calibration(int n, int of, const std::string& what) {
    if (of == 0) return "";
    return " " + std::to_string(n) + " of " + std::to_string(of) + " " + what + " lie within a factor of 3 of the calibration.";
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
