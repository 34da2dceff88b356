// One axis of a plot: data to pixels and back.
#pragma once
#include <algorithm>
#include <cmath>

namespace vitrine::viz::ui {

struct Axis {
    double lo = 0, hi = 1;
    bool is_log = false;
    float from = 0, to = 1;  // pixels
    double position(double v) const {
        if (is_log) return (std::log(std::max(v, 1e-300)) - std::log(lo)) / (std::log(hi) - std::log(lo));
        return (v - lo) / (hi - lo);
    }
    double at(double t) const {
        return is_log ? std::exp(std::log(lo) + t * (std::log(hi) - std::log(lo))) : lo + t * (hi - lo);
    }
    float pixel(double v) const { return from + static_cast<float>(std::clamp(position(v), -4.0, 5.0)) * (to - from); }
    double data(float p) const { return at((p - from) / (to - from)); }
};

}  // namespace vitrine::viz::ui
