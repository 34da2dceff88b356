// X05: the clamp inside SwiGLU against outliers at a learning rate that makes them.
#include <algorithm>
#include <cmath>

#include "experiments/experiment.h"
#include "experiments/runs.h"

namespace vitrine::lab {
namespace {

constexpr const char *kPeak = "experts.peak", *kClipped = "experts.clipped", *kLoss = "loss.next",
                     *kAlignment = "experts.alignment", *kKurtosis = "experts.kurtosis";
constexpr double kNoLimit = 1e6, kLimit = 10;

enum class Fp8 { none, row, tensor, delayed };  // one scale per row and 128 columns, or per tensor; that of steps before

struct Cell {
    double lr, decay, limit, claim;  // claim: peak of 300 steps in the calibration, one seed; 0: none
    bool is_quick;
    double aligned = 0;   // gate and up start equal, this many times the deviation
    Fp8 fp8 = Fp8::none;  // of the inputs of linears and experts' hidden rows
    std::string label() const {
        std::string text = std::string(limit < kNoLimit ? "clamp" : "free") + " lr " + significant(lr, 1) + " decay " +
                           significant(decay, 1);
        if (aligned > 0) text += " aligned " + significant(aligned, 1);
        constexpr const char* kNames[] = {"", " fp8 row", " fp8 tensor", " fp8 delayed"};
        return text + kNames[static_cast<int>(fp8)];
    }
};
constexpr Cell kCells[] = {{0.003, 0.1, kNoLimit, 37, false},
                           {0.003, 0.1, kLimit, 0, false},
                           {0.03, 0.1, kNoLimit, 401, true},
                           {0.03, 0.1, kLimit, 100, true},
                           {0.03, 0, kNoLimit, 806, false},
                           {0.03, 0, kLimit, 100, false},
                           {0.003, 0.1, kNoLimit, 0, true, 8},
                           {0.003, 0.1, kNoLimit, 0, true, 8, Fp8::tensor},
                           {0.003, 0.1, kNoLimit, 0, true, 8, Fp8::delayed},
                           {0.003, 0.1, kNoLimit, 0, false, 8, Fp8::row},
                           {0.003, 0.1, kLimit, 0, false, 8},
                           {0.003, 0.1, kLimit, 0, false, 8, Fp8::tensor},
                           {0.003, 0.1, kLimit, 0, false, 8, Fp8::delayed},
                           {0.003, 0.1, kNoLimit, 0, false, 2},
                           {0.003, 0.1, kNoLimit, 0, false, 2, Fp8::tensor}};

LabInfo describe() {
    LabInfo i;
    i.name = "X05";
    i.title = "Clamping SwiGLU";
    i.question =
        "Does clamping gate and linear part bound the outliers of a high learning rate, and what does it cost?";
    i.claim =
        "SwiGLU is clamped throughout training: linear part in [-10, 10], gate at most 10, before SiLU; outliers "
        "accompany loss spikes (V4 report).";
    i.literature =
        "The late, natural outliers need some 200B tokens (arXiv 2409.12517). Here they are provoked by the learning "
        "rate: the mechanism, not the phenomenon.";
    i.badge = LabBadge::provoked;
    i.provoked_by = "lr";
    i.knobs = {size_knob("a low learning rate, no weight decay, and more aligned starts"),
               number_knob("layers", "Layers", "4", 1, 32, ""),
               number_knob("steps", "Steps", "300", 10, 100000, "of 1,024 tokens", true)};
    for (LabKnob& k : start_knobs()) i.knobs.push_back(std::move(k));
    i.plots = {{"Largest |silu(gate) up|", "step", "of all layers", {kPeak}, false, true},
               {"Values that the clamp changed", "step", "share", {kClipped}, false, false},
               {"|cos| of a channel's gate and up projection", "step", "mean", {kAlignment}, false, false},
               {"Kurtosis over channels", "step", "mean of layers", {kKurtosis}, false, true},
               {"Loss", "step", "nats", {kLoss}, false, false}};
    i.expected_time = "a minute";
    return i;
}

std::vector<Arm> arms(const Knobs& knobs) {
    std::vector<Arm> all;
    for (const Cell& c : cells_of_size(kCells, knobs)) {
        Arm a{c.label(), micro_model({static_cast<int>(knobs.integer("layers"))}),
              micro_training(knobs.integer("steps"), c.lr)};
        a.model.swiglu_limit = c.limit;
        a.train.weight_decay = c.decay;
        set_start(knobs, a.train);
        a.train.init_aligned = c.aligned;
        a.train.fp8_activations = c.fp8 != Fp8::none;
        a.train.fp8_activation_scale = c.fp8 == Fp8::tensor    ? ActivationScale::tensor
                                       : c.fp8 == Fp8::delayed ? ActivationScale::delayed
                                                               : ActivationScale::row;
        a.train.metrics = MetricsLevel::layers, a.train.metrics_every = 1;
        all.push_back(std::move(a));
    }
    return all;
}

// What FP8 costs from an aligned start, against the same arm without it.
struct Jumps {
    LabTable table{"Loss with FP8 activations over the same arm's without, each seed", {"arm", "ratio"}, {}};
    int n_jumped = 0, n = 0, n_late = 0, n_delayed = 0;  // of the free arms with one scale per tensor, by more than 2 %
};
Jumps fp8_jumps(const Knobs& knobs, const Results& r) {
    const auto end = [](const LabSeries& s) { return last_mean(s); };
    Jumps jumps;
    for (const Cell& c : cells_of_size(kCells, knobs)) {
        if (c.fp8 == Fp8::none) continue;
        Cell without = c;
        without.fp8 = Fp8::none;
        const auto with = r.values(c.label(), kLoss, end), base = r.values(without.label(), kLoss, end);
        const BySeed ratios = combined(with, base, [](double a, double b) { return a / b; });
        jumps.table.rows.push_back({c.label(), each_fixed(ratios, 3)});
        if (c.limit < kNoLimit) continue;
        for (const double x : ratios.counted()) {
            if (c.fp8 == Fp8::tensor) ++jumps.n, jumps.n_jumped += x > 1.02;
            if (c.fp8 == Fp8::delayed) ++jumps.n_delayed, jumps.n_late += x > 1.02;
        }
    }
    return jumps;
}

LabVerdict judge(const Knobs& knobs, const std::vector<LabRun>& runs) {
    const Results r(arms(knobs), runs);
    const bool is_preset = knobs.changed().empty();
    const auto end = [](const LabSeries& s) { return last_mean(s); };
    LabVerdict v;
    LabTable t{"Largest |silu(gate) up| of the run, largest share that the clamp changed, last loss; each seed",
               {"arm", "peak", "calibration", "within 3x", "clamped share", "|cos| gate, up", "kurtosis", "loss"},
               {}};
    int n_bands = 0, n_inside = 0, n_above = 0, n_free = 0, n_capped = 0, n_clamped = 0, n_alike = 0, n_compared = 0;
    for (const Cell& c : cells_of_size(kCells, knobs)) {
        const auto peaks = r.values(c.label(), kPeak, largest), losses = r.values(c.label(), kLoss, end);
        std::string claim, inside;
        if (is_preset && c.claim > 0 && !peaks.empty()) {
            const bool fits = is_within_factor(mean(peaks), c.claim, 3);
            claim = significant(c.claim, 3), inside = fits ? "yes" : "no";
            ++n_bands, n_inside += fits;
        }
        for (const double p : peaks.counted()) {
            if (c.limit == kLimit) ++n_clamped, n_capped += p <= kLimit * kLimit * (1 + 1e-6);
            if (c.limit > kLimit && c.lr > 0.01) ++n_free, n_above += p > kLimit * kLimit;
        }
        if (c.limit == kLimit && c.aligned == 0) {
            Cell free = c;
            free.limit = kNoLimit;
            const auto other = r.values(free.label(), kLoss, end);
            n_alike += count_pairs(other, losses, [](double a, double b) { return std::abs(b / a - 1) <= 0.02; });
            n_compared += n_pairs(other, losses);
        }
        t.rows.push_back({c.label(), each(peaks, 3), claim, inside,
                          c.limit == kLimit ? each(r.values(c.label(), kClipped, largest), 2) : "",
                          each_fixed(r.values(c.label(), kAlignment, end), 2),
                          each(r.values(c.label(), kKurtosis, end), 2), each_fixed(losses, 2)});
    }
    v.tables = {t};
    if (!r.missing().empty()) {
        v.sentence = r.missing();
        return v;
    }
    const Jumps jumps = fp8_jumps(knobs, r);
    v.tables.push_back(jumps.table);
    v.outcome = n_above == 0                                  ? LabVerdict::Outcome::not_visible
                : n_capped == n_clamped && n_alike == n_compared ? LabVerdict::Outcome::holds
                                                              : LabVerdict::Outcome::mixed;
    v.sentence = "Without the clamp the peak at learning rate 0.03 passed 100 in " + of_runs(n_above, n_free) +
                 "; with it, it stayed at 100 = 10 x 10 or below in " + of_runs(n_capped, n_clamped) +
                 ", and the loss within 2 % in " + std::to_string(n_alike) + " of " + std::to_string(n_compared) +
                 " pairs. An accelerated mechanism, not a natural spike. From an aligned start FP8 with " +
                 "one scale per tensor cost more than 2 % of the loss in " + of_runs(jumps.n_jumped, jumps.n) +
                 ", with the scale of the last 16 steps in " + of_runs(jumps.n_late, jumps.n_delayed) + "." +
                 within_calibration(n_inside, n_bands, "peaks");
    return v;
}

}  // namespace

Experiment x05_clamp() {
    return {describe(), "x05_clamp", nullptr, arms, judge};
}

}  // namespace vitrine::lab
