// X03: attention logits bare, with the norms of queries and keys, with QK-clip and with a soft cap, over learning rates
// and two optimizers.
#include <algorithm>
#include <cmath>
#include <functional>

#include "experiments/experiment.h"
#include "experiments/runs.h"

namespace vitrine::lab {
namespace {

constexpr const char *kLogit = "attention.max_logit", *kLoss = "loss";
constexpr double kRates[] = {0.001, 0.003, 0.01, 0.03, 0.1};
// Without norms, AdamW: the largest logit of 250 steps at these rates (one seed), and losses without and with norms.
constexpr double kClaimedLogit[] = {19, 25, 67, 423, 2596};
constexpr double kClaimedBare[] = {NAN, 1.66, 1.78, 2.36, 2.84}, kClaimedNorm[] = {NAN, 1.70, 1.70, 2.08, 2.28};
constexpr double kBound = 4;  // of unit-RMS queries and keys of 16 dimensions: 16 / sqrt(16)
constexpr double kTop = 30;   // of QK-clip and of the soft cap

LabInfo describe() {
    LabInfo i;
    i.name = "X03";
    i.title = "Attention logits and the norms of query and key";
    i.question =
        "Do attention logits grow at high learning rates, and what do the norms of queries and keys, QK-clip and a "
        "soft cap do about it?";
    i.claim =
        "RMSNorm on queries and on keys \"avoids exploding logits\", so V4 needs no clipping of them (V4 report).";
    i.literature =
        "True: arXiv 2309.14322 (10 M to 1.2B; the norm flattens the curve of loss over learning rate). Muon without "
        "clipping passes "
        "1000 at 9B active (Kimi K2, arXiv 2507.20534). At the best learning rate the loss is equal.";
    i.badge = LabBadge::provoked;
    i.provoked_by = "lr";
    i.knobs = {size_knob("five learning rates, and all four ways at each with both optimizers"),
               number_knob("layers", "Layers", "4", 1, 32, ""),
               number_knob("steps", "Steps", "250", 10, 100000, "of 1,024 tokens", true)};
    for (LabKnob& k : start_knobs()) i.knobs.push_back(std::move(k));
    i.plots = {{"Largest attention logit", "step", "logit", {kLogit}, false, true},
               {"Attention entropy", "step", "nats", {"attention.entropy"}, false, false},
               {"Loss", "step", "nats", {kLoss}, false, false}};
    i.expected_time = "two minutes";
    return i;
}

enum class Way { bare, norm, clip, cap };
constexpr const char* kWayNames[] = {"bare", "norm", "clip", "cap"};

struct Cell {
    OptimizerKind optimizer;
    Way way;
    double lr;
    std::string label() const {
        return std::string(optimizer == OptimizerKind::muon ? "muon " : "adamw ") + kWayNames[static_cast<int>(way)] +
               " lr " + significant(lr, 1);
    }
};

constexpr OptimizerKind kOptimizers[] = {OptimizerKind::adamw, OptimizerKind::muon};
std::vector<double> rates(const Knobs& k) {
    return is_full(k) ? std::vector<double>(std::begin(kRates), std::end(kRates)) : std::vector{0.003, 0.03};
}
// Quick: QK-clip and the soft cap at the higher rate alone, since at the lower one no logit reaches them; Muon there without them.
bool runs(const Knobs& k, OptimizerKind optimizer, Way way, double lr) {
    const bool is_plain = way == Way::bare || way == Way::norm, is_high = lr > 0.01;
    return is_full(k) || (optimizer == OptimizerKind::muon ? is_plain && is_high : is_plain || is_high);
}

std::vector<Cell> cells(const Knobs& knobs) {
    std::vector<Cell> all;
    for (const OptimizerKind optimizer : kOptimizers)
        for (const double lr : rates(knobs))
            for (const Way way : {Way::bare, Way::norm, Way::clip, Way::cap})
                if (runs(knobs, optimizer, way, lr)) all.push_back({optimizer, way, lr});
    return all;
}

std::vector<Arm> arms(const Knobs& knobs) {
    std::vector<Arm> all;
    for (const Cell& c : cells(knobs)) {
        Arm a{c.label(), micro_model({static_cast<int>(knobs.integer("layers"))}),
              micro_training(knobs.integer("steps"), c.lr)};
        set_start(knobs, a.train);
        a.model.variants.q_norm = a.model.variants.kv_norm = c.way == Way::norm;
        if (c.way == Way::clip) a.train.qk_clip = kTop;
        if (c.way == Way::cap) a.model.variants.attention_softcap = kTop;
        a.train.optimizer = c.optimizer;
        a.train.metrics = MetricsLevel::layers, a.train.metrics_every = 2;
        all.push_back(std::move(a));
    }
    return all;
}

BySeed losses(const Results& r, const Cell& c) {
    return r.values(c.label(), kLoss, [](const LabSeries& s) { return last_mean(s); });
}

// Mean loss above the best over the rates: the flatter, the smaller (arXiv 2309.14322). NaN where a rate is missing.
double sensitivity(const Results& r, const Knobs& knobs, OptimizerKind optimizer, Way way) {
    std::vector<double> by_rate;
    for (const double lr : rates(knobs))
        by_rate.push_back(runs(knobs, optimizer, way, lr) ? mean(losses(r, {optimizer, way, lr})) : NAN);
    const double best = *std::min_element(by_rate.begin(), by_rate.end());
    return mean(by_rate) - best;
}

// Index of a rate that the calibration has, -1 when the arms are others.
int claim_of(const Knobs& knobs, OptimizerKind optimizer, double lr) {
    if (optimizer != OptimizerKind::adamw || !knobs.changed().empty()) return -1;
    for (int i = 0; i < 5; ++i)
        if (std::abs(kRates[i] / lr - 1) < 1e-9) return i;
    return -1;
}

struct Counts {
    int n_grown = 0, n_pairs = 0, n_bounded = 0, n_normed = 0, n_bands = 0, n_inside = 0, n_held = 0, n_clipped = 0;
};

LabTable logit_table(const Knobs& knobs, const Results& r, Counts& n) {
    LabTable t{"Largest logit of the run, each seed",
               {"optimizer", "lr", "bare", "calibration", "within 3x", "norm", "QK-clip 30", "soft cap 30"},
               {}};
    for (const OptimizerKind optimizer : kOptimizers)
        for (const double lr : rates(knobs)) {
            if (!runs(knobs, optimizer, Way::bare, lr)) continue;
            const auto of = [&](Way way) {
                return runs(knobs, optimizer, way, lr) ? r.values(Cell{optimizer, way, lr}.label(), kLogit, largest) : BySeed{};
            };
            const auto logits = of(Way::bare), bounded = of(Way::norm), clipped = of(Way::clip);
            std::string claimed, inside;
            if (const int i = claim_of(knobs, optimizer, lr); i >= 0) {
                const bool fits = is_within_factor(mean(logits), kClaimedLogit[i], 3);
                claimed = shortest(kClaimedLogit[i]), inside = fits ? "yes" : "no";
                n.n_bands += !logits.empty(), n.n_inside += fits;
            }
            n.n_grown += count_pairs(bounded, logits, [](double a, double b) { return b > a; });
            n.n_pairs += n_pairs(bounded, logits);
            for (const double x : bounded.counted()) ++n.n_normed, n.n_bounded += x < 3 * kBound;
            for (const double x : clipped.counted()) ++n.n_clipped, n.n_held += x < 2 * kTop;
            t.rows.push_back({optimizer == OptimizerKind::muon ? "Muon" : "AdamW", significant(lr, 1), each(logits, 3),
                              claimed, inside, each(bounded, 3), each(clipped, 3), each(of(Way::cap), 3)});
        }
    return t;
}

LabTable loss_table(const Knobs& knobs, const Results& r) {
    LabTable t{
        "Mean loss of the last 20 steps, each seed (calibration: one seed)",
        {"optimizer", "lr", "bare", "norm", "calibration, bare and norm", "QK-clip 30", "soft cap 30", "norm better"},
        {}};
    for (const OptimizerKind optimizer : kOptimizers)
        for (const double lr : rates(knobs)) {
            if (!runs(knobs, optimizer, Way::bare, lr)) continue;
            const auto of = [&](Way way) {
                return runs(knobs, optimizer, way, lr) ? losses(r, {optimizer, way, lr}) : BySeed{};
            };
            const auto bare = of(Way::bare), norm = of(Way::norm);
            const int i = claim_of(knobs, optimizer, lr);
            const std::string claimed = i < 1 ? "" : fixed(kClaimedBare[i], 2) + " and " + fixed(kClaimedNorm[i], 2);
            t.rows.push_back({optimizer == OptimizerKind::muon ? "Muon" : "AdamW", significant(lr, 1),
                              each_fixed(bare, 2), each_fixed(norm, 2), claimed, each_fixed(of(Way::clip), 2),
                              each_fixed(of(Way::cap), 2),
                              of_seeds(count_pairs(bare, norm, [](double a, double b) { return b < a; }),
                                       n_pairs(bare, norm))});
        }
    return t;
}

LabChart chart_over_rates(const Knobs& knobs, const std::string& title, const std::string& unit, bool is_log,
                          const std::function<BySeed(const Cell&)>& number) {
    LabChart chart{title, "learning rate", unit, true, is_log, {}};
    for (const OptimizerKind optimizer : kOptimizers)
        for (const Way way : {Way::bare, Way::norm, Way::clip, Way::cap}) {
            std::vector<std::pair<double, BySeed>> points;
            for (const double lr : rates(knobs))
                if (runs(knobs, optimizer, way, lr)) points.emplace_back(lr, number({optimizer, way, lr}));
            const std::string name = optimizer == OptimizerKind::muon ? "Muon, " : "AdamW, ";
            if (!points.empty()) chart.curves.push_back(curve_over(name + kWayNames[static_cast<int>(way)], points));
        }
    return chart;
}

LabVerdict judge(const Knobs& knobs, const std::vector<LabRun>& all_runs) {
    const Results r(arms(knobs), all_runs);
    LabVerdict v;
    Counts n;
    v.charts = {chart_over_rates(knobs, "Loss over the learning rate", "nats", false, [&](const Cell& c) { return losses(r, c); }),
                chart_over_rates(knobs, "Largest logit over the learning rate", "logit", true,
                                 [&](const Cell& c) { return r.values(c.label(), kLogit, largest); })};
    v.tables = {logit_table(knobs, r, n), loss_table(knobs, r)};
    if (!r.missing().empty()) {
        v.sentence = r.missing();
        return v;
    }
    bool is_flatter = true;
    LabTable flat{"Sensitivity to the learning rate: mean loss above the best of the rates",
                  {"optimizer", "bare", "norm", "QK-clip 30", "soft cap 30"},
                  {}};
    for (const OptimizerKind optimizer : kOptimizers) {
        if (!runs(knobs, optimizer, Way::bare, rates(knobs)[0])) continue;  // one rate alone
        std::vector<std::string> row = {optimizer == OptimizerKind::muon ? "Muon" : "AdamW"};
        for (const Way way : {Way::bare, Way::norm, Way::clip, Way::cap}) {
            const double x = sensitivity(r, knobs, optimizer, way);
            row.push_back(std::isnan(x) ? "" : fixed(x, 3));
        }
        if (optimizer == OptimizerKind::adamw)
            is_flatter = sensitivity(r, knobs, optimizer, Way::norm) < sensitivity(r, knobs, optimizer, Way::bare);
        flat.rows.push_back(std::move(row));
    }
    v.tables.push_back(flat);
    const bool logits_hold = n.n_grown == n.n_pairs && n.n_bounded == n.n_normed;
    v.outcome = logits_hold && is_flatter   ? LabVerdict::Outcome::holds
                : logits_hold || is_flatter ? LabVerdict::Outcome::mixed
                                            : LabVerdict::Outcome::does_not_hold;
    v.sentence = "Without norms the largest logit was higher in " + std::to_string(n.n_grown) + " of " +
                 std::to_string(n.n_pairs) + " pairs of runs; with them it stayed below 12 in " +
                 std::to_string(n.n_bounded) + " of " + std::to_string(n.n_normed) +
                 " (4 by construction, times what the key norm's weight learns). QK-clip at 30 kept it below 60 in " +
                 std::to_string(n.n_held) + " of " + std::to_string(n.n_clipped) +
                 " (it acts after the step that saw the logit). With AdamW the norms " +
                 (is_flatter ? "flatten" : "do not flatten") + " the loss over learning rates." +
                 within_calibration(n.n_inside, n.n_bands, "logits");
    return v;
}

}  // namespace

Experiment x03_logits() {
    return {describe(), "x03_logits", nullptr, arms, judge};
}

}  // namespace vitrine::lab
