// Gradients of the norms.
#include "engine/ops/rmsnorm/rmsnorm.h"

#include "tests/support/gradcheck.h"

namespace vitrine {
namespace {

TEST(RmsnormTape, gradients_match_differences) {
    for (const auto& [t, d] : {std::array<int64_t, 2>{1, 1}, {3, 17}, {40, 64}, {2, 257}, {9, 132}, {5, 384}, {3, 1028},
                               {2, 2052}}) {
        test::GradCheck check;
        Param w;
        const size_t x = check.input({t, d});
        check.param(w, {d}, 0.3, 1);
        check.run([&](Ctx& ctx) { return std::vector{rmsnorm(ctx, check.at(x), w, 1e-6)}; });
    }
}

TEST(RmsnormTape, gradients_of_the_norm_by_head) {
    for (int64_t c : {17, 64}) {
        test::GradCheck check;
        const size_t x = check.input({5, 3, c});
        check.run([&](Ctx& ctx) { return std::vector{rmsnorm_heads(ctx, check.at(x), 1e-6)}; });
    }
}

}  // namespace
}  // namespace vitrine
