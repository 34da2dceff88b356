// The mixture of experts: gradients, agreement of tape and inference, clamps, empty slots, any number of threads.
#include "engine/ops/moe/moe.h"

#include "engine/device/cpu/formats.h"
#include "engine/ops/quantize/quantize_tape.h"
#include "tests/support/gradcheck.h"
#include "tests/support/packed.h"

namespace vitrine {
namespace {

struct Case {
    int64_t n_tokens;
    int d, width, n_experts, k, n_shared;
    double limit = 1;  // low, so that all three clamps are met
};

ModelConfig config(const Case& s) {
    ModelConfig c;
    c.hidden_size = s.d, c.expert_width = s.width, c.n_experts = s.n_experts, c.n_experts_per_tok = s.k;
    c.n_shared_experts = s.n_shared;
    c.swiglu_limit = s.limit;
    return c;
}

// Token t uses experts (3t + j) mod E; every seventh leaves its last slot empty. Some experts get nothing.
Tensor indices(Ctx& ctx, const Case& s) {
    std::vector<int32_t> chosen;
    for (int64_t t = 0; t < s.n_tokens; ++t)
        for (int j = 0; j < s.k; ++j)
            chosen.push_back(s.k > 1 && j == s.k - 1 && t % 7 == 2 ? -1 : static_cast<int32_t>((3 * t + j) % s.n_experts));
    return test::place_ints(ctx, {s.n_tokens, s.k}, chosen);
}

struct Weights {
    MoeWeights w;
    template <class Make>
    Weights(const Case& s, Make&& make) {
        w.experts.resize(static_cast<size_t>(s.n_experts));
        const auto fill = [&](ExpertWeights& e, int64_t width) {
            make(e.w1, Shape{width, s.d}), make(e.w2, Shape{s.d, width}), make(e.w3, Shape{width, s.d});
        };
        for (auto& e : w.experts) fill(e, s.width);
        fill(w.shared, int64_t{s.n_shared} * s.width);
    }
};

// The last three have extents that tensor cores take: several tiles of rows and of outputs, a shared expert of another width. Their
// values stay below the limit: next to it, the rounding of inputs to BF16 decides about a whole gradient.
const Case kCases[] = {{1, 3, 5, 1, 1, 1},   {5, 17, 6, 3, 2, 1},         {33, 6, 17, 9, 3, 2},        {150, 5, 3, 2, 1, 1},
                       {40, 24, 16, 5, 3, 2, 50}, {300, 136, 72, 3, 2, 1, 50}, {129, 72, 136, 7, 2, 1, 50}};

TEST(MoeTape, gradients_match_differences) {
    for (const Case& s : kCases) {
        test::GradCheck check;
        const size_t x = check.input({s.n_tokens, s.d}), weights = check.input({s.n_tokens, s.k}, 0.5, 0.7);
        const Weights w(s, [&](Param& p, Shape shape) { check.param(p, shape, 0.7); });
        check.run(
            [&](Ctx& ctx) {
                const Routing routing{indices(ctx, s), check.at(weights)};
                return std::vector{moe(ctx, check.at(x), routing, w.w, config(s))};
            },
            1e-6, 12);
    }
}

Tensor run(const Case& s, bool is_tape, int n_threads, std::vector<float>* gradient = nullptr) {
    static Arena arena;  // results outlive the pools
    Pool pool(n_threads);
    Ctx ctx{arena, pool, Numerics::exact, nullptr, nullptr, {}, nullptr, 0};
    uint32_t seed = 5;
    std::vector<std::vector<float>> masters;
    Weights w(s, [&](Param& p, Shape shape) {
        p = test::make_param(test::noise(static_cast<size_t>(shape.count()), ++seed), shape);
    });
    Tape tape;
    std::vector<float> dw1(static_cast<size_t>(s.width * s.d));
    if (is_tape) {
        ctx.tape = &tape;
        Param& p = w.w.experts[0].w1;
        p.master = {const_cast<void*>(p.view.data), DType::f32, p.shape};
        tape.bind(p.master, {dw1.data(), DType::f32, p.shape});
    }
    const auto fill = [&](Shape shape, uint32_t at) {
        const Tensor t = arena.make(DType::f32, shape);
        const auto v = test::noise(static_cast<size_t>(shape.count()), at);
        std::copy(v.begin(), v.end(), t.f32());
        return t;
    };
    const Tensor x = fill({s.n_tokens, s.d}, 1);
    const Tensor y = moe(ctx, x, {indices(ctx, s), fill({s.n_tokens, s.k}, 2)}, w.w, config(s));
    if (gradient) {
        const Tensor dy = fill(y.shape, 3);
        std::copy_n(dy.f32(), dy.count(), tape.grad(y).f32());
        tape.backward(ctx);
        *gradient = dw1;
        gradient->insert(gradient->end(), tape.grad(x).f32(), tape.grad(x).f32() + x.count());
    }
    return y;
}

TEST(MoeTape, agrees_with_inference) {
    for (const Case& s : kCases) {
        const Tensor a = run(s, true, 2), b = run(s, false, 2);
        for (int64_t i = 0; i < a.count(); ++i) ASSERT_NEAR(a.f32()[i], b.f32()[i], 1e-5) << i;
    }
}

// A row of tid2eid may name an expert twice: it works twice, as one choice with both weights.
TEST(MoeTape, an_expert_that_is_chosen_twice_counts_twice) {
    for (const bool is_tape : {false, true})
        for (const int64_t n : {1, 5}) {
            const Case s{n, 7, 6, 3, 3, 1};
            test::OpFixture f;
            uint32_t seed = 5;
            Weights w(s, [&](Param& p, Shape shape) {
                p = test::make_param(test::noise(static_cast<size_t>(shape.count()), ++seed), shape);
            });
            Tape tape;
            if (is_tape) f.ctx.tape = &tape;
            const Tensor x = f.tensor({n, s.d}, test::noise(static_cast<size_t>(n * s.d), 1));
            std::vector<int32_t> twice, once;
            std::vector<float> weights, sums;
            for (int64_t t = 0; t < n; ++t) {
                const auto e = static_cast<int32_t>(t % 3), other = static_cast<int32_t>((t + 1) % 3);
                twice.insert(twice.end(), {e, other, e}), weights.insert(weights.end(), {0.5f, 0.25f, 0.125f});
                once.insert(once.end(), {e, other, -1}), sums.insert(sums.end(), {0.625f, 0.25f, 0});
            }
            const auto run_with = [&](const std::vector<int32_t>& ids, const std::vector<float>& by) {
                return moe(f.ctx, x, {test::place_ints(f.ctx, {n, 3}, ids), f.tensor({n, 3}, by)}, w.w, config(s));
            };
            const Tensor a = run_with(twice, weights), b = run_with(once, sums);
            for (int64_t i = 0; i < a.count(); ++i) ASSERT_NEAR(a.f32()[i], b.f32()[i], 2e-6) << i;
        }
}

// In `reference` the routed experts' format says what they read, and the shared one's what it reads. Here routed weights are 0, so
// that the shared expert alone speaks.
TEST(Moe, inputs_are_quantised_by_each_experts_own_format) {
    const test::WeightFormat plain = test::kWeightFormats[1], fp8 = test::kWeightFormats[3], fp4 = test::kWeightFormats[5];
    const Case s{3, 64, 32, 2, 2, 1, 10};
    const auto shared_speaks = [&](const test::WeightFormat& routed, const test::WeightFormat& shared, int64_t n) {
        test::OpFixture f;
        f.ctx.numerics = Numerics::reference;
        const auto fill = [&](ExpertWeights& e, const test::WeightFormat& format) {
            e.w1 = test::packed_param(format, s.width, s.d, 1), e.w3 = test::packed_param(format, s.width, s.d, 2);
            e.w2 = test::packed_param(format, s.d, s.width, 3);
        };
        MoeWeights w;
        w.experts.resize(2);
        for (auto& e : w.experts) fill(e, routed);
        fill(w.shared, shared);
        std::vector<float> x = test::noise(static_cast<size_t>(n * s.d), 4);
        for (float& v : x) v = cpu::round_bf16(v);
        const std::vector<int32_t> ids(static_cast<size_t>(2 * n), 1);
        const Routing routing{test::place_ints(f.ctx, {n, 2}, ids), f.tensor({n, 2}, std::vector<float>(ids.size()))};
        const Tensor y = moe(f.ctx, f.tensor({n, s.d}, x), routing, w, config(s));
        return std::vector<float>(y.f32(), y.f32() + y.count());
    };
    for (const int64_t n : {int64_t{1}, s.n_tokens}) {
        EXPECT_EQ(shared_speaks(fp8, plain, n), shared_speaks(plain, plain, n));
        EXPECT_EQ(shared_speaks(fp4, plain, n), shared_speaks(plain, plain, n));
        EXPECT_EQ(shared_speaks(plain, fp8, n), shared_speaks(fp8, fp8, n));
        EXPECT_EQ(shared_speaks(fp4, fp8, n), shared_speaks(fp8, fp8, n));
    }
}

TEST(MoeTape, same_bits_for_any_number_of_threads) {
    const Case s{333, 31, 40, 5, 2, 1};
    std::vector<float> one, three;
    const Tensor a = run(s, true, 1, &one), b = run(s, true, 3, &three);
    EXPECT_EQ(0, std::memcmp(a.data, b.data, static_cast<size_t>(a.count()) * sizeof(float)));
    EXPECT_EQ(one, three);
    EXPECT_NE(one, std::vector<float>(one.size()));
}

// One expert of width 2 on x = (3, 0), limit 1: gates 3 and -3, ups 6 and -0.3.
TEST(MoeTape, measures_what_the_clamp_does) {
    test::OpFixture f;
    Tape tape;
    TrainingStep step;
    step.wants_expert_stats = true;
    f.ctx.tape = &tape, f.ctx.training = &step, f.ctx.layer = 2;
    ModelConfig c;
    c.expert_width = 2, c.n_experts = 1, c.n_experts_per_tok = 1, c.swiglu_limit = 1;
    MoeWeights w;
    w.experts.resize(1);
    w.experts[0].w1 = test::make_param({1, 0, -1, 0}, {2, 2});
    w.experts[0].w2 = test::make_param({1, 0, 0, 1}, {2, 2});
    w.experts[0].w3 = test::make_param({2, 0, -0.1f, 0}, {2, 2});
    const Tensor chosen = f.arena.make(DType::i32, {1, 1});
    chosen.as<int32_t>()[0] = 0;
    const Tensor y = moe(f.ctx, f.tensor({1, 2}, {3, 0}), {chosen, f.tensor({1, 1}, {0.5f})}, w, c);
    const double h0 = 1 / (1 + std::exp(-1.0)), h1 = -3 / (1 + std::exp(3.0)) * -0.3;
    EXPECT_NEAR(y.f32()[0], 0.5 * h0, 1e-6);
    EXPECT_NEAR(y.f32()[1], 0.5 * h1, 1e-6);
    ASSERT_EQ(step.experts.size(), 1u);
    EXPECT_EQ(step.experts[0].layer, 2);
    EXPECT_NEAR(step.experts[0].peak, h0, 1e-6);
    EXPECT_EQ(step.experts[0].clipped, 0.5);  // one gate and one up of four values
    const double a = h0 * h0, b = h1 * h1;
    EXPECT_NEAR(step.experts[0].kurtosis, 2 * (a * a + b * b) / ((a + b) * (a + b)), 1e-6);
}

// The shared expert is the routed one's twin, and the routing weight 0.25: a fifth and four fifths of the sum, along
// it.
TEST(MoeTape, measures_what_experts_contribute) {
    for (const bool has_shared : {false, true}) {
        test::OpFixture f;
        Tape tape(false);
        TrainingStep step;
        step.wants_expert_stats = step.wants_expert_outputs = true;
        f.ctx.tape = &tape, f.ctx.training = &step, f.ctx.layer = 1;
        const ModelConfig c = config({3, 2, 2, 2, 1, has_shared, 100});
        MoeWeights w;
        w.experts.resize(2);
        const auto fill = [](ExpertWeights& e, float scale) {
            e.w1 = test::make_param({1, 2, -1, 1}, {2, 2}), e.w3 = test::make_param({2, 1, 0, 1}, {2, 2});
            e.w2 = test::make_param({scale, 0, 0, -scale}, {2, 2});
        };
        fill(w.experts[0], 1), fill(w.experts[1], -3);
        if (has_shared) fill(w.shared, 1);
        const Tensor chosen = test::place_ints(f.ctx, {3, 1}, {0, 0, 0});
        moe(f.ctx, f.tensor({3, 2}, {1, 2, -1, 3, 2, 0.5f}), {chosen, f.tensor({3, 1}, {0.25f, 0.25f, 0.25f})}, w, c);
        ASSERT_EQ(step.experts.size(), 1u);
        EXPECT_NEAR(step.experts[0].contribution, has_shared ? 0.2 : 1, 1e-6);
        EXPECT_NEAR(step.experts[0].cosine, 1, 1e-6);
        EXPECT_EQ(std::isnan(step.experts[0].shared), !has_shared);
        if (has_shared) {
            EXPECT_NEAR(step.experts[0].shared, 0.8, 1e-6);
        }
        ASSERT_EQ(step.expert_outputs.size(), 1u);  // also of the expert that no token was sent to
        const ExpertOutputs& o = step.expert_outputs[0];
        EXPECT_EQ(o.n_experts, 2);
        EXPECT_EQ(o.n_tokens, 3);
        ASSERT_EQ(o.values.size(), 12u);
        for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(o.values[6 + i], -3 * o.values[i], 1e-5);
        EXPECT_NE(o.values[0], 0);
    }
}

// Rounded experts, inputs and hidden rows: the same as products of rounded values done by hand.
TEST(MoeTape, multiplies_rounded_values) {
    test::OpFixture f;
    Tape tape;
    TrainingStep step;
    step.quant = {.fp8_weights = true, .fp4_experts = true, .fp8_activations = true};
    f.ctx.tape = &tape, f.ctx.training = &step;
    const Case s{3, 40, 36, 2, 1, 1};
    uint32_t seed = 20;
    const Weights w(s, [&](Param& p, Shape shape) {
        p = test::make_param(test::noise(static_cast<size_t>(shape.count()), ++seed), shape);
    });
    const Tensor x = f.tensor({3, 40}, test::noise(120, 1)), weights = f.tensor({3, 1}, {0.5f, 0.25f, 2});
    const Tensor chosen = indices(f.ctx, s);
    const Tensor y = moe(f.ctx, x, {chosen, weights}, w.w, config(s));
    const auto add = [&](const ExpertWeights& e, bool is_shared, int64_t t, float weight, std::vector<double>& sum) {
        std::vector<float> row(x.row<float>(t), x.row<float>(t) + 40), h(36);
        round_fp8_row(row.data(), 40, 128);
        const Tensor w1 = expert_weight(f.ctx, e.w1, is_shared), w2 = expert_weight(f.ctx, e.w2, is_shared),
                     w3 = expert_weight(f.ctx, e.w3, is_shared);
        for (int i = 0; i < 36; ++i) {
            double g = 0, u = 0;
            for (int j = 0; j < 40; ++j)
                g += static_cast<double>(w1.row<float>(i)[j]) * row[j], u += static_cast<double>(w3.row<float>(i)[j]) * row[j];
            g = std::min(g, 1.0), u = std::clamp(u, -1.0, 1.0);
            h[i] = static_cast<float>(weight * g / (1 + std::exp(-g)) * u);
        }
        round_fp8_row(h.data(), 36, 128);
        for (int o = 0; o < 40; ++o)
            for (int i = 0; i < 36; ++i) sum[o] += static_cast<double>(w2.row<float>(o)[i]) * h[i];
    };
    for (int64_t t = 0; t < 3; ++t) {
        std::vector<double> sum(40);
        add(w.w.experts[static_cast<size_t>(chosen.as<int32_t>()[t])], false, t, weights.f32()[t], sum);
        add(w.w.shared, true, t, 1, sum);
        for (int o = 0; o < 40; ++o) EXPECT_NEAR(y.row<float>(t)[o], sum[o], 1e-5) << t << " " << o;
    }
}

// One scale for all hidden rows of an expert, and for all inputs.
TEST(MoeTape, one_scale_for_an_experts_hidden_rows) {
    test::OpFixture f;
    Tape tape;
    TrainingStep step;
    step.quant = {.fp8_activations = true, .fp8_per_tensor = true};
    f.ctx.tape = &tape, f.ctx.training = &step;
    const Case s{6, 40, 36, 2, 1, 1};
    uint32_t seed = 20;
    const Weights w(s, [&](Param& p, Shape shape) {
        p = test::make_param(test::noise(static_cast<size_t>(shape.count()), ++seed), shape);
    });
    std::vector<float> x = test::noise(240, 1);
    for (int i = 0; i < 40; ++i) x[i] *= 100;  // one token's hidden row is far above the others
    const Tensor weights = f.tensor({6, 1}, {1, 1, 1, 1, 1, 1}), chosen = indices(f.ctx, s);
    const Tensor y = moe(f.ctx, f.tensor({6, 40}, x), {chosen, weights}, w.w, config(s));
    cpu::fp8_simulate(x.data(), 240, 240);
    std::vector<double> sum(240);
    for (int group = 0; group < 3; ++group) {  // two routed experts, the shared one
        const ExpertWeights& e = group < 2 ? w.w.experts[static_cast<size_t>(group)] : w.w.shared;
        const auto value = [](const Param& p, int64_t i) { return static_cast<double>(static_cast<const float*>(p.view.data)[i]); };
        std::vector<float> h;
        std::vector<int> tokens;
        for (int t = 0; t < 6; ++t) {
            if (group < 2 && chosen.as<int32_t>()[t] != group) continue;
            tokens.push_back(t);
            for (int i = 0; i < 36; ++i) {
                double g = 0, u = 0;
                for (int j = 0; j < 40; ++j) {
                    g += value(e.w1, i * 40 + j) * x[t * 40 + j];
                    u += value(e.w3, i * 40 + j) * x[t * 40 + j];
                }
                g = std::min(g, 1.0), u = std::clamp(u, -1.0, 1.0);
                h.push_back(static_cast<float>(g / (1 + std::exp(-g)) * u));
            }
        }
        if (h.empty()) continue;
        cpu::fp8_simulate(h.data(), static_cast<int64_t>(h.size()), static_cast<int64_t>(h.size()));
        for (size_t r = 0; r < tokens.size(); ++r)
            for (int o = 0; o < 40; ++o)
                for (int i = 0; i < 36; ++i) sum[tokens[r] * 40 + o] += value(e.w2, o * 36 + i) * h[r * 36 + i];
    }
    for (int i = 0; i < 240; ++i) EXPECT_NEAR(y.f32()[i], sum[i], 1e-4) << i;
}

}  // namespace
}  // namespace vitrine
