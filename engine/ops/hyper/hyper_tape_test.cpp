// Gradients of sites, mixing and head against differences, for every map, and the tape's values against inference.
#include <gtest/gtest.h>

#include "engine/ops/hyper/hyper.h"
#include "tests/support/gradcheck.h"

namespace vitrine {
namespace {

constexpr double kEps = 1e-6;
constexpr MixingMap kMaps[] = {MixingMap::sinkhorn, MixingMap::permutations, MixingMap::free};

HyperForm form_of(MixingMap map, int n, int iters = 20, bool is_head = false) {
    return {.map = map, .n = n, .iters = iters, .eps = kEps, .is_head = is_head};
}
void add_weights(test::GradCheck& check, HyperWeights& w, const HyperForm& f, int64_t d) {
    check.param(w.fn, {f.n_rows(), f.n * d}, 1.5 / std::sqrt(static_cast<double>(f.n * d)));
    check.param(w.base, {f.n_rows()}, 0.7);
    check.param(w.scale, {f.is_head ? 1 : 3}, 0.3, 0.8);
}

TEST(HyperTape, site_gradients_match_differences) {
    for (MixingMap map : kMaps)
        for (const auto& [n, d, t] : {std::array<int64_t, 3>{1, 1, 1}, {2, 17, 5}, {4, 64, 5}, {4, 17, 33}, {3, 1, 33},
                                      {4, 36, 67}}) {
            SCOPED_TRACE(testing::Message() << "map " << static_cast<int>(map) << " n " << n << " d " << d << " T " << t);
            test::GradCheck check;
            HyperWeights w;
            const HyperForm form = form_of(map, static_cast<int>(n));
            const size_t x = check.input({t, n, d});
            add_weights(check, w, form, d);
            check.run([&](Ctx& ctx) {
                const HyperSite s = hyper_site(ctx, check.at(x), w, form, kEps);
                return std::vector{s.u_TD, s.pre_TN, s.post_TN, s.comb_TNN};
            });
        }
}

// Rows longer than what a GPU keeps of fn at a time, and more tokens than one of its blocks takes.
TEST(HyperTape, gradients_of_long_rows_and_many_tokens) {
    for (const auto& [d, t] : {std::array<int64_t, 2>{420, 3}, {4, 701}}) {
        test::GradCheck check;
        HyperWeights w;
        const HyperForm form = form_of(MixingMap::sinkhorn, 4, 3);
        const size_t x = check.input({t, 4, d});
        add_weights(check, w, form, d);
        check.run(
            [&](Ctx& ctx) {
                const HyperSite s = hyper_site(ctx, check.at(x), w, form, kEps);
                return std::vector{hyper_mix(ctx, check.at(x), s, s.u_TD)};
            },
            1e-7, 8);
    }
}

TEST(HyperTape, mixing_gradients_match_differences) {
    for (const auto& [n, d, t] : {std::array<int64_t, 3>{1, 1, 1}, {2, 17, 5}, {4, 64, 5}, {4, 17, 33}, {5, 3, 2}}) {
        test::GradCheck check;
        const size_t x = check.input({t, n, d}), f = check.input({t, d}), post = check.input({t, n}),
                     comb = check.input({t, n, n});
        check.run([&](Ctx& ctx) {
            const HyperSite s{{}, {}, check.at(post), check.at(comb)};
            return std::vector{hyper_mix(ctx, check.at(x), s, check.at(f))};
        });
    }
}

TEST(HyperTape, head_gradients_match_differences) {
    for (MixingMap map : kMaps)
        for (const auto& [n, d, t] : {std::array<int64_t, 3>{1, 1, 1}, {2, 17, 5}, {4, 64, 33}}) {
            test::GradCheck check;
            HyperWeights w;
            const HyperForm form = form_of(map, static_cast<int>(n), 1, true);
            const size_t x = check.input({t, n, d});
            add_weights(check, w, form, d);
            check.run([&](Ctx& ctx) { return std::vector{hyper_head(ctx, check.at(x), w, form, kEps)}; });
        }
}

// A whole site as the model uses it: X reaches the result through pre, post, comb, the RMS factor and directly.
TEST(HyperTape, a_site_around_a_sub_layer) {
    for (MixingMap map : kMaps)
        for (int iters : {1, 3}) {
            test::GradCheck check(7);
            HyperWeights w;
            const HyperForm form = form_of(map, 4, iters);
            const size_t x = check.input({5, 4, 17});
            add_weights(check, w, form, 17);
            check.run([&](Ctx& ctx) {
                const HyperSite s = hyper_site(ctx, check.at(x), w, form, kEps);
                return std::vector{hyper_mix(ctx, check.at(x), s, s.u_TD)};
            });
        }
}

TEST(HyperTape, values_equal_inference) {
    for (MixingMap map : kMaps) {
        test::OpFixture f;
        const HyperForm form = form_of(map, 4), head = form_of(map, 4, 20, true);
        const int64_t d = 31, t = 70, rows = form.n_rows();
        const auto values = [](int64_t n, uint32_t seed) { return test::noise(static_cast<size_t>(n), seed); };
        const HyperWeights w{test::make_param(values(rows * 4 * d, 1), {rows, 4 * d}), test::make_param(values(rows, 2), {rows}),
                             test::make_param({0.5f, 1, 0.8f}, {3})};
        const HyperWeights wh{test::make_param(values(16 * d, 5), {4, 4 * d}), test::make_param(values(4, 6), {4}),
                              test::make_param({0.7f}, {1})};
        const Tensor x = f.tensor({t, 4, d}, values(t * 4 * d, 3)), sub = f.tensor({t, d}, values(t * d, 4));
        const auto run = [&] {
            const HyperSite s = hyper_site(f.ctx, x, w, form, kEps);
            return std::vector{s.u_TD, s.pre_TN, s.post_TN, s.comb_TNN, hyper_mix(f.ctx, x, s, sub),
                               hyper_head(f.ctx, x, wh, head, kEps)};
        };
        const auto plain = run();
        Tape tape;
        f.ctx.tape = &tape;
        const auto taped = run();
        for (size_t i = 0; i < plain.size(); ++i)
            for (int64_t e = 0; e < plain[i].count(); ++e)
                ASSERT_NEAR(taped[i].f32()[e], plain[i].f32()[e], 1e-5) << "result " << i << " element " << e;
    }
}

TEST(HyperTape, share_of_the_mixing_that_the_token_decides) {
    test::OpFixture f;
    TrainingStep step;
    step.wants_hyper_stats = true;
    Tape tape(false);
    f.ctx.tape = &tape, f.ctx.training = &step, f.ctx.layer = 5;
    const HyperForm form = form_of(MixingMap::free, 2);  // rows: 2 + 2, then 4 of the mixing matrix
    const std::vector<float> fn = test::noise(8 * 6, 1), base = test::noise(8, 2), x = test::noise(5 * 6, 3);
    const HyperWeights w{test::make_param(fn, {8, 6}), test::make_param(base, {8}), test::make_param({9, 9, -0.25f}, {3})};
    hyper_site(f.ctx, f.tensor({5, 2, 3}, x), w, form, kEps);
    double fixed = 0, sum = 0;
    for (int r = 4; r < 8; ++r) fixed += static_cast<double>(base[r]) * base[r];
    for (int t = 0; t < 5; ++t) {
        double square = 0, moving = 0;
        for (int i = 0; i < 6; ++i) square += static_cast<double>(x[t * 6 + i]) * x[t * 6 + i];
        for (int r = 4; r < 8; ++r) {
            double m = 0;
            for (int i = 0; i < 6; ++i) m += static_cast<double>(fn[r * 6 + i]) * x[t * 6 + i];
            moving += std::pow(0.25 * m / std::sqrt(square / 6 + kEps), 2);
        }
        sum += std::sqrt(moving) / (std::sqrt(moving) + std::sqrt(fixed));
    }
    ASSERT_EQ(step.hypers.size(), 1u);
    EXPECT_EQ(step.hypers[0].layer, 5);
    EXPECT_NEAR(step.hypers[0].dynamic, sum / 5, 1e-6);
}

// Without a dynamic part the weights are the same for every token.
TEST(HyperTape, shares_of_the_streams_in_reading_and_writing) {
    test::OpFixture f;
    TrainingStep step;
    step.wants_hyper_stats = true;
    Tape tape(false);
    f.ctx.tape = &tape, f.ctx.training = &step;
    const HyperWeights w{test::make_param(std::vector<float>(8 * 4), {8, 4}),
                         test::make_param({1, -1, 0.5f, 2, 0, 0, 0, 0}, {8}), test::make_param({1, 1, 1}, {3})};
    const HyperSite site =
        hyper_site(f.ctx, f.tensor({2, 2, 2}, {3, 4, 0, 1, 0, 2, 6, 8}), w, form_of(MixingMap::free, 2), kEps);
    ASSERT_EQ(step.hypers.size(), 1u);
    const float *a = site.pre_TN.f32(), *b = site.post_TN.f32();  // the same for both tokens
    EXPECT_NE(a[0], a[1]);
    EXPECT_NE(b[0], b[1]);
    const HyperStats& s = step.hypers[0];
    const double first = 5 * a[0] / (5 * a[0] + 1.0 * a[1]), second = 2 * a[0] / (2 * a[0] + 10.0 * a[1]);
    EXPECT_NEAR(s.reads.at(0), (first + second) / 2, 1e-6);
    EXPECT_NEAR(s.reads.at(1), 1 - (first + second) / 2, 1e-6);
    EXPECT_NEAR(s.writes.at(0), b[0] / (static_cast<double>(b[0]) + b[1]), 1e-6);
    EXPECT_NEAR(s.writes.at(1), b[1] / (static_cast<double>(b[0]) + b[1]), 1e-6);
}

// Two streams (1, 0) and (0, 1) kept as they are, f = (3, 4) written to the first with weight 2: X' = (7, 8), (0, 1).
TEST(HyperTape, what_a_site_writes_against_the_streams) {
    test::OpFixture f;
    TrainingStep step;
    step.wants_hyper_stats = true;
    Tape tape(false);
    f.ctx.tape = &tape, f.ctx.training = &step, f.ctx.layer = 3;
    const HyperSite s{{}, {}, f.tensor({1, 2}, {2, 0}), f.tensor({1, 2, 2}, {1, 0, 0, 1})};
    hyper_mix(f.ctx, f.tensor({1, 2, 2}, {1, 0, 0, 1}), s, f.tensor({1, 2}, {3, 4}));
    ASSERT_EQ(step.writes.size(), 1u);
    EXPECT_EQ(step.writes[0].layer, 3);
    EXPECT_NEAR(step.writes[0].share, 10 / std::sqrt(49.0 + 64 + 1), 1e-6);
    EXPECT_NEAR(step.writes[0].cosine, (6 * 7 + 8 * 8) / (10 * std::sqrt(114.0)), 1e-6);
}

TEST(HyperTape, adding_to_all_streams) {
    for (const auto& [n, d, t] : {std::array<int64_t, 3>{1, 1, 1}, {4, 17, 33}}) {
        test::GradCheck check;
        const size_t x = check.input({t, n, d}), e = check.input({t, d});
        check.run([&](Ctx& ctx) { return std::vector{add_to_streams(ctx, check.at(x), check.at(e))}; });
    }
}

// However tokens are cut into calls and threads, base and scale sum in the same order.
TEST(HyperTape, gradients_do_not_depend_on_threads) {
    const HyperForm form = form_of(MixingMap::sinkhorn, 4);
    const int64_t d = 16, t = 200, rows = form.n_rows();
    std::vector<std::vector<float>> seen;
    for (int threads : {1, 3}) {
        Arena arena;
        Pool pool(threads);
        Ctx ctx{arena, pool, Numerics::exact, nullptr, nullptr, {}, nullptr, 0};
        Tape tape;
        ctx.tape = &tape;
        std::vector<std::vector<float>> memory;
        const auto leaf = [&](Param& p, Shape shape, uint32_t seed) {
            p = test::make_param(test::noise(static_cast<size_t>(shape.count()), seed), shape);
            p.master = {const_cast<void*>(p.view.data), DType::f32, shape};
            const Tensor g = arena.make(DType::f32, shape);
            std::fill_n(g.f32(), g.count(), 0.0f);
            tape.bind(p.master, g);
            return g;
        };
        HyperWeights w;
        const Tensor g[] = {leaf(w.fn, {rows, 4 * d}, 1), leaf(w.base, {rows}, 2), leaf(w.scale, {3}, 3)};
        const Tensor x = arena.make(DType::f32, {t, 4, d});
        const auto noise = test::noise(static_cast<size_t>(x.count()), 4);
        std::copy(noise.begin(), noise.end(), x.f32());
        const HyperSite s = hyper_site(ctx, x, w, form, kEps);
        const Tensor y = hyper_mix(ctx, x, s, s.u_TD), dy = tape.grad(y);
        std::copy(noise.begin(), noise.end(), dy.f32());
        tape.backward(ctx);
        std::vector<float> all(tape.grad(x).f32(), tape.grad(x).f32() + x.count());
        for (const Tensor& part : g) all.insert(all.end(), part.f32(), part.f32() + part.count());
        seen.push_back(all);
    }
    EXPECT_EQ(seen[0], seen[1]);
}

}  // namespace
}  // namespace vitrine
