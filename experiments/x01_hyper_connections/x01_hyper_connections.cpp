// X01: the composite gain of unconstrained hyper-connections against manifold-constrained ones.
#include <algorithm>
#include <cmath>

#include "experiments/experiment.h"
#include "experiments/runs.h"

namespace vitrine::lab {
namespace {

constexpr const char *kGain = "hyper.gain.max", *kMeanGain = "hyper.gain.mean", *kBackward = "hyper.gain_backward.max",
                     *kDynamic = "hyper.dynamic";
// Of the maps' token means, up to and with a layer.
std::string gain_up_to(int layer) {
    return "layers." + std::to_string(layer) + ".hyper.gain.of_mean";
}

// Largest gain over tokens after 200 steps, measured once in another program (one to three seeds).
struct Claim {
    ResidualKind residual;
    int layers;
    double lr, lowest, highest;
};
constexpr Claim kClaims[] = {{ResidualKind::hc, 4, 0.001, 1.8, 1.8},   {ResidualKind::hc, 4, 0.01, 91, 91},
                             {ResidualKind::hc, 8, 0.001, 2.5, 2.5},   {ResidualKind::hc, 8, 0.003, 34, 34},
                             {ResidualKind::hc, 8, 0.01, 433, 730},    {ResidualKind::hc, 8, 0.03, 965, 22697},
                             {ResidualKind::hc, 16, 0.003, 150, 150},  {ResidualKind::hc, 16, 0.01, 9088, 9088},
                             {ResidualKind::mhc, 4, 0.01, 1.05, 1.05}, {ResidualKind::mhc, 8, 0.01, 1.25, 1.25}};

struct Cell {
    ResidualKind residual;
    int layers;
    double lr;
    std::string label() const {
        static constexpr const char* kNames[] = {"mhc", "mhc_lite", "hc", "plain"};
        return std::string(kNames[static_cast<int>(residual)]) + " " + std::to_string(layers) + " layers lr " +
               significant(lr, 1);
    }
};

LabInfo describe() {
    LabInfo i;
    i.name = "X01";
    i.title = "Hyper-connections against mHC";
    i.question =
        "How much can one token's residual streams be amplified through the depth, with free and with doubly "
        "stochastic mixing?";
    i.claim =
        "Composite gain about 3000 with hyper-connections, 1.6 with mHC, at 27B; \"the 3000 made training crash\" (a "
        "news article).";
    i.literature =
        "Gains: mHC, arXiv 2512.24880; reproduced by others up to 10,924 at 1.7B without a crash. The crash is "
        "overstated: the paper "
        "shows a surge of the loss near step 12,000. Gain is not divergence.";
    i.badge = LabBadge::provoked;
    i.provoked_by = "lr";
    i.knobs = {size_knob("4 and 16 layers and two more learning rates"),
               number_knob("layers", "Layers", "8", 1, 48, "of the quick arms"),
               number_knob("lr", "Learning rate", "0.01", 1e-4, 0.3, "of the quick arms; AdamW", true),
               number_knob("steps", "Steps", "200", 10, 100000, "of 1,024 tokens", true),
               number_knob("alpha", "Dynamic share", "0.01", 0, 1,
                           "scale of what the mixing takes from the token, at the start"),
               number_knob("init_hyper", "Dynamic part's deviation", "1", 0, 1000, "times the initial deviation"),
               number_knob("clip", "Clip", "1", 0, 1e6, "largest gradient norm; 0: never")};
    for (LabKnob& k : start_knobs()) i.knobs.push_back(std::move(k));
    i.plots = {{"Composite gain, largest of all tokens", "step", "gain", {kGain, kMeanGain}, false, true},
               {"Share of the mixing that the token decides", "step", "share", {kDynamic}, false, true},
               {"Composite gain, backward", "step", "gain", {kBackward}, false, true},
               {"Loss", "step", "nats", {"loss"}, false, false},
               {"Gradient norm before clipping", "step", "norm", {"grad_norm"}, false, true}};
    i.judged = {"layers.*.hyper.gain.of_mean"};
    i.expected_time = "a minute";
    return i;
}

std::vector<Cell> cells(const Knobs& knobs) {
    using enum ResidualKind;
    if (!is_full(knobs)) {
        const int layers = static_cast<int>(knobs.integer("layers"));
        return {{hc, layers, knobs.number("lr")}, {mhc, layers, knobs.number("lr")}};
    }
    return {{hc, 4, 0.001},  {hc, 4, 0.01},  {hc, 8, 0.001}, {hc, 8, 0.003}, {hc, 8, 0.01},   {hc, 8, 0.03},
            {hc, 16, 0.003}, {hc, 16, 0.01}, {mhc, 4, 0.01}, {mhc, 8, 0.01}, {plain, 8, 0.01}};
}

std::vector<Arm> arms(const Knobs& knobs) {
    std::vector<Arm> all;
    for (const Cell& c : cells(knobs)) {
        Arm a{c.label(), micro_model({c.layers, c.residual}), micro_training(knobs.integer("steps"), c.lr)};
        a.train.init_alpha = knobs.number("alpha");
        a.train.clip = knobs.number("clip");
        a.train.init_hyper = knobs.number("init_hyper");
        set_start(knobs, a.train);
        a.train.init_identity = 4;  // both start near the identity
        a.train.metrics = MetricsLevel::layers;
        all.push_back(std::move(a));
    }
    return all;
}

const Claim* claim_for(const Knobs& knobs, const Cell& c) {
    if (!knobs.changed({"layers", "lr"}).empty()) return nullptr;  // cells name these two
    for (const Claim& k : kClaims)
        if (k.residual == c.residual && k.layers == c.layers && std::abs(k.lr / c.lr - 1) < 1e-9) return &k;
    return nullptr;
}

double last(const LabSeries& s) {
    return last_mean(s, 1);
}

// Forward or backward, whichever is larger: mHC's rows are exact, all of its error is in the columns.
BySeed gains_of(const Results& r, const std::string& arm, const Reduce& reduce = largest) {
    const auto larger = [](double a, double b) { return std::max(a, b); };
    return combined(r.values(arm, kGain, reduce), r.values(arm, kBackward, reduce), larger);
}

// Seeds of `larger` whose gain exceeds that of the same seed of `smaller`.
int grows(const Results& r, const Cell& smaller, const Cell& larger) {
    return count_pairs(gains_of(r, smaller.label()), gains_of(r, larger.label()),
                       [](double a, double b) { return b > a; });
}

struct Trend {
    std::string name;
    Cell smaller, larger;
};

// How the gain builds up through the depth: at the end of the runs; of two arms in their middle and after a quarter too.
LabChart depth_chart(const Knobs& knobs, const Results& r) {
    LabChart chart{"Gain of the mean maps, up to and with each layer", "layer", "gain", false, true, {}};
    const double steps = knobs.number("steps");
    for (const Cell& c : cells(knobs)) {
        if (c.residual == ResidualKind::plain) continue;  // has one stream
        for (const double share : is_full(knobs) ? std::vector{1.0} : std::vector{0.25, 0.5, 1.0}) {
            std::vector<std::pair<double, BySeed>> points;
            for (int layer = 0; layer < c.layers; ++layer)
                points.emplace_back(layer, r.values(c.label(), gain_up_to(layer), [&](const LabSeries& s) {
                    return at_step(s, share * steps);
                }));
            chart.curves.push_back(curve_over(c.label() + (share < 1 ? ", step " + fixed(share * steps, 0) : ""), points));
        }
    }
    return chart;
}

LabVerdict judge(const Knobs& knobs, const std::vector<LabRun>& runs) {
    const std::vector<Cell> all = cells(knobs);
    const Results r(arms(knobs), runs);
    LabVerdict v;
    LabTable t{
        "Composite gain over all sites, of the token where it is largest, largest of the run; each seed (forward: "
        "absolute row sums, backward: columns)",
        {"arm", "larger of both", "at the end", "calibration", "within 3x", "forward", "forward, mean of tokens",
         "backward", "token's share", "last loss", "largest gradient"},
        {}};
    int n_bands = 0, n_inside = 0, n_bounded = 0, n_mhc = 0, n_broken = 0;
    for (const Cell& c : all) {
        const auto gains = gains_of(r, c.label()), ends = gains_of(r, c.label(), last);
        const Claim* claim = claim_for(knobs, c);
        std::string band, inside;
        if (claim && !gains.empty()) {
            band = claim->lowest == claim->highest
                       ? significant(claim->lowest, 3)
                       : significant(claim->lowest, 3) + " to " + significant(claim->highest, 3);
            const std::vector<double> all_ends = ends.counted();
            const bool fits = std::all_of(all_ends.begin(), all_ends.end(),
                                          [&](double g) { return g > claim->lowest / 3 && g < claim->highest * 3; });
            inside = fits ? "yes" : "no";
            ++n_bands, n_inside += fits;
        }
        if (c.residual == ResidualKind::mhc)
            for (const double g : gains.counted()) ++n_mhc, n_bounded += g < 2;
        const auto losses = r.values(c.label(), "loss", [](const LabSeries& s) { return last_mean(s); });
        for (const double l : losses.counted()) n_broken += !std::isfinite(l);
        t.rows.push_back(
            {c.label(), each(gains, 3), each(ends, 3), band, inside, each(r.values(c.label(), kGain, largest), 3),
             each(r.values(c.label(), kMeanGain, largest), 3), each(r.values(c.label(), kBackward, largest), 3),
             each(r.values_if_measured(c.label(), kDynamic, largest), 2), each_fixed(losses, 2),
             each(r.values(c.label(), "grad_norm", largest), 2)});
    }
    v.tables = {t};
    v.charts = {depth_chart(knobs, r)};

    using enum ResidualKind;
    std::vector<Trend> trends = {{"HC's gain above mHC's", all[1], all[0]}};
    if (is_full(knobs))
        trends = {{"with the learning rate, 0.001 to 0.01, 8 layers", {hc, 8, 0.001}, {hc, 8, 0.01}},
                  {"with the learning rate, 0.01 to 0.03, 8 layers", {hc, 8, 0.01}, {hc, 8, 0.03}},
                  {"with depth, 4 to 8 layers, 0.01", {hc, 4, 0.01}, {hc, 8, 0.01}},
                  {"with depth, 8 to 16 layers, 0.01", {hc, 8, 0.01}, {hc, 16, 0.01}},
                  {"HC above mHC, 8 layers, 0.01", {mhc, 8, 0.01}, {hc, 8, 0.01}}};
    LabTable signs{"HC's gain grows", {"", "seeds"}, {}};
    int n_yes = 0, n_all = 0;
    for (const Trend& trend : trends) {
        const int n = n_pairs(gains_of(r, trend.smaller.label()), gains_of(r, trend.larger.label()));
        const int yes = grows(r, trend.smaller, trend.larger);
        signs.rows.push_back({trend.name, of_seeds(yes, n)});
        n_yes += yes, n_all += n;
    }
    v.tables.push_back(signs);
    if (!r.missing().empty()) {
        v.sentence = r.missing();
        return v;
    }
    const bool holds = n_yes == n_all && n_bounded == n_mhc;
    v.outcome = holds       ? LabVerdict::Outcome::holds
                : n_yes > 0 ? LabVerdict::Outcome::mixed
                            : LabVerdict::Outcome::does_not_hold;
    v.sentence = "HC's gain grew in " + std::to_string(n_yes) + " of " + std::to_string(n_all) +
                 " comparisons, mHC's stayed below 2 in " + of_runs(n_bounded, n_mhc) + "; " +
                 (n_bands ? std::to_string(n_inside) + " of " + std::to_string(n_bands) +
                                " arms end within a factor of 3 of the calibration. "
                          : "") +
                 (n_broken           ? std::to_string(n_broken) + " runs ended with a loss that is not finite. "
                  : r.n_diverged() ? ""
                                     : "No run diverged: gain is not divergence. ") +
                 "Losses after so few steps are no claim about stability.";
    return v;
}

}  // namespace

Experiment x01_hyper_connections() {
    return {describe(), "x01_hyper_connections", nullptr, arms, judge};
}

}  // namespace vitrine::lab
