// Cross-entropy: values by hand, ignored positions, gradients, large logits.
#include "engine/ops/cross_entropy/cross_entropy.h"

#include "tests/support/gradcheck.h"

namespace vitrine {
namespace {

std::vector<int32_t> some_targets(int64_t n, int64_t vocab) {
    std::vector<int32_t> targets;
    for (int64_t t = 0; t < n; ++t) targets.push_back(t % 5 == 3 ? -1 : static_cast<int32_t>((t * 7 + 1) % vocab));
    return targets;
}

TEST(CrossEntropy, gradients_match_differences) {
    for (const auto& [n, vocab] : {std::array<int64_t, 2>{1, 1}, {2, 17}, {33, 31}, {9, 257}, {4, 1028}}) {
        test::GradCheck check;
        const size_t z = check.input({n, vocab}, 3);
        const auto targets = some_targets(n, vocab);
        check.run([&](Ctx& ctx) {
            const CrossEntropy loss = cross_entropy(ctx, check.at(z), targets, 0.3);
            ctx.training->losses.push_back({"next token", 0, loss.value, 0.3});
            return std::vector<Tensor>{};
        });
    }
}

TEST(CrossEntropy, is_the_mean_over_counted_positions) {
    test::OpFixture f;
    Tape tape;
    f.ctx.tape = &tape;
    const Tensor z = f.tensor({3, 2}, {0, 0, 1000, 0, 0, -1000});
    const CrossEntropy loss = cross_entropy(f.ctx, z, std::vector<int32_t>{1, -1, 1});
    EXPECT_EQ(loss.n_counted, 2);
    EXPECT_NEAR(loss.losses_T.f32()[0], std::log(2.0), 1e-7);
    EXPECT_EQ(loss.losses_T.f32()[1], 0);
    EXPECT_NEAR(loss.losses_T.f32()[2], 1000, 1e-4);
    EXPECT_NEAR(loss.value, (std::log(2.0) + 1000) / 2, 1e-4);
    tape.backward(f.ctx);
    const float want[] = {0.25f, -0.25f, 0, 0, 0.5f, -0.5f};
    for (int i = 0; i < 6; ++i) EXPECT_NEAR(tape.grad(z).f32()[i], want[i], 1e-6) << i;
}

TEST(CrossEntropy, nothing_counted_is_nothing_learnt) {
    test::OpFixture f;
    Tape tape;
    f.ctx.tape = &tape;
    const Tensor z = f.tensor({1, 3}, {1, 2, 3});
    const CrossEntropy loss = cross_entropy(f.ctx, z, std::vector<int32_t>{-1});
    EXPECT_EQ(loss.value, 0);
    EXPECT_EQ(loss.n_counted, 0);
    tape.backward(f.ctx);
    EXPECT_FALSE(tape.has_grad(z));
}

}  // namespace
}  // namespace vitrine
