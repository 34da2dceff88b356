// The mixture of experts on the GPU against the CPU's twin: every format, both numerics, few and many rows, empty slots and
// experts.
#include <algorithm>
#include <cstring>
#include <string>

#include "engine/ops/deliveries.h"
#include "engine/ops/moe/moe.h"
#include "engine/ops/training.h"
#include "tests/support/collector.h"
#include "tests/support/cuda_fixture.h"
#include "tests/support/packed.h"

namespace vitrine {
namespace {

using test::CudaFixture;
using test::WeightFormat;

struct Case {
    int d, width, n_experts, k, n_shared;
};
constexpr Case kCases[] = {{34, 18, 3, 1, 1}, {96, 64, 9, 3, 2}, {384, 192, 32, 4, 1}, {256, 160, 5, 2, 0}};
// What fills the shared memory of the kernels that have BF16 weights copied there: in `reference` only.
constexpr Case kWideCases[] = {{256, 640, 5, 2, 1}, {64, 1024, 12, 6, 1}, {64, 2048, 4, 1, 1}};
constexpr int64_t kRows[] = {1, 3, 16, 17, 257};

ModelConfig config(const Case& s) {
    ModelConfig c;
    c.hidden_size = s.d, c.expert_width = s.width, c.n_experts = s.n_experts, c.n_experts_per_tok = s.k;
    c.n_shared_experts = s.n_shared, c.swiglu_limit = 1.0;
    return c;
}

// As a file's: experts of one format, the shared one perhaps of another.
ModelWeights weights(const Case& s, const WeightFormat& routed, const WeightFormat& shared) {
    ModelWeights w;
    w.blocks.resize(1);
    MoeWeights& m = w.blocks[0].ffn;
    uint32_t seed = 10;
    const auto fill = [&](ExpertWeights& e, const WeightFormat& f, int64_t width) {
        e.w1 = test::packed_param(f, width, s.d, ++seed), e.w3 = test::packed_param(f, width, s.d, ++seed);
        e.w2 = test::packed_param(f, s.d, width, ++seed);
    };
    m.experts.resize(static_cast<size_t>(s.n_experts));
    for (ExpertWeights& e : m.experts) fill(e, routed, s.width);
    if (s.n_shared) fill(m.shared, shared, int64_t{s.n_shared} * s.width);
    return w;
}

// Token t's choices: distinct experts in no order; expert 0 gets most, some get none, every fifth token has an empty choice.
std::vector<int32_t> choices(const Case& s, int64_t n_tokens) {
    std::vector<int32_t> chosen;
    for (int64_t t = 0; t < n_tokens; ++t)
        for (int j = 0; j < s.k; ++j) {
            const int64_t e = (s.k - j) * (t % 3 + 1) % s.n_experts;
            const bool is_new = std::find(chosen.end() - j, chosen.end(), static_cast<int32_t>(e)) == chosen.end();
            chosen.push_back(is_new && (t % 5 != 4 || j != 0) ? static_cast<int32_t>(e) : -1);
        }
    return chosen;
}

struct Inputs {
    std::vector<float> x, weights;
    std::vector<int32_t> chosen;
    Inputs(const Case& s, int64_t n_tokens)
        : x(test::bf16_noise(static_cast<size_t>(n_tokens * s.d), 3)), weights(test::noise(static_cast<size_t>(n_tokens * s.k), 4)),
          chosen(choices(s, n_tokens)) {
        for (size_t i = 0; i < chosen.size(); ++i)
            if (chosen[i] < 0) weights[i] = 0;
    }
};

std::vector<float> on_gpu(CudaFixture& f, const Inputs& in, const Case& s, const MoeWeights& w, int64_t first, int64_t n) {
    const std::vector<float> x(in.x.begin() + first * s.d, in.x.begin() + (first + n) * s.d);
    const std::vector<float> weights(in.weights.begin() + first * s.k, in.weights.begin() + (first + n) * s.k);
    const std::vector<int32_t> chosen(in.chosen.begin() + first * s.k, in.chosen.begin() + (first + n) * s.k);
    const Routing r{f.up_i32({n, s.k}, chosen), f.up({n, s.k}, weights, DType::f32)};
    const Tensor y = cuda::moe(f.ctx, f.up({n, s.d}, x), r, w, config(s));
    EXPECT_EQ(y.dtype, f.ctx.activation());
    return f.down(y);
}

Tensor on_cpu(CudaFixture& f, const Inputs& in, const Case& s, const MoeWeights& w, int64_t n) {
    const Tensor chosen = f.cpu.arena.make(DType::i32, {n, s.k});
    std::copy(in.chosen.begin(), in.chosen.end(), chosen.as<int32_t>());
    return moe(f.cpu.ctx, f.cpu.tensor({n, s.d}, in.x), {chosen, f.cpu.tensor({n, s.k}, in.weights)}, w, config(s));
}

class MoeCuda : public testing::TestWithParam<Numerics> {};

TEST_P(MoeCuda, agrees_with_the_cpu) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    CudaFixture f(GetParam());
    // Hidden values pass two roundings in `reference`, and a code of FP8 may fall to its neighbour where sums differ in a last bit.
    const double bound = GetParam() == Numerics::exact ? 4e-6 : 0x1p-6;
    const WeightFormat &fp8 = test::kWeightFormats[3], &bf16 = test::kWeightFormats[1];
    std::vector<Case> cases(std::begin(kCases), std::end(kCases));
    if (GetParam() == Numerics::reference) cases.insert(cases.end(), std::begin(kWideCases), std::end(kWideCases));
    for (const WeightFormat& format : test::kWeightFormats)
        for (const Case& s : cases) {
            const ModelWeights host = weights(s, format, format.dtype == DType::fp4_e2m1 ? fp8 : s.n_experts == 9 ? bf16 : format);
            const ModelWeights gpu = cuda::upload(host, f.device);
            for (int64_t rows : kRows) {
                const Arena::Scope scratch(f.arena), host_scratch(f.cpu.arena);
                const Inputs in(s, rows);
                const std::vector<float> got = on_gpu(f, in, s, gpu.blocks[0].ffn, 0, rows);
                const Tensor want = on_cpu(f, in, s, host.blocks[0].ffn, rows);
                EXPECT_LE(test::distance(got, want.f32()), bound) << format.name << ", d " << s.d << ", rows " << rows;
            }
        }
}

TEST_P(MoeCuda, a_row_has_the_same_bits_in_company) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    CudaFixture f(GetParam());
    for (const WeightFormat& format : test::kWeightFormats) {
        const Case& s = kCases[2];
        const ModelWeights gpu = cuda::upload(weights(s, format, format), f.device);
        const Inputs in(s, 16);
        const std::vector<float> all = on_gpu(f, in, s, gpu.blocks[0].ffn, 0, 16);
        for (int64_t t : {0, 4, 7, 15}) {
            const std::vector<float> alone = on_gpu(f, in, s, gpu.blocks[0].ffn, t, 1);
            EXPECT_EQ(0, std::memcmp(alone.data(), all.data() + t * s.d, alone.size() * sizeof(float)))
                << format.name << ", row " << t;
        }
    }
}

TEST_P(MoeCuda, norms_agree_with_the_cpu) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    CudaFixture f(GetParam());
    const Case& s = kCases[1];
    const ModelWeights host = weights(s, test::kWeightFormats[1], test::kWeightFormats[1]), gpu = cuda::upload(host, f.device);
    for (int64_t rows : {2, 40}) {
        const Inputs in(s, rows);
        Watch watch;
        watch.set(probe_bit(kMlpNorms));
        test::Collector cpu_sink, gpu_sink;
        f.ctx.watch = f.cpu.ctx.watch = &watch, f.ctx.probes = &gpu_sink, f.cpu.ctx.probes = &cpu_sink;
        f.ctx.layer = f.cpu.ctx.layer = 0;
        f.device->deliveries().clear();
        on_gpu(f, in, s, gpu.blocks[0].ffn, 0, rows);
        on_cpu(f, in, s, host.blocks[0].ffn, rows);
        f.device->deliveries().gather();
        f.device->sync();
        f.device->deliveries().hand_out(std::vector<cuda::TokenAt>(static_cast<size_t>(rows)), gpu_sink);
        const std::string name = std::string("blocks.0.") + probe_info(kMlpNorms).name;
        for (int t = 0; t < rows; ++t)
            for (size_t i = 0; i < 2; ++i)
                EXPECT_NEAR(gpu_sink.row(name, t).at(i) / cpu_sink.row(name, t).at(i), 1, 1e-2) << t << " " << i;
    }
}

// Many rows: the same bits again, from the same numbers.
TEST_P(MoeCuda, repeats) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    CudaFixture f(GetParam());
    const Case& s = kCases[2];
    const ModelWeights gpu = cuda::upload(weights(s, test::kWeightFormats[5], test::kWeightFormats[3]), f.device);
    const Inputs in(s, 1000);
    EXPECT_EQ(on_gpu(f, in, s, gpu.blocks[0].ffn, 0, 1000), on_gpu(f, in, s, gpu.blocks[0].ffn, 0, 1000));
}

INSTANTIATE_TEST_SUITE_P(numerics, MoeCuda, testing::Values(Numerics::exact, Numerics::reference),
                         [](const auto& p) { return p.param == Numerics::exact ? "exact" : "reference"; });

// ---- training: the same masters, inputs and gradient of the result on both sides
struct Trained {
    std::vector<float> y, dx, dweights, dw1, dw2, dw3;  // of the masters: those of the routed experts, then the shared one's
};

struct TapeCase {
    int64_t n_tokens;
    int d, width, n_experts, k, n_shared;
};

// up(shape, values) makes an f32 tensor where ctx runs, down(tensor) brings it back.
template <class Up, class Down>
Trained train(Ctx& ctx, Tape& tape, const TapeCase& s, const FakeQuant& quant, Up&& up, Down&& down) {
    TrainingStep step;
    step.quant = quant;
    ctx.tape = &tape, ctx.training = &step, ctx.layer = 0;
    const int64_t shared = int64_t{s.n_shared} * s.width;
    uint32_t seed = 40;
    const auto filled = [&](Shape shape, float scale) {
        std::vector<float> v = test::noise(static_cast<size_t>(shape.count()), ++seed);
        for (float& x : v) x *= scale;
        return up(shape, v);
    };
    MoeWeights w;
    w.experts.resize(static_cast<size_t>(s.n_experts));
    std::vector<Tensor> gradients;
    const auto place = [&](Param ExpertWeights::*m, bool is_down) {
        const auto shape = [&](int64_t width) { return is_down ? Shape{s.d, width} : Shape{width, s.d}; };
        const int64_t count = int64_t{s.width} * s.d, n = s.n_experts * count;
        const Tensor values = filled({n + shared * s.d}, 0.5f),
                     gradient = up({n + shared * s.d}, std::vector<float>(static_cast<size_t>(n + shared * s.d)));
        const auto part = [&](Param& p, int64_t first, Shape of) {
            p.name = "w", p.shape = of, p.master = {values.f32() + first, DType::f32, of};
            p.view = {p.master.data, nullptr, DType::f32, DType::f8_e8m0, of[0], of[1], 0, 0};
            tape.bind(p.master, {gradient.f32() + first, DType::f32, of});
        };
        for (int e = 0; e < s.n_experts; ++e) part(w.experts[static_cast<size_t>(e)].*m, e * count, shape(s.width));
        if (shared) part(w.shared.*m, n, shape(shared));
        gradients.push_back(gradient);
    };
    place(&ExpertWeights::w1, false), place(&ExpertWeights::w2, true), place(&ExpertWeights::w3, false);
    const Tensor x = filled({s.n_tokens, s.d}, 1), weights = filled({s.n_tokens, s.k}, 1);
    std::vector<int32_t> chosen;  // the first expert has most tokens, the last none; some slots are empty
    for (int64_t t = 0; t < s.n_tokens; ++t)
        for (int j = 0; j < s.k; ++j)
            chosen.push_back(t % 11 == 3 && j == 0 ? -1 : static_cast<int32_t>(j == 0 ? 0 : 1 + (t + j) % (s.n_experts - 2)));
    ModelConfig c;
    c.hidden_size = s.d, c.expert_width = s.width, c.n_experts = s.n_experts, c.n_experts_per_tok = s.k;
    c.n_shared_experts = s.n_shared, c.swiglu_limit = 20;
    const Tensor y = moe(ctx, x, {test::place_ints(ctx, {s.n_tokens, s.k}, chosen), weights}, w, c);
    const Tensor dy = filled(y.shape, 1), into = tape.grad(y);
    const size_t bytes = static_cast<size_t>(dy.count()) * 4;
    if (ctx.cuda) ctx.cuda->copy(into.data, dy.data, bytes);
    else std::memcpy(into.data, dy.data, bytes);
    tape.backward(ctx);
    return {down(y), down(tape.grad(x)), down(tape.grad(weights)), down(gradients[0]), down(gradients[1]), down(gradients[2])};
}

void expect_near(const std::vector<float>& got, const std::vector<float>& want, double tolerance, const char* what) {
    ASSERT_EQ(got.size(), want.size());
    double largest = 0;
    for (float v : want) largest = std::max(largest, std::abs(static_cast<double>(v)));
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], tolerance * largest) << what << " " << i;
}

void compare_training(const TapeCase& s, const FakeQuant& quant, double tolerance, double bf16_tolerance) {
    CudaFixture f;
    Tape here;
    const auto up_here = [&](Shape shape, const std::vector<float>& v) { return f.cpu.tensor(shape, v); };
    const auto down_here = [](const Tensor& t) { return std::vector<float>(t.f32(), t.f32() + t.count()); };
    const Trained want = train(f.cpu.ctx, here, s, quant, up_here, down_here);
    for (bool is_bf16 : {false, true}) {
        Tape there(true, f.device.get());
        f.ctx.has_bf16_products = is_bf16;
        const Trained got = train(
            f.ctx, there, s, quant, [&](Shape shape, const std::vector<float>& v) { return f.up(shape, v, DType::f32); },
            [&](const Tensor& t) { return f.down(t); });
        const double allowed = is_bf16 ? bf16_tolerance : tolerance;
        const char* const name = is_bf16 ? "BF16" : "FP32";
        SCOPED_TRACE(name);
        expect_near(got.y, want.y, allowed, "y");
        expect_near(got.dx, want.dx, allowed, "dx");
        expect_near(got.dweights, want.dweights, allowed, "dweights");
        expect_near(got.dw1, want.dw1, allowed, "dw1");
        expect_near(got.dw2, want.dw2, allowed, "dw2");
        expect_near(got.dw3, want.dw3, allowed, "dw3");
    }
}

// Experts with more rows than a piece of a gradient, with some, and with none.
TEST(MoeCuda, trains_as_the_cpu) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    compare_training({4500, 16, 8, 5, 2, 1}, {}, 1e-5, 2e-2);
    compare_training({257, 136, 72, 6, 3, 0}, {}, 1e-5, 2e-2);
}

TEST(MoeCuda, trains_on_rounded_values_as_the_cpu) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    for (const TapeCase& s : {TapeCase{33, 40, 24, 4, 2, 2}, TapeCase{50, 17, 9, 4, 2, 1}}) {
        compare_training(s, {.fp8_weights = true, .fp4_experts = true}, 1e-5, 2e-2);
        compare_training(s, {.fp8_weights = true, .fp4_experts = true, .fp8_activations = true}, 1e-5, 4e-2);
    }
}

}  // namespace
}  // namespace vitrine
