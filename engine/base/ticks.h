// A clock for short spans: the processor's own counter, which costs a third of what the system's clock costs to read.
#pragma once
#include <chrono>
#include <cstdint>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace vitrine {

// Made in 2 ms the first time, in which the counter is measured against the system's clock. Where the processor has no
// counter that runs at one rate, ticks are the system clock's nanoseconds.
class Ticks {
  public:
    Ticks();
    uint64_t now() const {
#if defined(__x86_64__)
        if (has_counter_) return __rdtsc();
#endif
        return static_cast<uint64_t>(
            std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
    }
    double ms_since(uint64_t start) const {
        const uint64_t end = now();
        return end > start ? static_cast<double>(end - start) * ms_per_tick_ : 0.0;
    }

  private:
    double ms_per_tick_;
    bool has_counter_;
};

}  // namespace vitrine
