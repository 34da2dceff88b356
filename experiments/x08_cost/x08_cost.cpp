// X08: what a token at a million costs, against V3.2 and GQA-8; a calculator, and the engine's own counters beside it.
#include <algorithm>
#include <cmath>
#include <memory>

#include "engine/base/error.h"
#include "engine/model/config.h"
#include "experiments/experiment.h"
#include "experiments/x08_cost/cost_model.h"
#include "experiments/x08_cost/measured.h"

namespace vitrine::lab {
namespace {

struct Model {
    std::string name;
    ModelConfig config;
};

// What the report's Figure 1 says, at 1,048,576 tokens and relative to V3.2.
struct Claim {
    const char* model;
    double flops, cache, flops_times, cache_times;
};
constexpr Claim kClaims[] = {{"Pro", 0.27, 0.10, 3.7, 9.5}, {"Flash", 0.10, 0.07, 9.8, 13.7}};

LabInfo describe() {
    LabInfo i;
    i.name = "X08";
    i.title = "Cost at a million tokens";
    i.question = "What does a token at 1M cost in operations and cache, against DeepSeek-V3.2 and GQA-8?";
    i.claim =
        "V4-Pro needs 27 % of V3.2's operations per token and 10 % of its cache at 1M tokens, V4-Flash 10 % and 7 %; "
        "about 2 % of the cache of GQA-8 (V4 report, Figure 1).";
    i.literature =
        "True under stated assumptions: BF16 counts two FP8 operations, FP4 half a one; FP4 index keys, 584-byte "
        "entries. V3.2's cost at 1M is nearly all lightning indexer, so this is a gain over that, not over dense "
        "attention.";
    i.badge = LabBadge::analytic;
    i.knobs = {
        choice_knob("model", "Model", {"Pro and Flash", "Pro", "Flash", "folder"}, "whose configuration is calculated"),
        text_knob("folder", "Folder", "", "of a config.json, with model = folder", "none"),
        number_knob("context", "Context [tokens]", "1048576", 128, 16777216, "tokens that the new one sees", true),
        number_knob("core_weight", "Attention, BF16", "2", 0.25, 8, "FP8 operations that one of attention counts"),
        number_knob("index_weight", "Indexer, FP4", "0.5", 0.25, 8, "the same, of V4's index scores"),
        number_knob("fp32_weight", "FP32 parts", "4", 0.25, 8, "the same, of compressors, router and mHC"),
        number_knob("head_weight", "Head, BF16", "2", 0.25, 8, "the same, of the output head"),
        choice_knob("index_keys", "Index keys", {"FP4", "FP8"}, "68 or 132 bytes each"),
        text_knob("measure", "Measure", "", "folder of a checkpoint that is run and counted; empty: no run", "no run"),
        number_knob("measure_to", "Measure to [tokens]", "16384", 1024, 1048576, "the longest context of the run",
                    true)};
    i.plots = {{"Operations per token", "context [tokens]", "FP8-equivalent GFLOP", {}, true, true},
               {"Cache", "context [tokens]", "GB", {}, true, true}};
    i.expected_time = "under a second; with a run to 16K, half a minute";
    return i;
}

std::vector<Model> models_of(const Knobs& knobs) {
    const std::string& which = knobs.text("model");
    if (which == "folder") return {{"this model", read_config(knobs.text("folder")).config}};
    std::vector<Model> models;
    if (which != "Flash") models.push_back({"Pro", pro_config()});
    if (which != "Pro") models.push_back({"Flash", flash_config()});
    return models;
}

struct Calculator {
    std::vector<Model> models;
    CostWeights weights;
    bool fp8_keys;
    int64_t n;
    bool has_preset_weights;  // and keys: what the report's shares are held against
    double flops(const Model& m, int64_t at) const { return equivalent(v4_cost(m.config, at), weights); }
    double v32_flops(int64_t at) const {
        CostWeights w = weights;
        w.index = 1;  // its indexer is FP8
        return equivalent(v32_cost(at), w);
    }
    double cache(const Model& m, int64_t at) const { return v4_cache(m.config, at, fp8_keys); }
};

const Claim* claim_for(const Calculator& c, const Model& m) {
    if (c.n != 1 << 20 || !c.has_preset_weights) return nullptr;
    for (const Claim& claim : kClaims)
        if (m.name == claim.model) return &claim;
    return nullptr;
}

LabTable cache_table(const Calculator& c) {
    LabTable t{"Cache of one sequence at " + std::to_string(c.n) + " tokens",
               {"model", "V4 [GB]", "V3.2 [GB]", "share", "report", "GQA-8, same layers [GB]", "share", "report"},
               {}};
    for (const Model& m : c.models) {
        const double v4 = c.cache(m, c.n), v32 = v32_cache(c.n), gqa = gqa8_cache(m.config.n_layers(), c.n);
        const Claim* claim = claim_for(c, m);
        t.rows.push_back({m.name, significant(v4 / 1e9, 4), significant(v32 / 1e9, 4), percent(v4 / v32, 2),
                          claim ? percent(claim->cache, 0) : "", significant(gqa / 1e9, 4), percent(v4 / gqa, 1),
                          claim ? "2 %" : ""});
    }
    return t;
}

LabTable operations_table(const Calculator& c) {
    LabTable t{"Operations of one token at " + std::to_string(c.n) + " [GFLOP]", {"part", "V3.2"}, {}};
    for (const Model& m : c.models) t.columns.push_back(m.name);
    std::vector<TokenCost> costs = {v32_cost(c.n)};
    for (const Model& m : c.models) costs.push_back(v4_cost(m.config, c.n));
    const auto row = [&](const char* name, auto&& value) {
        t.rows.push_back({name});
        for (const TokenCost& cost : costs) t.rows.back().push_back(significant(value(cost) / 1e9, 4));
    };
    row("linear", [](const TokenCost& x) { return x.linear; });
    row("FP32 parts", [](const TokenCost& x) { return x.fp32; });
    row("output head", [](const TokenCost& x) { return x.head; });
    row("attention", [](const TokenCost& x) { return x.core; });
    row("index scores", [](const TokenCost& x) { return x.index; });
    row("sum", [](const TokenCost& x) { return x.raw(); });
    std::vector<std::string> weighted = {"FP8-equivalent", significant(c.v32_flops(c.n) / 1e9, 4)},
                             share = {"share of V3.2", ""}, claimed = {"report", ""};
    for (const Model& m : c.models) {
        weighted.push_back(significant(c.flops(m, c.n) / 1e9, 4));
        share.push_back(percent(c.flops(m, c.n) / c.v32_flops(c.n)));
        claimed.push_back(claim_for(c, m) ? percent(claim_for(c, m)->flops, 0) : "");
    }
    t.rows.insert(t.rows.end(), {weighted, share, claimed});
    return t;
}

LabTable weights_table(const Calculator& c) {  // which assumption the share hangs on
    LabTable t{"Share of V3.2's operations by what an operation counts", {"attention", "index"}, {}};
    for (const Model& m : c.models) t.columns.push_back(m.name);
    for (const auto& [core, index] : {std::pair{1.0, 1.0}, {2.0, 1.0}, {1.0, 0.5}, {2.0, 0.5}}) {
        Calculator other = c;
        other.weights = {core, core, core == 1 ? 1.0 : c.weights.fp32, index};
        t.rows.push_back({fixed(core, 0), fixed(index, 1)});
        for (const Model& m : c.models) t.rows.back().push_back(percent(other.flops(m, c.n) / other.v32_flops(c.n)));
    }
    return t;
}

std::vector<int64_t> contexts() {
    std::vector<int64_t> all;
    for (int64_t n = 1024; n <= int64_t{4} << 20; n *= 2) all.push_back(n);
    return all;
}

LabTable context_table(const Calculator& c) {
    LabTable t{"Share of V3.2 by context", {"tokens"}, {}};
    for (const Model& m : c.models) t.columns.insert(t.columns.end(), {m.name + " operations", m.name + " cache"});
    for (const int64_t n : {4096, 32768, 131072, 393216, 1048576}) {
        t.rows.push_back({std::to_string(n)});
        for (const Model& m : c.models) {
            t.rows.back().push_back(percent(c.flops(m, n) / c.v32_flops(n)));
            t.rows.back().push_back(percent(c.cache(m, n) / v32_cache(n)));
        }
    }
    return t;
}

// "Ten times the tokens, a hundred times the work": true of what part, for whom?
LabTable tenfold_table(const Calculator& c) {
    LabTable t{
        "From a tenth of the context to all of it: how much more work", {"model", "one token", "all tokens"}, {}};
    const auto v4 = [&](const ModelConfig* m, int64_t n) { return equivalent(v4_cost(*m, n), c.weights); };
    const auto v32 = [&](const ModelConfig*, int64_t n) { return c.v32_flops(n); };
    using Token = std::function<double(const ModelConfig*, int64_t)>;
    const auto row = [&](const std::string& name, const Token& token, const ModelConfig* m) {
        t.rows.push_back({name, fixed(token(m, c.n) / token(m, c.n / 10), 1) + " times",
                          fixed(prefill_total(token, m, c.n) / prefill_total(token, m, c.n / 10), 1) + " times"});
    };
    row("V3.2", v32, nullptr);
    for (const Model& m : c.models) row(m.name, v4, &m.config);
    return t;
}

std::vector<LabChart> charts(const Calculator& c) {
    LabChart work{"Operations per token", "context [tokens]", "FP8-equivalent GFLOP", true, true, {}};
    LabChart bytes{"Cache", "context [tokens]", "GB", true, true, {}};
    const auto curve = [&](LabChart& chart, const std::string& label, auto&& value) {
        chart.curves.push_back({label, {}, {}});
        for (const int64_t n : contexts())
            chart.curves.back().x.push_back(double(n)), chart.curves.back().y.push_back(value(n) / 1e9);
    };
    curve(work, "V3.2", [&](int64_t n) { return c.v32_flops(n); });
    curve(bytes, "V3.2", [](int64_t n) { return v32_cache(n); });
    for (const Model& m : c.models) {
        curve(work, m.name, [&](int64_t n) { return c.flops(m, n); });
        curve(bytes, m.name, [&](int64_t n) { return c.cache(m, n); });
        curve(bytes, "GQA-8, layers of " + m.name, [&](int64_t n) { return gqa8_cache(m.config.n_layers(), n); });
    }
    return {work, bytes};
}

// The engine beside its formulas; false when they differ.
bool add_measured(const Knobs& knobs, LabVerdict& v) {
    std::vector<int64_t> lengths;
    for (int64_t n = 1024; n <= knobs.integer("measure_to"); n *= 2) lengths.push_back(n);
    LabTable t{"This engine, decoding one token of " + knobs.text("measure") + " at each context (packed cache)",
               {"tokens", "cache, allocated", "its formula", "entries, allocated", "accounting, whole blocks",
                "MFLOP counted", "calculated", "difference", "ms"},
               {}};
    bool agrees = true;
    for (const Measured& m : measure_engine(knobs.text("measure"), lengths)) {
        uint64_t expected = 0;
        for (const auto& layer : m.cache.layers)
            for (const uint64_t bytes : layer.expected) expected += bytes;
        const double difference = m.counted / m.formula - 1;
        agrees &= m.cache.is_consistent() && m.entry_bytes == m.entry_bytes_formula && std::abs(difference) <= 0.02;
        t.rows.push_back({std::to_string(m.n_tokens), std::to_string(m.cache.total()), std::to_string(expected),
                          fixed(m.entry_bytes, 0), fixed(m.entry_bytes_formula, 0), fixed(m.counted / 1e6, 2),
                          fixed(m.formula / 1e6, 2), percent(difference, 2), fixed(m.ms, 2)});
    }
    v.tables.push_back(t);
    return agrees;
}

// The other knobs say what is asked for, these what is assumed.
std::string changed_assumptions(const Knobs& knobs) {
    return knobs.changed({"model", "folder", "context", "measure", "measure_to"});
}

LabVerdict analyse(const Knobs& knobs) {
    const Calculator c{models_of(knobs),
                       {knobs.number("core_weight"), knobs.number("head_weight"), knobs.number("fp32_weight"),
                        knobs.number("index_weight")},
                       knobs.text("index_keys") == "FP8",
                       knobs.integer("context"),
                       changed_assumptions(knobs).empty()};
    LabVerdict v;
    v.tables = {cache_table(c), operations_table(c), weights_table(c), context_table(c), tenfold_table(c)};
    v.charts = charts(c);
    int n_claims = 0, n_met = 0;
    for (const Model& m : c.models)
        if (const Claim* claim = claim_for(c, m)) {
            n_claims += 2;
            n_met += std::abs(c.flops(m, c.n) / c.v32_flops(c.n) - claim->flops) < 0.005;
            n_met += std::abs(c.cache(m, c.n) / v32_cache(c.n) - claim->cache) < 0.005;
        }
    using Outcome = LabVerdict::Outcome;
    if (!c.has_preset_weights) {
        v.sentence = "Calculated with changed knobs (" + changed_assumptions(knobs) +
                     "); the report's shares stand for the preset only.";
    } else if (n_claims == 0) {
        v.sentence = "Calculated; the report says nothing about this configuration at this context.";
    } else {
        v.outcome = n_met == n_claims ? Outcome::holds : n_met ? Outcome::mixed : Outcome::does_not_hold;
        v.sentence =
            std::to_string(n_met) + " of " + std::to_string(n_claims) +
            " shares agree with the report to the whole percent it prints. The weights are a reconstruction, not the "
            "report's statement, and the gain needs a long context: see the shares at 4,096.";
    }
    if (knobs.text("measure").empty()) return v;
    const bool agrees = add_measured(knobs, v);
    if (!agrees) v.outcome = Outcome::does_not_hold;
    v.sentence +=
        agrees
            ? " The engine's own bytes equal its formulas exactly, its counted operations the calculation within 2 %."
            : " The engine's own counters do NOT agree with the formulas: see the last table.";
    return v;
}

}  // namespace

Experiment x08_cost() {
    return {describe(), "x08_cost", analyse};
}

}  // namespace vitrine::lab
