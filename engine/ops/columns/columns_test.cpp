// Columns put beside each other: values and gradients.
#include "engine/ops/columns/columns.h"

#include "tests/support/gradcheck.h"

namespace vitrine {
namespace {

TEST(Columns, every_head_gets_the_shared_ones_behind_its_own) {
    test::GradCheck check;
    const size_t x = check.input({35, 3, 5}), y = check.input({35, 2});
    check.run([&](Ctx& ctx) {
        const Tensor z = append_columns(ctx, check.at(x), check.at(y));
        if (ctx.dtype == DType::f32)
            for (int64_t r = 0; r < 35 * 3; ++r) {
                for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(z.f32()[r * 7 + i], check.at(x).f32()[r * 5 + i]);
                for (int64_t i = 0; i < 2; ++i) EXPECT_EQ(z.f32()[r * 7 + 5 + i], check.at(y).f32()[r / 3 * 2 + i]);
            }
        return std::vector{z};
    });
}

}  // namespace
}  // namespace vitrine
