// The clock for short spans, against the system's.
#include "engine/base/ticks.h"

#include <gtest/gtest.h>

#include <thread>

namespace vitrine {
namespace {

// Each reading of the system's clock lies between two of ours or ours between two of its: no bound depends on the
// machine's load.
TEST(Ticks, ASpanIsAsLongAsTheSystemsClockSays) {
    using Clock = std::chrono::steady_clock;
    const Ticks clock;
    const auto outer = Clock::now();
    const uint64_t start = clock.now();
    const auto inner = Clock::now();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const double least = std::chrono::duration<double, std::milli>(Clock::now() - inner).count();
    const double ms = clock.ms_since(start);
    const double most = std::chrono::duration<double, std::milli>(Clock::now() - outer).count();
    EXPECT_GE(ms, least * 0.999);  // the counter's rate was measured over 2 ms
    EXPECT_LE(ms, most * 1.001);
}

TEST(Ticks, ASpanIsNeverNegative) {
    const Ticks clock;
    EXPECT_EQ(clock.ms_since(clock.now() + (uint64_t{1} << 40)), 0.0);
    const uint64_t a = clock.now(), b = clock.now();
    EXPECT_GE(b, a);
}

}  // namespace
}  // namespace vitrine
