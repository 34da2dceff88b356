// The mixture of experts: gradients, agreement of tape and inference, clamps, empty slots, any number of threads.
#include "engine/ops/moe/moe.h"

#include "tests/support/gradcheck.h"

namespace vitrine {
namespace {

struct Case {
    int64_t n_tokens;
    int d, width, n_experts, k, n_shared;
};

ModelConfig config(const Case& s) {
    ModelConfig c;
    c.hidden_size = s.d, c.expert_width = s.width, c.n_experts = s.n_experts, c.n_experts_per_tok = s.k;
    c.n_shared_experts = s.n_shared;
    c.swiglu_limit = 1.0;  // low, so that all three clamps are met
    return c;
}

// Token t uses experts (3t + j) mod E; every seventh leaves its last slot empty. Some experts get nothing.
Tensor indices(Arena& arena, const Case& s) {
    const Tensor i = arena.make(DType::i32, {s.n_tokens, s.k});
    for (int64_t t = 0; t < s.n_tokens; ++t)
        for (int j = 0; j < s.k; ++j)
            i.row<int32_t>(t)[j] =
                s.k > 1 && j == s.k - 1 && t % 7 == 2 ? -1 : static_cast<int32_t>((3 * t + j) % s.n_experts);
    return i;
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

const Case kCases[] = {{1, 3, 5, 1, 1, 1}, {5, 17, 6, 3, 2, 1}, {33, 6, 17, 9, 3, 2}, {150, 5, 3, 2, 1, 1}};

TEST(MoeTape, gradients_match_differences) {
    for (const Case& s : kCases) {
        test::GradCheck check;
        const size_t x = check.input({s.n_tokens, s.d}), weights = check.input({s.n_tokens, s.k}, 0.5, 0.7);
        const Weights w(s, [&](Param& p, Shape shape) { check.param(p, shape, 0.7); });
        check.run(
            [&](Ctx& ctx) {
                const Routing routing{indices(ctx.arena, s), check.at(weights)};
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
    const Tensor y = moe(ctx, x, {indices(arena, s), fill({s.n_tokens, s.k}, 2)}, w.w, config(s));
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

TEST(MoeTape, same_bits_for_any_number_of_threads) {
    const Case s{333, 31, 40, 5, 2, 1};
    std::vector<float> one, three;
    const Tensor a = run(s, true, 1, &one), b = run(s, true, 3, &three);
    EXPECT_EQ(0, std::memcmp(a.data, b.data, static_cast<size_t>(a.count()) * sizeof(float)));
    EXPECT_EQ(one, three);
    EXPECT_NE(one, std::vector<float>(one.size()));
}

}  // namespace
}  // namespace vitrine
