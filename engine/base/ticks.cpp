// A clock for short spans: whether the processor's counter can be used, and its rate.
#include "engine/base/ticks.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace vitrine {
namespace {

#if defined(__x86_64__)
bool runs_at_one_rate() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && (d & (1u << 8)) != 0;  // "invariant TSC"
}

struct Reading {
    std::chrono::steady_clock::time_point time;
    uint64_t ticks;
};
// Both clocks at once: of a few tries the one in which the least time passed.
Reading read_both() {
    Reading best{};
    uint64_t shortest = UINT64_MAX;
    for (int i = 0; i < 16; ++i) {
        const uint64_t before = Ticks::counter();
        const auto time = std::chrono::steady_clock::now();
        const uint64_t took = Ticks::counter() - before;
        if (took < shortest) shortest = took, best = {time, before + took / 2};
    }
    return best;
}
#endif

// 0: there is no such counter.
double measured_ms_per_tick() {
#if defined(__x86_64__)
    if (!runs_at_one_rate()) return 0;
    const Reading first = read_both();
    Reading last = first;
    while (last.time - first.time < std::chrono::milliseconds(2)) last = read_both();
    if (last.ticks <= first.ticks) return 0;
    return std::chrono::duration<double, std::milli>(last.time - first.time).count() /
           static_cast<double>(last.ticks - first.ticks);
#else
    return 0;
#endif
}

}  // namespace

Ticks::Ticks() {
    static const double of_counter = measured_ms_per_tick();
    has_counter_ = of_counter > 0;
    ms_per_tick_ = has_counter_ ? of_counter : 1e-6;
}

}  // namespace vitrine
