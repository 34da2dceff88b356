// A long series prepared for drawing: a pyramid of extremes, so that any zoom costs its pixels and not its points, and
// the running mean that smoothing shows.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace vitrine::viz::ui {

// Of finite values only; `n` counts them. min_positive: +inf when there is none.
struct Extremes {
    double min, max, min_positive;
    size_t n = 0;
    Extremes();
    void add(double v);
    void add(const Extremes& e);
};

class MinMaxPyramid {
  public:
    static constexpr size_t kFactor = 8;
    // `y` continues what was appended before: its first size() values are as they were.
    void append(std::span<const double> y);
    void clear();
    size_t size() const { return n_; }
    // Extremes of y[begin, end), exactly; reads at most 2 * kFactor values and nodes a level.
    Extremes query(std::span<const double> y, size_t begin, size_t end) const;

  private:
    std::vector<std::vector<Extremes>> levels_;  // levels_[k][i]: of kFactor^(k+1) values
    size_t n_ = 0;
};

// Exponential moving average without the start's bias: s_t = w s_{t-1} + (1 - w) y_t, shown as s_t / (1 - w^t) over the
// values that are there; a gap stays a gap and does not count. `weight` in [0, 1).
class MovingAverage {
  public:
    void append(std::span<const double> y, double weight);
    void clear();
    std::span<const double> values() const { return values_; }

  private:
    std::vector<double> values_;
    double sum_ = 0, rest_ = 1;  // rest_: w^t
};

// One series' cache. With a revision of 0 it is made anew in every frame; else only when the revision changed or values
// were appended.
class Curve {
  public:
    void update(std::span<const double> y, uint64_t revision, double weight);
    Extremes query(std::span<const double> y, size_t begin, size_t end) const;
    Extremes query_smooth(size_t begin, size_t end) const;
    std::span<const double> smooth() const { return average_.values(); }
    bool has_smooth() const { return weight_ > 0; }

  private:
    MinMaxPyramid raw_, smoothed_;
    MovingAverage average_;
    uint64_t revision_ = 0;
    double weight_ = 0;
};

}  // namespace vitrine::viz::ui
