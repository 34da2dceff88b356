// X06: Anticipatory Routing: experts chosen by older weights, against outliers at a high learning rate.
#include <algorithm>
#include <cmath>

#include "experiments/experiment.h"
#include "experiments/runs.h"

namespace vitrine::lab {
namespace {

constexpr const char *kPeak = "experts.peak", *kLoss = "loss.next", *kChurn = "routing_churn";
// Calibration at delta 20, learning rate 0.01, 300 steps, seeds by seed: peaks off and on, and losses.
constexpr const char *kClaimOff = "327 / 168 / 182", *kClaimOn = "75 / 83 / 65";
constexpr double kLowOff = 168, kHighOff = 327, kLowOn = 65, kHighOn = 83;

LabInfo describe() {
    LabInfo i;
    i.name = "X06";
    i.title = "Anticipatory Routing";
    i.question =
        "Does it calm outliers when experts are chosen by the weights of some steps ago, and what does it cost?";
    i.claim =
        "Decoupling the choice of experts from the features avoids loss spikes at about 20 % overhead; why is open (V4 "
        "report).";
    i.literature =
        "Only the V4 report; no replication at small scale was found. No loss spike arises here by itself, so that it "
        "prevents them is not tested: "
        "outliers are.";
    i.badge = LabBadge::provoked;
    i.provoked_by = "lr";
    i.knobs = {size_knob("other ages of the weights, a late start, and the triggered mode"),
               number_knob("delta", "Age of the weights", "20", 1, 1000, "in steps; of the quick arm"),
               number_knob("lr", "Learning rate", "0.01", 1e-4, 0.3, "AdamW", true),
               number_knob("layers", "Layers", "3", 1, 16, ""),
               number_knob("experts", "Experts", "16", 4, 256, "of which two and a shared one are active"),
               choice_knob("balance", "Balancing", {"bias", "none"}, "bias: moved by 0.01 a step"),
               number_knob("start", "First step with old choices", "0", 0, 100000,
                           "0: the first delta batches follow the untrained weights"),
               number_knob("steps", "Steps", "300", 10, 100000, "of 1,024 tokens", true)};
    for (LabKnob& k : start_knobs()) i.knobs.push_back(std::move(k));
    i.plots = {{"Largest |silu(gate) up|", "step", "of all layers", {kPeak}, false, true},
               {"Loss", "step", "nats", {kLoss}, false, false},
               {"Choices that older weights made differently", "step", "share", {kChurn}, false, false},
               {"Violation of balance", "step", "mean of layers", {"max_vio"}, false, false}};
    i.expected_time = "a minute and a half";
    return i;
}

std::string always(int64_t delta) {
    return "delta " + std::to_string(delta);
}

std::vector<int64_t> deltas(const Knobs& knobs) {
    if (is_full(knobs)) return {1, 5, 20, 50};
    return {knobs.integer("delta")};
}

std::vector<Arm> arms(const Knobs& knobs) {
    const ModelConfig model = [&] {
        ModelConfig c = micro_model({static_cast<int>(knobs.integer("layers")), ResidualKind::plain,
                                     static_cast<int>(knobs.integer("experts")), 2, 32});
        c.swiglu_limit = 1e6;  // outliers may grow
        return c;
    }();
    TrainConfig train = micro_training(knobs.integer("steps"), knobs.number("lr"));
    train.balance = knobs.text("balance") == "bias" ? BalanceKind::bias : BalanceKind::none;
    train.bias_speed = 0.01, train.anticipatory_start = knobs.integer("start");
    set_start(knobs, train);
    train.metrics = MetricsLevel::layers, train.metrics_every = 1;
    std::vector<Arm> all = {{"off", model, train}};
    for (const int64_t delta : deltas(knobs)) {
        all.push_back({always(delta), model, train});
        all.back().train.anticipatory = AnticipatoryMode::always;
        all.back().train.anticipatory_delta = delta;
    }
    const int64_t age = is_full(knobs) ? 20 : knobs.integer("delta");
    all.push_back({"random", model, train});
    all.back().train.anticipatory = AnticipatoryMode::random, all.back().train.anticipatory_delta = age;
    if (!is_full(knobs)) return all;
    all.push_back({"delta 20 from step 20", model, train});
    all.back().train.anticipatory = AnticipatoryMode::always, all.back().train.anticipatory_start = 20;
    all.push_back({"triggered", model, train});
    all.back().train.anticipatory = AnticipatoryMode::triggered;
    return all;
}

LabVerdict judge(const Knobs& knobs, const std::vector<LabRun>& runs) {
    const std::vector<Arm> all = arms(knobs);
    const Results r(all, runs);
    const bool is_preset = knobs.changed({"delta"}).empty();  // arms name their own
    const auto end = [](const LabSeries& s) { return last_mean(s); };
    const auto peaks_off = r.values("off", kPeak, largest), losses_off = r.values("off", kLoss, end);
    LabVerdict v;
    LabTable t{"Largest |silu(gate) up| of the run and last loss, each seed",
               {"arm", "peak", "calibration", "within 3x", "off / this", "churn", "loss", "loss above off"},
               {}};
    int n_bands = 0, n_inside = 0;
    for (const Arm& a : all) {
        const auto peaks = r.values(a.label, kPeak, largest), losses = r.values(a.label, kLoss, end);
        const bool is_off = a.label == "off",
                   has_claim = is_preset && (is_off || a.label == always(20)) && !peaks.empty();
        bool fits = has_claim;
        for (const double p : peaks.counted())
            fits = fits && p > (is_off ? kLowOff : kLowOn) / 3 && p < (is_off ? kHighOff : kHighOn) * 3;
        n_bands += has_claim, n_inside += fits;
        const BySeed ratios = combined(peaks_off, peaks, [](double off, double on) { return off / on; }),
                     costs = combined(losses, losses_off, [](double on, double off) { return on - off; });
        t.rows.push_back({a.label, each(peaks, 3), has_claim ? is_off ? kClaimOff : kClaimOn : "",
                          has_claim ? fits ? "yes" : "no" : "", is_off ? "" : each(ratios, 2),
                          each_fixed(r.values_if_measured(a.label, kChurn, end), 2), each_fixed(losses, 3),
                          is_off ? "" : each_fixed(costs, 3)});
    }
    v.tables = {t};
    if (!r.missing().empty()) {
        v.sentence = r.missing();
        return v;
    }
    const std::string judged = is_full(knobs) ? always(20) : always(knobs.integer("delta"));
    const auto peaks = r.values(judged, kPeak, largest), losses = r.values(judged, kLoss, end);
    const int n = n_pairs(peaks, peaks_off);
    const int n_lower = count_pairs(peaks_off, peaks, [](double off, double on) { return on < off; });
    const int n_worse = count_pairs(losses_off, losses, [](double off, double on) { return on > off; });
    const auto control = r.values("random", kPeak, largest), control_losses = r.values("random", kLoss, end);
    const int n_below = count_pairs(control, peaks, [](double random, double old) { return old < random; });
    const int n_cheaper = count_pairs(control_losses, losses, [](double random, double old) { return old < random; });
    const bool has_claim = is_preset && judged == always(20);
    v.outcome = n_lower == n   ? LabVerdict::Outcome::holds
                : n_lower == 0 ? LabVerdict::Outcome::does_not_hold
                               : LabVerdict::Outcome::not_visible;
    v.sentence = "With " + judged + " the peak was lower in " + of_seeds(n_lower, n) +
                 (has_claim ? " (calibration: 3 of 3, 2 to 4 times)" : "") + " and the loss higher in " + of_seeds(n_worse, n) +
                 (has_claim ? " (calibration: 3 of 3, by 0.02 to 0.04)" : "") +
                 ". Against as many random exchanges its peak was lower in " +
                 of_seeds(n_below, n) + " and its loss in " + of_seeds(n_cheaper, n) +
                 ". No loss spike arose by itself, so preventing them stays untested." +
                 within_calibration(n_inside, n_bands, "arms");
    return v;
}

}  // namespace

Experiment x06_anticipatory() {
    return {describe(), "x06_anticipatory", nullptr, arms, judge};
}

}  // namespace vitrine::lab
