// Random draws one after the other from a counter-based stream: an item is a function of (seed, domain, index) alone.
#pragma once
#include <cstddef>
#include <utility>
#include <vector>

#include "engine/base/rng.h"

namespace vitrine::curriculum {

class Draws {
  public:
    explicit Draws(const CounterRng& rng) : rng_(rng) {}
    uint64_t bits() { return rng_.bits(at_++); }
    uint64_t below(uint64_t n) { return bits() % n; }
    int between(int lowest, int highest) {  // both may come
        return lowest + static_cast<int>(below(static_cast<uint64_t>(highest - lowest + 1)));
    }
    double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
    bool chance(double p) { return uniform() < p; }
    template <class List>
    auto& pick(List& list) {
        return list[static_cast<size_t>(below(std::size(list)))];
    }
    template <class T>
    void shuffle(std::vector<T>& x) {
        for (size_t i = x.size(); i > 1; --i) std::swap(x[i - 1], x[static_cast<size_t>(below(i))]);
    }

  private:
    CounterRng rng_;
    uint64_t at_ = 0;
};

}  // namespace vitrine::curriculum
