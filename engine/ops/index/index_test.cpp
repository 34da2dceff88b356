// The choice of entries: against a full sort, with ties, signed zeros, infinities and every k.
#include "engine/ops/index/index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/support/op_fixture.h"

namespace vitrine {
namespace {

void expect_choice(const std::vector<float>& scores, int64_t k) {
    std::vector<int32_t> want(scores.size());
    std::iota(want.begin(), want.end(), 0);
    std::stable_sort(want.begin(), want.end(), [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
    const float out = k < static_cast<int64_t>(want.size()) ? scores[want[k]] : -INFINITY;
    want.resize(std::min<size_t>(k, want.size()));
    std::vector<int32_t> chosen, ranked;
    float left_out = 0;
    std::vector<int32_t> places;
    choose_top(scores.data(), static_cast<int64_t>(scores.size()), k, chosen, &ranked, &left_out, &places);
    EXPECT_EQ(ranked, want);
    ASSERT_EQ(places.size(), chosen.size());
    for (size_t i = 0; i < chosen.size(); ++i) EXPECT_EQ(ranked[places[i]], chosen[i]);
    EXPECT_EQ(left_out, out);
    std::sort(want.begin(), want.end());
    EXPECT_EQ(chosen, want);
}

TEST(Index, ChoiceEqualsAFullSort) {
    for (int n : {1, 2, 17, 31, 257, 5000})
        for (int k : {1, 2, 16, 30, 256, 512, 5000}) {
            std::vector<float> s = test::noise(n, n + k);
            expect_choice(s, k);
            for (float& x : s) x = std::round(x * 4) / 4;  // many exact ties
            expect_choice(s, k);
        }
}

TEST(Index, TiesGoToTheLowestEntryAndSignedZerosAreEqual) {
    expect_choice({0.0f, -0.0f, 0.0f, -0.0f}, 2);
    expect_choice({-0.0f, 0.0f, -1.0f}, 1);
    expect_choice(std::vector<float>(300, 1.5f), 100);
    expect_choice({-INFINITY, 3, INFINITY, 3, -INFINITY}, 3);
}

}  // namespace
}  // namespace vitrine
