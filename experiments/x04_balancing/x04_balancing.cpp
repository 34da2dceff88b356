// X04: what becomes of sixteen experts without balancing, and with each way of balancing.
#include <algorithm>
#include <cmath>

#include "experiments/experiment.h"
#include "experiments/runs.h"

namespace vitrine::lab {
namespace {

constexpr const char *kViolation = "max_vio", *kDead = "dead_experts", *kLoss = "loss.next",
                     *kInformation = "router.information.domain_given_token", *kNull = "router.information.null";

struct Way {
    const char* label;
    BalanceKind kind;
    double weight, speed, z_weight;
    double lowest, highest;  // calibration of the mean violation after 400 steps, three seeds; 0: none
    bool is_quick;
    double skew = 1;  // of the router's row of expert 0 at the start
};
constexpr Way kWays[] = {{"none", BalanceKind::none, 0, 0, 0, 3.5, 4.6, true},
                         {"auxiliary 0.01", BalanceKind::auxiliary, 0.01, 0, 0, 0.93, 0.93, true},
                         {"bias 0.0001", BalanceKind::bias, 0, 0.0001, 0, 0, 0, false},
                         {"bias 0.001", BalanceKind::bias, 0, 0.001, 0, 2.7, 3.4, false},
                         {"bias 0.01", BalanceKind::bias, 0, 0.01, 0, 0.48, 0.60, true},
                         {"bias 0.1", BalanceKind::bias, 0, 0.1, 0, 0, 0, false},
                         {"sequence 0.01", BalanceKind::sequence, 0.01, 0, 0, 0, 0, false},
                         {"z-loss 0.001", BalanceKind::none, 0, 0, 0.001, 0, 0, false},
                         {"skewed, none", BalanceKind::none, 0, 0, 0, 0, 0, true, 3},
                         {"skewed, bias 0.01", BalanceKind::bias, 0, 0.01, 0, 0, 0, false, 3}};

LabInfo describe() {
    LabInfo i;
    i.name = "X04";
    i.title = "Balancing and collapse of experts";
    i.question =
        "Do experts starve without balancing, and which way of balancing keeps their loads equal within 400 steps?";
    i.claim =
        "\"An auxiliary loss keeps loads equal\"; \"static routing under-uses experts\" (news articles). V4: selection "
        "bias, speed 0.001, "
        "and a tiny sequence loss.";
    i.literature =
        "The mechanism is real, its use in V4 is not: V4 balances by a bias (arXiv 2408.15664). Speed 0.001 is for "
        "long runs.";
    i.badge = LabBadge::provoked;
    i.provoked_by = "init_router_skew, in the arms called skewed; the others are natural";
    i.knobs = {size_knob("other speeds, sequence loss and z-loss, a skewed start with the bias"),
               number_knob("layers", "Layers", "3", 1, 16, ""),
               number_knob("experts", "Experts", "16", 4, 256, "of which two and a shared one are active"),
               number_knob("lr", "Learning rate", "0.003", 1e-4, 0.3, "AdamW", true),
               number_knob("steps", "Steps", "400", 10, 100000, "of 1,024 tokens", true)};
    for (LabKnob& k : start_knobs()) i.knobs.push_back(std::move(k));
    i.plots = {
        {"Violation: largest load over mean load, minus 1", "step", "mean of layers", {kViolation}, false, false},
        {"Experts without a token", "step", "of all layers", {kDead}, false, false},
        {"Entropy of the load", "step", "share of the largest", {"load_entropy"}, false, false},
        {"What the expert tells of the domain, given the token", "step", "bit", {kInformation, kNull}, false, false},
        {"Loss", "step", "nats", {kLoss}, false, false}};
    i.expected_time = "a minute and a half";
    return i;
}

std::vector<Way> ways(const Knobs& knobs) {
    std::vector<Way> chosen;
    for (const Way& w : kWays)
        if (w.is_quick || is_full(knobs)) chosen.push_back(w);
    return chosen;
}

std::vector<Arm> arms(const Knobs& knobs) {
    std::vector<Arm> all;
    for (const Way& w : ways(knobs)) {
        Arm a{w.label,
              micro_model({static_cast<int>(knobs.integer("layers")), ResidualKind::plain,
                           static_cast<int>(knobs.integer("experts")), 2, 32}),
              micro_training(knobs.integer("steps"), knobs.number("lr"))};
        a.train.balance = w.kind, a.train.balance_weight = w.weight, a.train.bias_speed = w.speed,
        a.train.z_weight = w.z_weight, a.train.init_router_skew = w.skew;
        set_start(knobs, a.train);
        a.train.metrics = MetricsLevel::layers, a.train.metrics_every = 20;
        all.push_back(std::move(a));
    }
    return all;
}

LabVerdict judge(const Knobs& knobs, const std::vector<LabRun>& runs) {
    const Results r(arms(knobs), runs);
    const bool is_preset = knobs.changed().empty();
    const auto end = [](const LabSeries& s) { return last_mean(s); };
    const auto start = [](const LabSeries& s) { return first_mean(s); };
    const auto informed = [](const LabSeries& s) { return last_mean(s, 5); };  // measured every 20 steps
    LabVerdict v;
    LabTable t{"Mean of the last 20 steps, each seed",
               {"balancing", "violation", "calibration", "within 3x", "of the first 20 steps",
                "experts without a token", "domain given token [bit]", "of it chance", "loss"},
               {}};
    int n_collapsed = 0, n_bare = 0, n_even = 0, n_balanced = 0, n_bands = 0, n_inside = 0, n_better = 0,
        n_compared = 0;
    const auto bare_losses = r.values("none", kLoss, end);
    for (const Way& w : ways(knobs)) {
        const auto violations = r.values(w.label, kViolation, end), losses = r.values(w.label, kLoss, end);
        std::string band, inside;
        if (is_preset && w.highest > 0) {
            const std::vector<double> ends = violations.counted();
            const bool fits = std::all_of(ends.begin(), ends.end(),
                                          [&](double x) { return x > w.lowest / 3 && x < 3 * w.highest; });
            band = w.lowest == w.highest ? fixed(w.lowest, 2) : fixed(w.lowest, 2) + " to " + fixed(w.highest, 2);
            inside = fits ? "yes" : "no";
            n_bands += !violations.empty(), n_inside += fits && !violations.empty();
        }
        const std::string label = w.label;
        for (const double x : violations.counted()) {
            if (label == "none") ++n_bare, n_collapsed += x > 2;
            if (label == "auxiliary 0.01" || label == "bias 0.01") ++n_balanced, n_even += x < 1;
        }
        if (label == "bias 0.01")
            n_better = count_pairs(bare_losses, losses, [](double a, double b) { return b < a; }),
            n_compared = n_pairs(bare_losses, losses);
        t.rows.push_back({label, each_fixed(violations, 2), band, inside,
                          each_fixed(r.values(label, kViolation, start), 2), each_fixed(r.values(label, kDead, end), 1),
                          each_fixed(r.values(label, kInformation, informed), 3),
                          each_fixed(r.values(label, kNull, informed), 3), each_fixed(losses, 2)});
    }
    v.tables = {t};
    if (!r.missing().empty()) {
        v.sentence = r.missing();
        return v;
    }
    const bool collapses = n_collapsed == n_bare, evens = n_even == n_balanced;
    v.outcome = collapses && evens   ? LabVerdict::Outcome::holds
                : collapses || evens ? LabVerdict::Outcome::mixed
                                     : LabVerdict::Outcome::does_not_hold;
    v.sentence = "Without balancing the violation ended above 2 in " + of_seeds(n_collapsed, n_bare) +
                 "; the auxiliary loss and the bias at 0.01 kept it below 1 in " + of_runs(n_even, n_balanced) +
                 ". Of loss, the bias won in " + of_seeds(n_better, n_compared) + ": no claim about quality." +
                 within_calibration(n_inside, n_bands, "violations");
    return v;
}

}  // namespace

Experiment x04_balancing() {
    return {describe(), "x04_balancing", nullptr, arms, judge};
}

}  // namespace vitrine::lab
