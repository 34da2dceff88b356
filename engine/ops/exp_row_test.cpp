// Rows of exponentials against double precision, at every length.
#include "engine/ops/exp_row.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace vitrine {
namespace {

TEST(ExpRow, is_the_exponential_of_differences_and_their_sum) {
    for (int64_t n = 0; n <= 21; ++n) {
        std::vector<float> x, y;
        for (int64_t i = 0; i < n; ++i) x.push_back(3.0f - static_cast<float>(i * i) * 0.21f);
        y = x;
        y.push_back(7);  // behind the row
        const float sum = exp_row(y.data(), n, 3.25f);
        double expected = 0;
        for (int64_t i = 0; i < n; ++i) {
            const double e = std::exp(static_cast<double>(x[i]) - 3.25);
            expected += e;
            EXPECT_NEAR(y[i], std::max(e, std::exp(-87.0)), 3e-7 * e + 1e-44);  // measured: 1e-7
        }
        EXPECT_NEAR(sum, expected, 1e-6 * (expected + 1e-30));
        EXPECT_EQ(y.back(), 7);
    }
}

TEST(ExpRow, ends_and_what_is_no_number) {
    std::vector<float> x(4097);
    for (size_t i = 0; i < x.size(); ++i) x[i] = -87.0f + static_cast<float>(i) * (87.7f / 4096);
    std::vector<float> y = x;
    exp_row(y.data(), static_cast<int64_t>(y.size()), 0.0f);
    for (size_t i = 0; i < x.size(); ++i) {
        const double e = std::exp(static_cast<double>(x[i]));
        EXPECT_NEAR(y[i] / e, 1, 3e-7) << x[i];
    }
    float odd[3] = {-1e30f, std::numeric_limits<float>::quiet_NaN(), 0};
    exp_row(odd, 3, 0.0f);
    EXPECT_LT(odd[0], 2e-38f);
    EXPECT_TRUE(std::isnan(odd[1]));
    EXPECT_EQ(odd[2], 1);
}

TEST(ExpRow, the_largest_of_a_row) {
    for (int64_t n = 0; n <= 40; ++n)
        for (int64_t at = 0; at < n; ++at) {
            std::vector<double> x(n, -2.0);
            x[at] = -1;
            EXPECT_EQ(max_row(x.data(), n, -3.0), -1);
            EXPECT_EQ(max_row(x.data(), n, 0.5), 0.5);
        }
}

}  // namespace
}  // namespace vitrine
