// X07: Muon against AdamW, each at its own best learning rate.
#include <algorithm>
#include <cmath>
#include <functional>
#include <tuple>

#include "experiments/experiment.h"
#include "experiments/runs.h"

namespace vitrine::lab {
namespace {

constexpr const char* kLoss = "loss";
constexpr double kRates[] = {0.0003, 0.001, 0.003, 0.01, 0.03};
constexpr double kClaimedAdamw[] = {2.25, 1.94, 1.61, 1.63, 2.01}, kClaimedMuon[] = {2.59, 2.10, 1.61, 1.45, 1.54};

LabInfo describe() {
    LabInfo i;
    i.name = "X07";
    i.title = "Muon against AdamW";
    i.question =
        "Does Muon reach a lower loss than AdamW when both run at their own best learning rate, and over how wide a "
        "range?";
    i.claim = "Muon converges faster and more stably (V4 report; a news article).";
    i.literature =
        "Direction true, size disputed: about half of AdamW's operations (arXiv 2502.16982); 1.4 times at 0.1B falling "
        "to 1.1 times at 1.2B with fair tuning "
        "(arXiv 2509.02046).";
    i.badge = LabBadge::natural;
    i.knobs = {size_knob("five learning rates each, and Newton-Schulz with 3 + 2 steps"),
               number_knob("layers", "Layers", "4", 1, 32, ""),
               choice_knob("schedule", "Schedule", {"cosine", "constant"}, "cosine: down to a tenth"),
               number_knob("batch", "Batch", "16", 1, 1024, "sequences of 64 tokens a step", true),
               number_knob("steps", "Steps", "300", 10, 100000, "", true)};
    for (LabKnob& k : start_knobs()) i.knobs.push_back(std::move(k));
    i.plots = {{"Loss", "step", "nats", {kLoss}, false, false},
               {"Gradient norm", "step", "norm", {"grad_norm"}, false, true}};
    i.expected_time = "a minute";
    return i;
}

struct Cell {
    OptimizerKind optimizer;
    double lr;
    int64_t newton_schulz = 10;  // steps: V4's 8 + 2, or 3 + 2: the last two have V4's other coefficients in either
    std::string label() const {
        return std::string(optimizer == OptimizerKind::muon ? "muon" : "adamw") +
               (newton_schulz == 10 ? "" : " 3 + 2 steps") + " lr " + significant(lr, 1);
    }
};

std::vector<Cell> cells(const Knobs& knobs) {
    using enum OptimizerKind;
    if (!is_full(knobs)) return {{adamw, 0.003}, {adamw, 0.01}, {muon, 0.01}, {muon, 0.03}};
    std::vector<Cell> all;
    for (const OptimizerKind o : {adamw, muon})
        for (const double lr : kRates) all.push_back({o, lr});
    all.push_back({muon, 0.01, 5});
    return all;
}

std::vector<Arm> arms(const Knobs& knobs) {
    std::vector<Arm> all;
    for (const Cell& c : cells(knobs)) {
        Arm a{c.label(), micro_model({static_cast<int>(knobs.integer("layers"))}),
              micro_training(knobs.integer("steps"), c.lr)};
        a.train.batch = knobs.integer("batch");
        set_start(knobs, a.train);
        a.train.optimizer = c.optimizer, a.train.muon_steps = c.newton_schulz;
        a.train.schedule = knobs.text("schedule") == "cosine" ? ScheduleKind::cosine : ScheduleKind::constant;
        all.push_back(std::move(a));
    }
    return all;
}

BySeed losses(const Results& r, const Cell& c) {
    return r.values(c.label(), kLoss, [](const LabSeries& s) { return last_mean(s); });
}

// The arm of an optimizer (Newton-Schulz as V4) with the lowest mean loss.
const Cell& best(const Results& r, const std::vector<Cell>& all, OptimizerKind optimizer) {
    const Cell* top = nullptr;
    for (const Cell& c : all)
        if (c.optimizer == optimizer && c.newton_schulz == 10 && (!top || mean(losses(r, c)) < mean(losses(r, *top))))
            top = &c;
    return *top;
}

// Steps until the mean of 20 losses first reaches the target, as a share of all; NaN when it never does.
double steps_to(const LabSeries& s, double target) {
    for (size_t i = 20; i <= s.value.size(); ++i) {
        double sum = 0;
        for (size_t j = i - 20; j < i; ++j) sum += s.value[j];
        if (sum / 20 <= target) return s.step[i - 1] + 1;
    }
    return NAN;
}

int n_within(const Results& r, const std::vector<Cell>& all, OptimizerKind optimizer, double top) {
    int n = 0;
    for (const Cell& c : all)
        n += c.optimizer == optimizer && c.newton_schulz == 10 && mean(losses(r, c)) <= 1.05 * top;
    return n;
}

LabChart rate_chart(const Results& r, const std::vector<Cell>& all) {
    LabChart chart{"Loss over the learning rate", "learning rate", "nats", true, false, {}};
    for (const auto& [name, optimizer, steps] : {std::tuple{"AdamW", OptimizerKind::adamw, 10}, {"Muon", OptimizerKind::muon, 10},
                                                 {"Muon, 3 + 2 steps", OptimizerKind::muon, 5}}) {
        std::vector<std::pair<double, BySeed>> points;
        for (const Cell& c : all)
            if (c.optimizer == optimizer && c.newton_schulz == steps) points.emplace_back(c.lr, losses(r, c));
        if (!points.empty()) chart.curves.push_back(curve_over(name, points));
    }
    return chart;
}

LabVerdict judge(const Knobs& knobs, const std::vector<LabRun>& runs) {
    const std::vector<Cell> all = cells(knobs);
    const Results r(arms(knobs), runs);
    LabVerdict v;
    v.charts = {rate_chart(r, all)};
    const bool is_preset = knobs.changed({"schedule"}).empty();  // the calibration's was constant
    LabTable t{"Mean loss of the last 20 steps, each seed (calibration: constant learning rate, one seed)",
               {"arm", "loss", "calibration"},
               {}};
    for (const Cell& c : all) {
        const auto rate =
            std::find_if(std::begin(kRates), std::end(kRates), [&](double x) { return std::abs(x / c.lr - 1) < 1e-9; });
        const auto at = rate - std::begin(kRates);
        t.rows.push_back({c.label(), each_fixed(losses(r, c), 2),
                          c.newton_schulz != 10 || !is_preset
                              ? ""
                              : fixed(c.optimizer == OptimizerKind::muon ? kClaimedMuon[at] : kClaimedAdamw[at], 2)});
    }
    v.tables = {t};
    if (!r.missing().empty()) {
        v.sentence = r.missing();
        return v;
    }
    const Cell &adamw = best(r, all, OptimizerKind::adamw), &muon = best(r, all, OptimizerKind::muon);
    const auto a = losses(r, adamw), m = losses(r, muon);
    const int n = n_pairs(a, m),
              n_better = count_pairs(a, m, [](double x, double y) { return y < x; });
    const auto steps_to_end_of_adamw = [&](const Cell& c) {  // each seed's own target
        return r.numbers(c.label(), [&](const LabRun& run) {
            const auto target = a.of.find(run.seed);
            const auto s = run.scalars.find(kLoss);
            const bool has_both = target != a.of.end() && s != run.scalars.end();
            return has_both ? steps_to(s->second, target->second.value) : NAN;
        });
    };
    const BySeed shares = combined(steps_to_end_of_adamw(muon), steps_to_end_of_adamw(adamw), std::divides<double>());
    v.tables.push_back({"Best of the sweep",
                        {"", "AdamW", "Muon"},
                        {{"learning rate", significant(adamw.lr, 1), significant(muon.lr, 1)},
                         {"loss", each_fixed(a, 3), each_fixed(m, 3)},
                         {"learning rates within 5 % of the best loss",
                          std::to_string(n_within(r, all, OptimizerKind::adamw, mean(a))),
                          std::to_string(n_within(r, all, OptimizerKind::muon, mean(m)))},
                         {"steps to AdamW's last loss, as a share of its own", "1", each(shares, 2)}}});
    v.outcome = n_better == n   ? LabVerdict::Outcome::holds
                : n_better == 0 ? LabVerdict::Outcome::does_not_hold
                                : LabVerdict::Outcome::mixed;
    v.sentence = "Best against best, Muon ended lower in " + of_seeds(n_better, n) +
                 (is_preset ? " (calibration: 1.45 against 1.61)" : "") + ". At this size; the advantage is reported to shrink "
                 "with size. The grid of learning rates is coarse, and steps are counted, not seconds.";
    return v;
}

}  // namespace

Experiment x07_muon() {
    return {describe(), "x07_muon", nullptr, arms, judge};
}

}  // namespace vitrine::lab
