// Pyramids and moving averages.
#include "viz/widgets/curve.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace vitrine::viz::ui {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

Extremes scan(std::span<const double> y, size_t begin, size_t end) {
    Extremes e;
    for (size_t i = begin; i < end; ++i) e.add(y[i]);
    return e;
}

}  // namespace

Extremes::Extremes() : min(kInf), max(-kInf), min_positive(kInf) {}

void Extremes::add(double v) {
    if (!std::isfinite(v)) return;
    min = std::min(min, v), max = std::max(max, v);
    if (v > 0) min_positive = std::min(min_positive, v);
    ++n;
}

void Extremes::add(const Extremes& e) {
    min = std::min(min, e.min), max = std::max(max, e.max), min_positive = std::min(min_positive, e.min_positive);
    n += e.n;
}

void MinMaxPyramid::clear() {
    levels_.clear();
    n_ = 0;
}

void MinMaxPyramid::append(std::span<const double> y) {
    if (y.size() <= n_) return;
    // The last node of each level may have been incomplete: it is made again.
    size_t first = n_ / kFactor, n_nodes = (y.size() + kFactor - 1) / kFactor;
    for (size_t k = 0; n_nodes > 1 || k == 0; ++k) {
        if (levels_.size() <= k) levels_.emplace_back(), first = 0;  // a new level covers what came before it
        levels_[k].resize(n_nodes);
        for (size_t i = first; i < n_nodes; ++i) {
            if (k == 0) {
                levels_[k][i] = scan(y, i * kFactor, std::min(y.size(), (i + 1) * kFactor));
            } else {
                Extremes e;
                const auto& below = levels_[k - 1];
                for (size_t j = i * kFactor; j < std::min(below.size(), (i + 1) * kFactor); ++j) e.add(below[j]);
                levels_[k][i] = e;
            }
        }
        first /= kFactor, n_nodes = (n_nodes + kFactor - 1) / kFactor;
    }
    n_ = y.size();
}

Extremes MinMaxPyramid::query(std::span<const double> y, size_t begin, size_t end) const {
    end = std::min(end, n_);
    Extremes e;
    // Up from the values: at each level the ends that no whole node above covers.
    for (size_t k = 0; begin < end; ++k) {
        const auto take = [&](size_t i) { k == 0 ? e.add(y[i]) : e.add(levels_[k - 1][i]); };
        if (k >= levels_.size()) {
            for (; begin < end; ++begin) take(begin);
            break;
        }
        for (; begin < end && begin % kFactor != 0; ++begin) take(begin);
        for (; end > begin && end % kFactor != 0; --end) take(end - 1);
        begin /= kFactor, end /= kFactor;
    }
    return e;
}

void MovingAverage::clear() {
    values_.clear();
    sum_ = 0, rest_ = 1;
}

void MovingAverage::append(std::span<const double> y, double weight) {
    values_.reserve(y.size());
    for (size_t i = values_.size(); i < y.size(); ++i) {
        if (!std::isfinite(y[i])) {
            values_.push_back(std::numeric_limits<double>::quiet_NaN());
            continue;
        }
        sum_ = weight * sum_ + (1 - weight) * y[i];
        rest_ *= weight;
        values_.push_back(sum_ / (1 - rest_));
    }
}

void Curve::update(std::span<const double> y, uint64_t revision, double weight) {
    if (revision == 0 || revision != revision_ || y.size() < raw_.size()) {
        raw_.clear(), smoothed_.clear(), average_.clear();
        revision_ = revision;
    }
    if (weight != weight_) smoothed_.clear(), average_.clear(), weight_ = weight;
    if (revision != 0) raw_.append(y);
    if (weight_ <= 0) return;
    average_.append(y, weight_);
    if (revision != 0) smoothed_.append(average_.values());
}

Extremes Curve::query(std::span<const double> y, size_t begin, size_t end) const {
    return raw_.size() == y.size() ? raw_.query(y, begin, end) : scan(y, begin, std::min(end, y.size()));
}

Extremes Curve::query_smooth(size_t begin, size_t end) const {
    const std::span<const double> y = average_.values();
    return smoothed_.size() == y.size() ? smoothed_.query(y, begin, end) : scan(y, begin, std::min(end, y.size()));
}

}  // namespace vitrine::viz::ui
