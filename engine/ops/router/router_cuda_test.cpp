// The router on the GPU against the CPU's twin: choices, ties, tables, forced experts, fewer experts.
#include <numeric>

#include "engine/ops/router/router.h"
#include "engine/ops/training.h"
#include "tests/support/cuda_fixture.h"

namespace vitrine {
namespace {

using test::CudaFixture;

struct Case {
    int64_t n_tokens;
    int d, n_experts, k;
};
constexpr Case kCases[] = {{1, 16, 4, 1}, {3, 31, 5, 5}, {16, 64, 33, 3}, {17, 384, 32, 4}, {257, 96, 384, 8}};

ModelConfig config(const Case& s) {
    ModelConfig c;
    c.hidden_size = s.d, c.n_experts = s.n_experts, c.n_experts_per_tok = s.k, c.routed_scaling_factor = 1.5;
    return c;
}

struct Layer {
    MoeWeights host, gpu;
    std::vector<int64_t> table;
    Layer(CudaFixture& f, const Case& s, int vocab) {
        host.gate = test::make_param(test::noise(static_cast<size_t>(s.n_experts * s.d), 1), {s.n_experts, s.d});
        host.bias = test::make_param(test::noise(static_cast<size_t>(s.n_experts), 2), {s.n_experts});
        for (int64_t i = 0; i < int64_t{vocab} * s.k; ++i) table.push_back((i * 7 + i / s.k) % s.n_experts);
        host.tid2eid.view = {table.data(), nullptr, DType::i64, DType::f8_e8m0, vocab, s.k, 0, 0};
        gpu.gate = f.up(host.gate), gpu.bias = f.up(host.bias), gpu.tid2eid = f.up(host.tid2eid);
    }
};

void expect_same(CudaFixture& f, const Routing& got, const Routing& want, const char* what) {
    ASSERT_EQ(got.indices_TK.shape, want.indices_TK.shape);
    const auto chosen = f.down_i32(got.indices_TK);
    const auto weights = f.down(got.weights_TK);
    for (size_t i = 0; i < chosen.size(); ++i) {
        EXPECT_EQ(chosen[i], want.indices_TK.as<int32_t>()[i]) << what << " " << i;
        EXPECT_NEAR(weights[i], want.weights_TK.f32()[i], 4e-6) << what << " " << i;
    }
}

TEST(RouterCuda, agrees_with_the_cpu) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    for (const Case& s : kCases) {
        CudaFixture f;
        const int vocab = 11;
        const Layer layer(f, s, vocab);
        const ModelConfig c = config(s);
        const std::vector<float> x = test::noise(static_cast<size_t>(s.n_tokens * s.d), 3);
        std::vector<int32_t> ids, forced;
        std::vector<cuda::TokenAt> tokens;
        for (int64_t t = 0; t < s.n_tokens; ++t) {
            ids.push_back(static_cast<int32_t>(t * 5 % vocab));
            tokens.push_back({ids.back(), 0, t});
            for (int j = 0; j < s.k + 1; ++j) forced.push_back(j == 2 ? -1 : static_cast<int32_t>((t + 2 * j) % s.n_experts));
        }
        f.set_step(tokens, {});
        const Shape shape{s.n_tokens, s.d};
        const Tensor on_cpu = f.cpu.tensor(shape, x), on_gpu = f.up(shape, x);
        const Tensor forced_gpu = f.up_i32({s.n_tokens, s.k + 1}, forced),
                     forced_cpu = f.cpu.arena.make(DType::i32, {s.n_tokens, s.k + 1});
        std::copy(forced.begin(), forced.end(), forced_cpu.as<int32_t>());
        for (int active : {0, 1}) {
            f.ctx.active_experts = f.cpu.ctx.active_experts = active;
            expect_same(f, cuda::route(f.ctx, on_gpu, layer.gpu, c, false), route(f.cpu.ctx, on_cpu, ids, layer.host, c, false),
                        "by score");
            expect_same(f, cuda::route(f.ctx, on_gpu, layer.gpu, c, true), route(f.cpu.ctx, on_cpu, ids, layer.host, c, true),
                        "by table");
            expect_same(f, cuda::route(f.ctx, on_gpu, layer.gpu, c, false, forced_gpu),
                        route(f.cpu.ctx, on_cpu, ids, layer.host, c, false, forced_cpu), "forced");
        }
        ModelConfig plain = c;
        plain.variants.router = RouterKind::topk, plain.norm_topk_prob = false;
        f.ctx.active_experts = f.cpu.ctx.active_experts = 0;
        expect_same(f, cuda::route(f.ctx, on_gpu, layer.gpu, plain, false),
                    route(f.cpu.ctx, on_cpu, ids, layer.host, plain, false), "no bias");
    }
}

TEST(RouterCuda, ties_go_to_the_lowest_expert) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    CudaFixture f;
    const Case s{2, 8, 70, 4};
    Layer layer(f, s, 1);
    layer.gpu.gate = f.up(test::make_param(std::vector<float>(70 * 8, 0.0f), {70, 8}));
    std::vector<float> bias(70, 0.0f);
    bias[69] = bias[33] = 1;
    layer.gpu.bias = f.up(test::make_param(bias, {70}));
    f.set_step({{0, 0, 0}, {0, 0, 1}}, {});
    const Routing r = cuda::route(f.ctx, f.up({2, 8}, test::noise(16, 1)), layer.gpu, config(s), false);
    EXPECT_EQ(f.down_i32(r.indices_TK), (std::vector<int32_t>{33, 69, 0, 1, 33, 69, 0, 1}));
}

TEST(RouterCuda, refuses_variants_it_has_not) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    CudaFixture f;
    const Case s{1, 8, 4, 2};
    const Layer layer(f, s, 1);
    ModelConfig c = config(s);
    c.variants.router = RouterKind::top_p;
    EXPECT_THROW(cuda::route(f.ctx, f.up({1, 8}, test::noise(8, 1)), layer.gpu, c, false), Error);
}

// Loads come back from a GPU as the CPU counts them, over many short segments too.
TEST(RouterCuda, leaves_the_same_loads_on_a_tape) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    const Case s{1500, 24, 33, 4};
    std::vector<int64_t> ends;
    for (int64_t end = 1; end < s.n_tokens; end += 1 + end % 37) ends.push_back(end);
    ends.push_back(s.n_tokens);
    const auto x = test::noise(static_cast<size_t>(s.n_tokens * s.d), 1),
               gate = test::noise(static_cast<size_t>(s.n_experts * s.d), 2),
               bias = test::noise(static_cast<size_t>(s.n_experts), 3);
    CudaFixture f;
    const auto run = [&](Ctx& ctx, Tape& tape, const Tensor& rows, MoeWeights w) {
        TrainingStep step;
        step.balance_weight = 0.1, step.sequence_weight = 0.2, step.z_weight = 0.3;
        w.gate.master = {const_cast<void*>(w.gate.view.data), DType::f32, w.gate.shape};
        ctx.tape = &tape, ctx.training = &step, ctx.layer = 0;
        route(ctx, rows, {}, w, config(s), false, {}, ends);
        if (ctx.cuda) ctx.cuda->collect();
        return step;
    };
    MoeWeights w;
    w.gate = test::make_param(gate, {s.n_experts, s.d}), w.bias = test::make_param(bias, {s.n_experts});
    Tape there(true, f.device.get()), here;
    MoeWeights up;
    up.gate = f.up(w.gate), up.bias = f.up(w.bias);
    const TrainingStep got = run(f.ctx, there, f.up({s.n_tokens, s.d}, x), up),
                       want = run(f.cpu.ctx, here, f.cpu.tensor({s.n_tokens, s.d}, x), w);
    EXPECT_EQ(got.loads.at(0).chosen, want.loads.at(0).chosen);
    for (int e = 0; e < s.n_experts; ++e)
        EXPECT_NEAR(got.loads[0].affinity[static_cast<size_t>(e)], want.loads[0].affinity[static_cast<size_t>(e)], 1e-4);
    ASSERT_EQ(got.losses.size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
        EXPECT_STREQ(got.losses[i].name, want.losses[i].name);
        EXPECT_NEAR(got.losses[i].value, want.losses[i].value, 1e-5);
    }
}

}  // namespace
}  // namespace vitrine
