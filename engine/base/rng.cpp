// Counter-based random numbers: the normal distribution.
#include "engine/base/rng.h"

#include <cmath>

namespace vitrine {

float CounterRng::normal(uint64_t i) const {
    const double u = (static_cast<double>(bits(2 * i) >> 11) + 0.5) * 0x1p-53;  // never 0
    const double v = static_cast<double>(bits(2 * i + 1) >> 11) * 0x1p-53;
    return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v));
}

}  // namespace vitrine
