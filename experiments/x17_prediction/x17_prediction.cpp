// X17: guessing a token's experts before the router has chosen them, and when that saves time.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include "engine/base/error.h"
#include "engine/engine.h"
#include "engine/model/weights.h"
#include "engine/ops/router/choice.h"
#include "engine/ops/router/router.h"
#include "experiments/experiment.h"
#include "experiments/forced_text.h"
#include "experiments/x17_prediction/predictors.h"

namespace vitrine::lab {
namespace {

constexpr int kLongestText = 600;  // [tokens]
constexpr int kPredictors = static_cast<int>(Predictor::count);
constexpr int64_t kTimed = 64;  // decoded tokens whose time is taken

LabInfo describe() {
    LabInfo i;
    i.name = "X17";
    i.title = "Predicting experts";
    i.question = "How well can a token's experts be guessed before its router runs, and when does a guess save time?";
    i.claim =
        "An 'expert affinity' matrix predicts which experts are needed without a full pass and cuts latency by 30 % "
        "(press, 2026; not in the V4 report).";
    i.literature =
        "Guessing pays where experts are streamed from slow memory: pre-gated MoE (arXiv 2308.12066), Fate (arXiv "
        "2502.12224), pre-attention predictors at 93 to 98 % (arXiv 2511.10676); 14 % per token in one measurement "
        "(arXiv 2603.19289), nothing where the experts are in memory.";
    i.badge = LabBadge::measured;
    i.knobs = {model_knob(),
               number_knob("texts", "Texts of each domain", "60", 2, 2000,
                           "held-out samples: every other one fits the predictors, the rest judge them", true),
               number_knob("seed", "Seed", "2026", 0, 1e9, "of the texts"),
               number_knob("compute", "Computing one layer [ms]", "0", 0, 1000,
                           "for the streaming model; 0: as measured here, decoding")};
    i.plots = {{"Recall by layer", "layer", "experts guessed [%]", {}, false, false},
               {"Time per token", "bandwidth [GB/s]", "ms", {}, true, true}};
    i.expected_time = "half a minute";
    return i;
}

class RoutingSink : public ProbeSink {
  public:
    RoutingSink(RoutedText& text, const ModelConfig& c) : text_(text), k_(c.n_experts_per_tok), d_(c.hidden_size) {
        const size_t n = text.ids.size(), layers = c.layers.size();
        text_.experts.assign(layers, std::vector<int32_t>(n * static_cast<size_t>(k_), -1));
        text_.inputs.assign(layers, std::vector<float>(n * static_cast<size_t>(d_)));
    }
    void put(int token, Probe p, int layer, const float* data, int, int cols) override {
        if (p != kMlpHcOut) return;
        VITRINE_ASSERT(cols == d_);
        std::copy_n(data, cols, text_.inputs[static_cast<size_t>(layer)].begin() + int64_t{token} * d_);
    }
    void put(int token, Probe p, int layer, const int32_t* data, int, int cols) override {
        if (p != kRouterIndices) return;
        VITRINE_ASSERT(cols == k_);
        std::copy_n(data, cols, text_.experts[static_cast<size_t>(layer)].begin() + int64_t{token} * k_);
    }

  private:
    RoutedText& text_;
    int k_, d_;
};

// Weights of the routers, for guesses by the next one.
class Routers {
  public:
    Routers(const ModelConfig& c, const ModelWeights& w) : c_(c), w_(w) {
        for (const BlockWeights& b : w.blocks) {
            const auto d = static_cast<size_t>(c.hidden_size), e = static_cast<size_t>(c.n_experts);
            std::vector<float> norm(d), gate(e * d), bias(e, 0);
            b.ffn_norm.widen_row(0, norm.data());
            for (size_t i = 0; i < e; ++i) b.ffn.gate.widen_row(static_cast<int64_t>(i), gate.data() + i * d);
            if (!b.ffn.bias.empty()) b.ffn.bias.widen_row(0, bias.data());
            norms_.push_back(norm), gates_.push_back(gate), biases_.push_back(bias);
        }
    }
    // Norm, gate, affinity and choice as in engine/ops/router (v4-spec 5.1).
    std::vector<int32_t> choose(int layer, std::span<const float> input) const {
        const auto l = static_cast<size_t>(layer);
        const size_t d = input.size(), e = biases_[l].size();
        double squares = 0;
        for (const float x : input) squares += static_cast<double>(x) * x;
        const double scale = 1 / std::sqrt(squares / static_cast<double>(d) + c_.rms_norm_eps);
        std::vector<float> affinity(e), scratch(e);
        for (size_t i = 0; i < e; ++i) {
            double z = 0;
            for (size_t j = 0; j < d; ++j) z += input[j] * scale * norms_[l][j] * gates_[l][i * d + j];
            affinity[i] = sqrt_softplus(static_cast<float>(z));
        }
        std::vector<int32_t> chosen(static_cast<size_t>(c_.n_experts_per_tok), -1);
        choice_of(c_.variants.router)({affinity.data(), biases_[l].data(), c_.n_experts, c_.n_experts_per_tok,
                                       c_.variants.router_top_p, scratch.data()},
                                      chosen.data());
        return chosen;
    }
    // What a hash-routed layer's table says.
    std::vector<int32_t> table(int layer, int32_t id) const {
        const cpu::PackedMatrix& t = w_.blocks[static_cast<size_t>(layer)].ffn.tid2eid.view;
        std::vector<int32_t> row;
        for (int64_t j = int64_t{id} * t.in; j < (int64_t{id} + 1) * t.in; ++j)
            row.push_back(t.dtype == DType::i64 ? static_cast<int32_t>(static_cast<const int64_t*>(t.data)[j])
                                                : static_cast<const int32_t*>(t.data)[j]);
        return row;
    }
    double expert_bytes() const {
        const ExpertWeights& x = w_.blocks.back().ffn.experts.at(0);
        return static_cast<double>(x.w1.bytes() + x.w2.bytes() + x.w3.bytes());
    }

  private:
    const ModelConfig& c_;
    const ModelWeights& w_;
    std::vector<std::vector<float>> norms_, gates_, biases_;
};

struct Measured {
    std::vector<std::vector<ExpertPredictors::Recall>> recall;  // [predictor][layer]
    bool hash_is_exact = true;
    int64_t n_fitted = 0, n_judged = 0;
    double layer_seconds = 0, expert_bytes = 0;
    double mean(Predictor p, const ModelConfig& c) const {  // over layers routed by score
        double sum = 0;
        int n = 0;
        for (size_t l = 1; l < c.layers.size(); ++l)
            if (!c.layers[l].is_hash_routed) sum += recall[static_cast<size_t>(p)][l].mean(), ++n;
        return n ? sum / n : 0;
    }
    // For the streaming model: hash-routed layers are known from the token.
    std::vector<double> by_layer(Predictor p, const ModelConfig& c) const {
        std::vector<double> r;
        for (size_t l = 0; l < c.layers.size(); ++l)
            r.push_back(c.layers[l].is_hash_routed ? 1 : recall[static_cast<size_t>(p)][l].mean());
        return r;
    }
};

// Seconds of one layer while decoding: the median token, over all layers.
double layer_seconds(Engine& engine, const ForcedText& text, std::stop_token stop) {
    const auto session = engine.new_session();
    std::vector<double> times;
    for (size_t i = 0; i < text.ids.size() && i < static_cast<size_t>(kTimed); ++i) {
        const auto start = std::chrono::steady_clock::now();
        session->append({&text.ids[i], 1}, stop);
        times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::nth_element(times.begin(), times.begin() + static_cast<int64_t>(times.size() / 2), times.end());
    return times[times.size() / 2] / engine.config().n_layers();
}

Measured measure_all(Engine& engine, const std::string& folder, const Knobs& knobs, const Bench& bench) {
    const ModelConfig& c = engine.config();
    const ModelWeights weights = load_weights(folder, c, bench.stop);
    const Routers routers(c, weights);
    const auto texts = held_out_texts(engine, static_cast<int>(knobs.integer("texts")), kLongestText,
                                      static_cast<uint64_t>(knobs.integer("seed")));
    ExpertPredictors predictors({c.n_layers(), c.n_experts, c.n_experts_per_tok, c.hidden_size, c.vocab_size},
                                [&](int layer, std::span<const float> x) { return routers.choose(layer, x); });
    Measured m;
    m.recall.assign(kPredictors, std::vector<ExpertPredictors::Recall>(c.layers.size()));
    const auto each = [&](size_t first, const char* what, auto&& use) {
        for (size_t i = first; i < texts.size(); i += 2) {
            bench.tell(std::string(what) + ": text " + std::to_string(i + 1) + " of " + std::to_string(texts.size()));
            RoutedText text{texts[i].ids, {}, {}};
            RoutingSink sink(text, c);
            read_text(engine, texts[i], bench.stop, &sink, probe_bit(kRouterIndices) | probe_bit(kMlpHcOut));
            use(text);
        }
    };
    each(0, "fitting",
         [&](const RoutedText& t) { predictors.fit(t), m.n_fitted += static_cast<int64_t>(t.ids.size()); });
    predictors.finish();
    each(1, "judging", [&](const RoutedText& t) {
        m.n_judged += static_cast<int64_t>(t.ids.size()) - 1;
        for (int l = 0; l < c.n_layers(); ++l) {
            for (int p = 0; p < kPredictors; ++p)
                if (l > 0 || !looks_below(static_cast<Predictor>(p)))
                    predictors.judge(static_cast<Predictor>(p), t, l,
                                     m.recall[static_cast<size_t>(p)][static_cast<size_t>(l)]);
            if (!c.layers[static_cast<size_t>(l)].is_hash_routed) continue;
            for (size_t i = 0; i < t.ids.size(); ++i) {
                const std::vector<int32_t> row = routers.table(l, t.ids[i]);
                m.hash_is_exact &=
                    std::equal(row.begin(), row.end(),
                               t.experts[static_cast<size_t>(l)].begin() + static_cast<int64_t>(i * row.size()));
            }
        }
    });
    m.layer_seconds =
        knobs.number("compute") > 0 ? knobs.number("compute") / 1000 : layer_seconds(engine, texts.at(0), bench.stop);
    m.expert_bytes = routers.expert_bytes();
    return m;
}

struct Times {
    double resident, on_demand, guessed;
    double saved() const { return 1 - guessed / on_demand; }
};
Times times_at(const Measured& m, const ModelConfig& c, Predictor p, double bytes_per_second) {
    const double load = bytes_per_second > 0 ? c.n_experts_per_tok * m.expert_bytes / bytes_per_second : 0;
    return {c.n_layers() * m.layer_seconds, seconds_on_demand(c.n_layers(), m.layer_seconds, load),
            seconds_with_guesses(m.by_layer(p, c), m.layer_seconds, load)};
}

std::vector<double> bandwidths() {  // [B/s]
    std::vector<double> all;
    for (double b = 1e7; b < 2e12; b *= std::sqrt(std::sqrt(10.0))) all.push_back(b);
    return all;
}

LabTable recall_table(const Measured& m, const ModelConfig& c) {
    LabTable t{"Share of a token's " + std::to_string(c.n_experts_per_tok) + " experts that were guessed [%], " +
                   std::to_string(m.n_judged) + " tokens; chance " +
                   fixed(100.0 * c.n_experts_per_tok / c.n_experts, 1),
               {"layer", "routed by"},
               {}};
    for (int p = 0; p < kPredictors; ++p) t.columns.emplace_back(predictor_name(static_cast<Predictor>(p)));
    for (size_t l = 0; l < c.layers.size(); ++l) {
        t.rows.push_back({std::to_string(l), c.layers[l].is_hash_routed ? "its table: known" : "score"});
        for (int p = 0; p < kPredictors; ++p)
            t.rows.back().push_back(l == 0 && looks_below(static_cast<Predictor>(p))
                                        ? ""
                                        : fixed(100 * m.recall[static_cast<size_t>(p)][l].mean(), 1));
    }
    t.rows.push_back({"mean", "score"});
    for (int p = 0; p < kPredictors; ++p) t.rows.back().push_back(fixed(100 * m.mean(static_cast<Predictor>(p), c), 1));
    return t;
}

LabTable time_table(const Measured& m, const ModelConfig& c, Predictor best) {
    LabTable t{"Time per token by where the experts lie (a model: " + fixed(m.layer_seconds * 1e6, 0) +
                   " us to compute a layer, " + fixed(m.expert_bytes / 1000, 1) + " kB an expert, nothing cached)",
               {"experts in", "GB/s", "on demand [ms]", "affinity matrix [ms]", "saved",
                std::string(predictor_name(best)) + " [ms]", "saved"},
               {}};
    const struct {
        const char* where;
        double bandwidth;
    } kPlaces[] = {
        {"network", 1e8}, {"SATA disk", 5e8}, {"NVMe disk", 6e9}, {"host memory, for a GPU", 5e10}, {"memory", 0}};
    for (const auto& place : kPlaces) {
        const Times a = times_at(m, c, Predictor::affinity, place.bandwidth), b = times_at(m, c, best, place.bandwidth);
        t.rows.push_back({place.where, place.bandwidth > 0 ? significant(place.bandwidth / 1e9, 3) : "resident",
                          fixed(a.on_demand * 1e3, 3), fixed(a.guessed * 1e3, 3), percent(a.saved()),
                          fixed(b.guessed * 1e3, 3), percent(b.saved())});
    }
    return t;
}

std::vector<LabChart> charts(const Measured& m, const ModelConfig& c, Predictor best) {
    LabChart recall{"Recall by layer", "layer", "experts guessed [%]", false, false, {}};
    for (int p = 0; p < kPredictors; ++p) {
        recall.curves.push_back({predictor_name(static_cast<Predictor>(p)), {}, {}});
        for (size_t l = looks_below(static_cast<Predictor>(p)); l < c.layers.size(); ++l)
            recall.curves.back().x.push_back(static_cast<double>(l)),
                recall.curves.back().y.push_back(100 * m.recall[static_cast<size_t>(p)][l].mean());
    }
    LabChart time{"Time per token", "bandwidth [GB/s]", "ms", true, true, {}};
    const auto curve = [&](const std::string& label, auto&& seconds) {
        time.curves.push_back({label, {}, {}});
        for (const double b : bandwidths())
            time.curves.back().x.push_back(b / 1e9), time.curves.back().y.push_back(1e3 * seconds(b));
    };
    curve("resident", [&](double b) { return times_at(m, c, best, b).resident; });
    curve("on demand", [&](double b) { return times_at(m, c, best, b).on_demand; });
    curve("affinity matrix", [&](double b) { return times_at(m, c, Predictor::affinity, b).guessed; });
    curve(predictor_name(best), [&](double b) { return times_at(m, c, best, b).guessed; });
    return {recall, time};
}

void judge(LabVerdict& v, const Measured& m, const ModelConfig& c, Predictor best) {
    bool beats = true;
    for (size_t l = 1; l < c.layers.size(); ++l)
        if (!c.layers[l].is_hash_routed)
            beats &= m.recall[static_cast<size_t>(Predictor::affinity)][l].mean() >
                     m.recall[static_cast<size_t>(Predictor::popularity)][l].mean();
    // Below this bandwidth the line is full of guesses, above it there is little left to hide.
    const double at = c.n_experts_per_tok * m.expert_bytes / m.layer_seconds;
    const double most = times_at(m, c, Predictor::affinity, at).saved();
    const double resident = times_at(m, c, Predictor::affinity, 0).saved();
    LabTable t{"Criteria", {"criterion", "measured", ""}, {}};
    const auto row = [&](const char* what, const std::string& measured, bool holds) {
        t.rows.push_back({what, measured, holds ? "pass" : "fail"});
    };
    row("hash-routed layers are known from the token alone", m.hash_is_exact ? "every token" : "NOT every token",
        m.hash_is_exact);
    row("the affinity matrix beats popularity in every layer routed by score",
        fixed(100 * m.mean(Predictor::affinity, c), 1) + " against " +
            fixed(100 * m.mean(Predictor::popularity, c), 1) + " % on average",
        beats);
    row("at the best bandwidth it saves 30 % of the time", percent(most) + " at " + significant(at / 1e9, 2) + " GB/s",
        most >= 0.3);
    // Nothing to load, nothing to save: no outcome of the measurement could change it, so it isn't judged.
    t.rows.push_back(
        {"identity: experts in memory are not loaded, so guesses save nothing", percent(resident), "by construction"});
    v.tables.insert(v.tables.begin(), t);
    using Outcome = LabVerdict::Outcome;
    v.outcome = !m.hash_is_exact || (!beats && most < 0.3) ? Outcome::does_not_hold
                : beats && most >= 0.3                     ? Outcome::holds
                                                           : Outcome::mixed;
    v.sentence = "The affinity matrix names " + fixed(100 * m.mean(Predictor::affinity, c), 1) +
                 " % of the experts of layers routed by score (popularity " +
                 fixed(100 * m.mean(Predictor::popularity, c), 1) + " %, " + predictor_name(best) + " " +
                 fixed(100 * m.mean(best, c), 1) + " %). With experts streamed it saves at most " + percent(most) +
                 " of a token's time, at the one bandwidth where loading takes as long as computing; with experts in "
                 "memory, as here, it saves nothing.";
}

LabVerdict measure(const Knobs& knobs, const Bench& bench) {
    const std::string folder = model_folder(knobs, bench);
    const auto engine = Engine::load(folder, {}, bench.stop);
    const ModelConfig& c = engine->config();
    const Measured m = measure_all(*engine, folder, knobs, bench);
    Predictor best = Predictor::next_router;
    for (int p = 0; p < kPredictors; ++p)
        if (m.mean(static_cast<Predictor>(p), c) > m.mean(best, c)) best = static_cast<Predictor>(p);
    LabVerdict v;
    v.tables = {recall_table(m, c), time_table(m, c, best)};
    v.charts = charts(m, c, best);
    judge(v, m, c, best);
    v.sentence += model_words(engine->info());
    return v;
}

}  // namespace

Experiment x17_prediction() {
    return {.info = describe(), .folder = "x17_prediction", .measure = measure};
}

}  // namespace vitrine::lab
