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
