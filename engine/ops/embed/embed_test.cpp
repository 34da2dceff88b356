// Gradients of the embedding: repeated ids add up.
#include "engine/ops/embed/embed.h"

#include "engine/ops/rope/rope.h"
#include "tests/support/gradcheck.h"

namespace vitrine {
namespace {

TEST(EmbedTape, gradients_match_differences) {
    test::GradCheck check;
    Param table;
    check.param(table, {7, 5});
    const std::vector<int32_t> ids = {3, 0, 3, 6, 3};
    check.run([&](Ctx& ctx) { return std::vector{embed_streams(ctx, table, ids, 4)}; });
}

// One id more often than a block of a GPU adds up, and rows of whole float4.
TEST(EmbedTape, a_frequent_id) {
    test::GradCheck check;
    Param table;
    check.param(table, {5, 132});
    std::vector<int32_t> ids(77, 2);
    ids[3] = 4, ids[70] = 0;
    check.run([&](Ctx& ctx) { return std::vector{embed_streams(ctx, table, ids, 1)}; });
}

TEST(EmbedTape, the_padding_row_takes_no_gradient) {
    test::OpFixture f;
    std::vector<float> table(7 * 5, 1), gradient(7 * 5, 0);
    Param p{"w", {7, 5}, {}, nullptr, {}};
    p.master = {table.data(), DType::f32, {7, 5}};
    Tape tape(true);
    tape.bind(p.master, {gradient.data(), DType::f32, {7, 5}});
    TrainingStep step;
    f.ctx.tape = &tape, f.ctx.training = &step;
    const std::vector<int32_t> ids = {3, 0, 3, 6, 3};
    const Tensor x = embed_streams(f.ctx, p, ids, 2, 3);
    for (float& g : tape.grad(x).span<float>()) g = 1;
    tape.backward(f.ctx);
    for (int row = 0; row < 7; ++row) EXPECT_EQ(gradient[static_cast<size_t>(row) * 5 + 4], row == 0 || row == 6 ? 2 : 0) << row;
}

TEST(RopeTape, gradients_match_differences) {
    test::GradCheck check;
    const size_t x = check.input({6, 2, 10});
    const std::vector<int64_t> positions = {0, 1, 2, 5, 100, 7};
    for (int sign : {1, -1})
        check.run([&](Ctx& ctx) {
            const RopeAngles angles = rope_angles(ctx, positions, {1.0, 0.1, 0.01});
            return std::vector{apply_rope(ctx, check.at(x), angles, sign)};
        });
}

}  // namespace
}  // namespace vitrine
