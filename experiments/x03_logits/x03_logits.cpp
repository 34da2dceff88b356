// X03: attention logits with and without the norms of queries and keys, over learning rates and two optimizers.
#include <algorithm>
#include <cmath>

#include "experiments/experiment.h"
#include "experiments/runs.h"

namespace vitrine::lab {
namespace {

constexpr const char *kLogit = "attention.max_logit", *kLoss = "loss";
constexpr double kRates[] = {0.001, 0.003, 0.01, 0.03, 0.1};
// Without norms, AdamW: the largest logit of 250 steps at these rates (one seed), and losses without and with norms.
constexpr double kClaimedLogit[] = {19, 25, 67, 423, 2596};
constexpr double kBound = 4;  // of unit-RMS queries and keys of 16 dimensions: 16 / sqrt(16)

LabInfo describe() {
    LabInfo i;
    i.name = "X03";
    i.title = "Attention logits and the norms of query and key";
    i.question = "Do attention logits grow at high learning rates, and do the norms of queries and keys stop that?";
    i.claim =
        "RMSNorm on queries and on keys \"avoids exploding logits\", so V4 needs no clipping of them (V4 report).";
    i.literature =
        "True: arXiv 2309.14322 (10 M to 1.2B; the norm flattens the curve of loss over learning rate). Muon without "
        "clipping passes "
        "1000 at 9B active (Kimi K2, arXiv 2507.20534). At the best learning rate the loss is equal.";
    i.badge = LabBadge::provoked;
    i.provoked_by = "lr";
    i.knobs = {size_knob("five learning rates and Muon"), number_knob("layers", "Layers", "4", 1, 32, ""),
               number_knob("steps", "Steps", "250", 10, 100000, "of 1,024 tokens", true)};
    i.plots = {{"Largest attention logit", "step", "logit", {kLogit}, false, true},
               {"Attention entropy", "step", "nats", {"attention.entropy"}, false, false},
               {"Loss", "step", "nats", {kLoss}, false, false}};
    i.expected_time = "a minute";
    return i;
}

struct Cell {
    OptimizerKind optimizer;
    bool has_norm;
    double lr;
    std::string label() const {
        return std::string(optimizer == OptimizerKind::muon ? "muon" : "adamw") + (has_norm ? " norm" : " bare") +
               " lr " + significant(lr, 1);
    }
};

std::vector<OptimizerKind> optimizers(const Knobs& k) {
    return is_full(k) ? std::vector{OptimizerKind::adamw, OptimizerKind::muon} : std::vector{OptimizerKind::adamw};
}
std::vector<double> rates(const Knobs& k) {
    return is_full(k) ? std::vector<double>(std::begin(kRates), std::end(kRates)) : std::vector{0.003, 0.03};
}

std::vector<Arm> arms(const Knobs& knobs) {
    std::vector<Arm> all;
    for (const OptimizerKind optimizer : optimizers(knobs))
        for (const double lr : rates(knobs))
            for (const bool has_norm : {false, true}) {
                const Cell c{optimizer, has_norm, lr};
                Arm a{c.label(), micro_model({static_cast<int>(knobs.integer("layers"))}),
                      micro_training(knobs.integer("steps"), lr)};
                a.model.variants.q_norm = a.model.variants.kv_norm = has_norm;
                a.train.optimizer = optimizer;
                a.train.metrics = MetricsLevel::layers, a.train.metrics_every = 2;
                all.push_back(std::move(a));
            }
    return all;
}

// Mean loss above the best over the rates: the flatter, the smaller (arXiv 2309.14322).
double sensitivity(const Results& r, const Knobs& knobs, OptimizerKind optimizer, bool has_norm) {
    std::vector<double> losses;
    for (const double lr : rates(knobs))
        losses.push_back(
            mean(r.values(Cell{optimizer, has_norm, lr}.label(), kLoss, [](const auto& s) { return last_mean(s); })));
    const double best = *std::min_element(losses.begin(), losses.end());
    return mean(losses) - best;
}

LabVerdict judge(const Knobs& knobs, const std::vector<LabRun>& runs) {
    const Results r(arms(knobs), runs);
    LabVerdict v;
    LabTable t{"Largest logit of the run and last loss, each seed",
               {"optimizer", "lr", "logit, bare", "calibration", "within 3x", "logit, norm", "loss, bare", "loss, norm",
                "norm better"},
               {}};
    int n_grown = 0, n_pairs = 0, n_bounded = 0, n_normed = 0, n_bands = 0, n_inside = 0;
    for (const OptimizerKind optimizer : optimizers(knobs))
        for (const double lr : rates(knobs)) {
            const std::string bare = Cell{optimizer, false, lr}.label(), norm = Cell{optimizer, true, lr}.label();
            const auto logits = r.values(bare, kLogit, largest), bounded = r.values(norm, kLogit, largest);
            const auto loss = [&](const std::string& arm) {
                return r.values(arm, kLoss, [](const LabSeries& s) { return last_mean(s); });
            };
            const auto rate = std::find_if(std::begin(kRates), std::end(kRates),
                                           [&](double x) { return std::abs(x / lr - 1) < 1e-9; });
            std::string claimed, inside;
            if (optimizer == OptimizerKind::adamw && rate != std::end(kRates) && knobs.integer("layers") == 4 &&
                knobs.integer("steps") == 250) {
                const double claim = kClaimedLogit[rate - std::begin(kRates)];
                const bool fits = is_within_factor(mean(logits), claim, 3);
                claimed = shortest(claim), inside = fits ? "yes" : "no";
                n_bands += !logits.empty(), n_inside += fits;
            }
            n_grown += count_pairs(bounded, logits, [](double a, double b) { return b > a; });
            n_pairs += static_cast<int>(std::min(bounded.size(), logits.size()));
            for (const double x : bounded) ++n_normed, n_bounded += x < 3 * kBound;
            t.rows.push_back({optimizer == OptimizerKind::muon ? "Muon" : "AdamW", significant(lr, 1), each(logits, 3),
                              claimed, inside, each(bounded, 3), each_fixed(loss(bare), 2), each_fixed(loss(norm), 2),
                              of_seeds(count_pairs(loss(bare), loss(norm), [](double a, double b) { return b < a; }),
                                       static_cast<int>(std::min(loss(bare).size(), loss(norm).size())))});
        }
    v.tables = {t};
    if (!r.missing().empty()) {
        v.sentence = r.missing();
        return v;
    }
    bool is_flatter = true;
    LabTable flat{
        "Sensitivity to the learning rate: mean loss above the best of the rates", {"optimizer", "bare", "norm"}, {}};
    for (const OptimizerKind optimizer : optimizers(knobs)) {
        const double bare = sensitivity(r, knobs, optimizer, false), norm = sensitivity(r, knobs, optimizer, true);
        if (optimizer == OptimizerKind::adamw) is_flatter = norm < bare;
        flat.rows.push_back({optimizer == OptimizerKind::muon ? "Muon" : "AdamW", fixed(bare, 3), fixed(norm, 3)});
    }
    v.tables.push_back(flat);
    const bool logits_hold = n_grown == n_pairs && n_bounded == n_normed;
    v.outcome = logits_hold && is_flatter   ? LabVerdict::Outcome::holds
                : logits_hold || is_flatter ? LabVerdict::Outcome::mixed
                                            : LabVerdict::Outcome::does_not_hold;
    v.sentence = "Without norms the largest logit was higher in " + std::to_string(n_grown) + " of " +
                 std::to_string(n_pairs) + " pairs of runs; with them it stayed below 12 in " +
                 std::to_string(n_bounded) + " of " + std::to_string(n_normed) +
                 " (4 by construction, times what the key norm's weight learns). With AdamW the norms " +
                 (is_flatter ? "flatten" : "do not flatten") + " the loss over learning rates. " +
                 std::to_string(n_inside) + " of " + std::to_string(n_bands) +
                 " logits lie within a factor of 3 of the calibration.";
    return v;
}

}  // namespace

Experiment x03_logits() {
    return {describe(), "x03_logits", nullptr, arms, judge};
}

}  // namespace vitrine::lab
