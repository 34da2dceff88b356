// Runs by arm and seed, their curves reduced to numbers, and the small models that the training experiments share.
#pragma once
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "experiments/experiment.h"

namespace vitrine::lab {

// One number of one run's curve.
double last_mean(const LabSeries& s, int n = 20);  // mean of the last n points; NaN without any
double first_mean(const LabSeries& s, int n = 20);  // of the first n
double largest(const LabSeries& s);
double at_step(const LabSeries& s, double step);  // of the last point up to it
using Reduce = std::function<double(const LabSeries&)>;

// One number of each run of an arm, by seed: arms are compared seed by seed. What is not counted stands in a table all the same:
// a run that somebody changed while it ran, one that failed or diverged, a seed that other arms have and this one lacks.
enum class SeedState { counted, changed, failed, diverged, absent };
struct SeedValue {
    SeedState state = SeedState::absent;
    double value = 0;  // of a run that was finished
};
struct BySeed {
    std::map<int64_t, SeedValue> of;
    std::vector<double> counted() const;  // ascending seeds
    size_t size() const { return counted().size(); }
    bool empty() const { return size() == 0; }
};
// Seeds that both have; where one is not counted, neither is the result.
BySeed combined(const BySeed& a, const BySeed& b, const std::function<double(double, double)>& f);

class Results {
  public:
    // In the order of the arms.
    Results(const std::vector<Arm>& arms, const std::vector<LabRun>& runs);
    // NaN for a finished run without the metric.
    BySeed values(const std::string& arm, const std::string& metric, const Reduce& reduce) const;
    // Of whole runs.
    BySeed numbers(const std::string& arm, const std::function<double(const LabRun&)>& number) const;
    // The same as values() for a table's cell of a metric that not every arm has: empty when no run of the arm has a point of it.
    BySeed values_if_measured(const std::string& arm, const std::string& metric, const Reduce& reduce) const;
    bool has(const std::string& arm) const;  // a run that counts
    int n_seeds() const;          // of the arm with the fewest runs that count
    std::string missing() const;  // "" or a sentence naming arms without a run that counts
    int n_diverged() const;       // runs that ended with a number that is not finite
    // The finished runs of an arm that count, ascending seeds.
    std::vector<const LabRun*> runs_of(const std::string& arm) const;
    // Adds the table of the runs that are not counted, with seed, step and reason, and a sentence about them. "holds" is "mixed"
    // when a run failed: a comparison that could not be made is none that held.
    void tell_uncounted(LabVerdict& v) const;

  private:
    std::vector<std::string> order_;
    std::map<std::string, std::map<int64_t, const LabRun*>> runs_;
    std::set<int64_t> seeds_;  // of all arms
};

std::string each(const std::vector<double>& values, int digits);  // "433 / 730 / 670"
std::string each(const BySeed& values, int digits);  // "433 / diverged / 670": every seed; "" without any run
std::string each_fixed(const BySeed& values, int digits);
double mean(const BySeed& values);  // of what counts; NaN without any
double mean(const std::vector<double>& values);
int count_pairs(const BySeed& a, const BySeed& b, const std::function<bool(double, double)>& holds);  // seeds for which it holds
int n_pairs(const BySeed& a, const BySeed& b);  // seeds that count in both

// A curve over x: mean of the seeds that count, their least and largest. Points without any are left out.
LabCurve curve_over(const std::string& label, const std::vector<std::pair<double, BySeed>>& points);

std::string of_seeds(int n, int of);  // "3 of 3 seeds"
std::string of_runs(int n, int of);   // "6 of 6 runs": of several arms
// " 3 of 5 peaks lie within a factor of 3 of the calibration."; "" when it has none of these.
std::string within_calibration(int n, int of, const std::string& what);

// ---- what the training experiments start from
struct MicroShape {
    int layers = 4;
    ResidualKind residual = ResidualKind::plain;
    int n_experts = 1, top_k = 1, width = 64;  // and one shared expert of the same width
};
// d 64, 4 heads of 16 (8 rotary), a window that sees all of a sample, vocabulary of mix3.
ModelConfig micro_model(const MicroShape& s);
// mix3, 16 sequences of 64 tokens a step, AdamW (0.9, 0.95), decay 0.1, clip 1, no balancing; matrices and
// embedding start as PyTorch's do: X01's gains are then those of the calibration.
TrainConfig micro_training(int64_t steps, double lr);

// Knobs "init_std" and "init_embedding": how a model from nothing starts; the preset is micro_training's.
std::vector<LabKnob> start_knobs();
void set_start(const Knobs& knobs, TrainConfig& t);

LabKnob size_knob(const std::string& what_full_adds);
bool is_full(const Knobs& knobs);
// The rows of an experiment's table that its size runs: all, or those marked is_quick.
template <class Cell, size_t N>
std::vector<Cell> cells_of_size(const Cell (&all)[N], const Knobs& knobs) {
    std::vector<Cell> chosen;
    for (const Cell& c : all)
        if (c.is_quick || is_full(knobs)) chosen.push_back(c);
    return chosen;
}

}  // namespace vitrine::lab
