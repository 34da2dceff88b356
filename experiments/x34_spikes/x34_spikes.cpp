// X34: a loss spike from three batches of random tokens, and what clipping and beta_2 make of it; one batch many times.
#include <algorithm>
#include <cmath>

#include "engine/base/error.h"
#include "experiments/experiment.h"
#include "experiments/runs.h"

namespace vitrine::lab {
namespace {

constexpr const char *kLoss = "loss.next", *kNorm = "grad_norm", *kSurprise = "surprise.";
// RMS of g / sqrt(v) by group of weights; those that AdamW moves here.
constexpr const char* kGroups[] = {"attention", "experts", "embedding", "head", "norms", "vectors"};

struct Cell {
    double beta2;
    bool clips;
    bool is_quick;
    double epsilon = 1e-20;
    bool repeats = false;  // the batch before, again and again, in place of random tokens
    std::string label() const {
        return "beta2 " + shortest(beta2) + (clips ? " clip" : " no clip") + (epsilon > 1e-10 ? " eps 1e-8" : "") +
               (repeats ? " repeated" : "");
    }
};
constexpr Cell kCells[] = {{0.95, true, true},        {0.95, false, true},       {0.9, true, false},
                           {0.99, true, false},       {0.999, true, false},      {0.999, false, false},
                           {0.95, true, false, 1e-8}, {0.95, false, false, 1e-8},
                           {0.95, true, true, 1e-20, true}};

LabInfo describe() {
    LabInfo i;
    i.name = "X34";
    i.title = "Spikes from data";
    i.question =
        "What do three batches of random tokens do to a run, what do clipping and beta_2 change, and what does one batch "
        "do that comes many times?";
    i.claim = "Not claimed of V4; its report says that its spikes are not understood.";
    i.literature =
        "Spikes are tied to stale second moments (arXiv 2304.13013, 2304.09871). These here are transient, unlike "
        "V4's.";
    i.badge = LabBadge::provoked;
    i.provoked_by = "batches";
    i.knobs = {size_knob("other beta_2, and AdamW's epsilon 1e-8"),
               number_knob("batches", "Random batches", "3", 1, 100, "from step noise_at on"),
               number_knob("repeats", "Repeats", "20", 1, 100, "how often a batch comes again, from step noise_at on"),
               number_knob("noise_at", "At step", "200", 20, 100000, ""),
               number_knob("lr", "Learning rate", "0.003", 1e-4, 0.3, "AdamW", true),
               number_knob("layers", "Layers", "4", 1, 32, ""),
               number_knob("steps", "Steps", "300", 40, 100000, "of 1,024 tokens", true)};
    for (LabKnob& k : start_knobs()) i.knobs.push_back(std::move(k));
    i.plots = {{"Loss", "step", "nats", {kLoss}, false, false},
               {"Gradient norm before clipping", "step", "norm", {kNorm}, false, true},
               {"RMS of g / sqrt(v), of attention's weights", "step", "above 2.3: v lags behind",
                {std::string(kSurprise) + kGroups[0]}, false, true}};
    for (const char* g : kGroups) i.judged.push_back(std::string(kSurprise) + g);  // all of them would be a plot of names
    i.expected_time = "half a minute";
    return i;
}

const char* batches_knob(const Cell& c) { return c.repeats ? "repeats" : "batches"; }

std::vector<Arm> arms(const Knobs& knobs) {
    if (knobs.integer("steps") <= knobs.integer("noise_at"))
        throw_if_any({{"X34", "steps", knobs.text("steps"), "expected more than noise_at (" + knobs.text("noise_at") + ")",
                       ""}});
    std::vector<Arm> all;
    for (const Cell& c : cells_of_size(kCells, knobs)) {
        Arm a{c.label(), micro_model({static_cast<int>(knobs.integer("layers"))}),
              micro_training(knobs.integer("steps"), knobs.number("lr"))};
        set_start(knobs, a.train);
        a.train.beta2 = c.beta2, a.train.clip = c.clips ? 1 : 0, a.train.eps = c.epsilon;
        a.train.noise_step = knobs.integer("noise_at"), a.train.noise_batches = knobs.integer(batches_knob(c));
        a.train.noise_kind = c.repeats ? NoiseKind::repeat : NoiseKind::random;
        all.push_back(std::move(a));
    }
    return all;
}

struct Spike {
    double before = NAN, peak = NAN,
           steps = NAN;    // mean loss of the 20 steps before; largest of the 20 after; until it is back
    double within = NAN;  // of the last of the other batches
};
Spike spike(const LabSeries& s, double first, double n_batches) {
    double sum = 0, top = -INFINITY;
    int n = 0;
    Spike out;
    for (size_t i = 0; i < s.step.size(); ++i)
        if (s.step[i] >= first - 20 && s.step[i] < first) sum += s.value[i], top = std::max(top, s.value[i]), ++n;
    if (n == 0) return out;
    out.before = sum / n;
    const double end = first + n_batches;
    for (size_t i = 0; i < s.step.size(); ++i) {
        if (s.step[i] == end - 1) out.within = s.value[i];
        if (s.step[i] < end || s.step[i] >= end + 20) continue;
        out.peak = std::isnan(out.peak) ? s.value[i] : std::max(out.peak, s.value[i]);
        if (std::isnan(out.steps) && s.value[i] <= top) out.steps = s.step[i] - end;
    }
    return out;
}

// The largest of all groups of weights at each step.
LabSeries largest_surprise(const LabRun& run) {
    LabSeries top;
    for (const char* g : kGroups) {
        const auto one = run.scalars.find(std::string(kSurprise) + g);
        if (one == run.scalars.end() || one->second.step.empty()) continue;
        if (top.step.empty()) top = one->second;
        for (size_t i = 0; i < std::min(top.value.size(), one->second.value.size()); ++i)
            top.value[i] = std::max(top.value[i], one->second.value[i]);
    }
    return top;
}

// Is v behind before the loss of ordinary batches is at its largest?
LabTable surprise_table(const Knobs& knobs, const Results& r) {
    LabTable t{"Largest RMS of g / sqrt(v) of any group of weights, each seed (above 2.3: stale second moments, arXiv 2304.13013)",
               {"arm", "20 steps before the others", "from the first of them on", "steps from there to the largest ordinary loss"},
               {}};
    const double first = knobs.number("noise_at");
    for (const Cell& c : cells_of_size(kCells, knobs)) {
        const double end = first + knobs.number(batches_knob(c));
        const auto top = [](const LabSeries& s, double from, double to) {  // {step, value}; NaN where there is none
            std::pair<double, double> best{NAN, NAN};
            for (size_t i = 0; i < s.step.size(); ++i)
                if (s.step[i] >= from && s.step[i] < to && !(s.value[i] <= best.second)) best = {s.step[i], s.value[i]};
            return best;
        };
        const auto before = [&](const LabRun& run) { return top(largest_surprise(run), first - 20, first).second; };
        const auto later = [&](const LabRun& run) { return top(largest_surprise(run), first, end + 20).second; };
        const auto ahead = [&](const LabRun& run) {
            const auto loss = run.scalars.find(kLoss);
            if (loss == run.scalars.end()) return double(NAN);
            return top(loss->second, end, end + 20).first - top(largest_surprise(run), first, end + 20).first;
        };
        t.rows.push_back({c.label(), each(r.numbers(c.label(), before), 2), each(r.numbers(c.label(), later), 2),
                          each(r.numbers(c.label(), ahead), 2)});
    }
    return t;
}

// Loss and RMS of g / sqrt(v) about the other batches: means over the seeds of each quick arm.
LabChart spike_chart(const Knobs& knobs, const Results& r) {
    const double first = knobs.number("noise_at"), last = first + std::max(knobs.number("batches"), knobs.number("repeats")) + 20;
    LabChart chart{"Loss and largest RMS of g / sqrt(v) about the other batches", "step", "nats; RMS", false, true, {}};
    for (const Cell& c : kCells) {
        if (!c.is_quick) continue;
        for (const bool is_loss : {true, false}) {
            std::map<double, BySeed> at;
            for (const LabRun* run : r.runs_of(c.label())) {
                const auto loss = run->scalars.find(kLoss);
                if (is_loss && loss == run->scalars.end()) continue;
                const LabSeries s = is_loss ? loss->second : largest_surprise(*run);
                for (size_t i = 0; i < s.step.size(); ++i)
                    if (s.step[i] >= first - 10 && s.step[i] < last)
                        at[s.step[i]].of[run->seed] = {SeedState::counted, s.value[i]};
            }
            chart.curves.push_back(curve_over((is_loss ? "loss, " : "RMS, ") + c.label(), {at.begin(), at.end()}));
        }
    }
    return chart;
}

LabVerdict judge(const Knobs& knobs, const std::vector<LabRun>& runs) {
    const Results r(arms(knobs), runs);
    const double first = knobs.number("noise_at");
    const auto part = [&](const Cell& c, double Spike::*member) {
        const double batches = knobs.number(batches_knob(c));
        return r.values(c.label(), kLoss, [&](const LabSeries& s) { return spike(s, first, batches).*member; });
    };
    const bool is_preset = knobs.changed({"repeats"}).empty();  // the calibration had no repeated batch
    LabVerdict v;
    LabTable t{
        "Ordinary batches before and after the others, and the last of these; each seed",
        {"arm", "loss before", "last of the others", "largest after", "calibration", "steps until back", "largest gradient",
         "last loss"},
        {}};
    int n_risen = 0, n_runs = 0, n_dulled = 0, n_repeated = 0;
    for (const Cell& c : cells_of_size(kCells, knobs)) {
        const auto before = part(c, &Spike::before), peak = part(c, &Spike::peak);
        (c.repeats ? n_dulled : n_risen) += count_pairs(before, peak, [](double a, double b) { return b > a + 0.1; });
        for (const double p : peak.counted()) (c.repeats ? n_repeated : n_runs) += !std::isnan(p);  // something came after
        const std::string claim =
            is_preset && c.beta2 == 0.95 && c.epsilon < 1e-10 && !c.repeats ? c.clips ? "1.89 to 2.20, back in 4" : "1.89 to 2.79"
                                                                            : "";
        t.rows.push_back({c.label(), each_fixed(before, 2), each_fixed(part(c, &Spike::within), 2), each_fixed(peak, 2), claim,
                          each(part(c, &Spike::steps), 2), each(r.values(c.label(), kNorm, largest), 2),
                          each_fixed(r.values(c.label(), kLoss, [](const LabSeries& s) { return last_mean(s); }), 2)});
    }
    v.tables = {t, surprise_table(knobs, r)};
    if (!r.missing().empty()) {
        v.sentence = r.missing();
        return v;
    }
    v.charts = {spike_chart(knobs, r)};
    if (n_runs == 0) {
        v.sentence = "The runs end before an ordinary batch comes after the random ones: there is nothing to judge.";
        return v;
    }
    const auto clipped = part(kCells[0], &Spike::peak), free = part(kCells[1], &Spike::peak);
    const int n_higher = count_pairs(clipped, free, [](double a, double b) { return b > a; }), n = n_pairs(clipped, free);
    v.outcome = n_risen == 0    ? LabVerdict::Outcome::not_visible
                : n_higher == n ? LabVerdict::Outcome::holds
                                : LabVerdict::Outcome::mixed;
    v.sentence = "The loss on ordinary batches rose by more than 0.1 after the random ones in " +
                 of_runs(n_risen, n_runs) + "; without clipping the peak was higher in " + of_seeds(n_higher, n) +
                 (is_preset ? " (calibration: 2.79 against 2.20)" : "") + ". One batch " + shortest(knobs.number("repeats")) +
                 (n_repeated ? " times more raised it by as much in " + of_runs(n_dulled, n_repeated)
                             : " times more: no ordinary one comes after it") +
                 ". Provoked, and transient: nothing that V4's report speaks of.";
    return v;
}

}  // namespace

Experiment x34_spikes() {
    return {describe(), "x34_spikes", nullptr, arms, judge};
}

}  // namespace vitrine::lab
