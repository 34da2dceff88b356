// Runs by arm and seed, their curves reduced to numbers, and the small models that the training experiments share.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "experiments/experiment.h"

namespace vitrine::lab {

// One number of one run's curve.
double last_mean(const LabSeries& s, int n = 20);  // mean of the last n points; NaN without any
double first_mean(const LabSeries& s, int n = 20);  // of the first n
double largest(const LabSeries& s);
double at_step(const LabSeries& s, double step);  // of the last point up to it
using Reduce = std::function<double(const LabSeries&)>;

class Results {
  public:
    // In the order of the arms; runs that failed count as missing.
    Results(const std::vector<Arm>& arms, const std::vector<LabRun>& runs);
    // One value a seed, ascending seeds, NaN for a run without the metric; empty when the arm has no finished run.
    std::vector<double> values(const std::string& arm, const std::string& metric, const Reduce& reduce) const;
    // The same for a table's cell of a metric that not every arm has: empty when no run of the arm has a point of it.
    std::vector<double> values_if_measured(const std::string& arm, const std::string& metric,
                                           const Reduce& reduce) const;
    bool has(const std::string& arm) const;
    int n_seeds() const;          // of the arm with the fewest runs
    std::string missing() const;  // "" or a sentence naming arms without a finished run

  private:
    std::vector<std::string> order_;
    std::map<std::string, std::map<int64_t, const LabRun*>> runs_;
    std::map<std::string, std::string> errors_;
};

std::string each(const std::vector<double>& values, int digits);  // "433 / 730 / 670": every seed; "" without any
std::string each_fixed(const std::vector<double>& values, int digits);
double mean(const std::vector<double>& values);
// Seeds for which a holds of the pair; both lists in the order of the seeds.
int count_pairs(const std::vector<double>& a, const std::vector<double>& b,
                const std::function<bool(double, double)>& holds);
std::string of_seeds(int n, int of);  // "3 of 3 seeds"
std::string of_runs(int n, int of);   // "6 of 6 runs": of several arms

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
