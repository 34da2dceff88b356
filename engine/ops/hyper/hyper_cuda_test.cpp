// Hyper-connections and embedding rows on a GPU against the CPU's twins.
#include <cmath>

#include "engine/ops/embed/embed.h"
#include "engine/ops/deliveries.h"
#include "engine/ops/hyper/hyper.h"
#include "tests/support/cuda_fixture.h"

namespace vitrine {
namespace {

using test::CudaFixture;
using test::make_param;
using test::noise;

// Largest |a - b| / max(1, |b|).
double worst(const std::vector<float>& a, const Tensor& b) {
    EXPECT_EQ(a.size(), static_cast<size_t>(b.count()));
    double d = 0;
    for (size_t i = 0; i < a.size(); ++i)
        d = std::max<double>(d, std::abs(a[i] - b.f32()[i]) / std::max(1.0f, std::abs(b.f32()[i])));
    return d;
}

std::vector<float> bf16_values(std::vector<float> v) {
    for (float& x : v) x = cpu::round_bf16(x);
    return v;
}

struct Shape3 {
    int n_tokens, n, d;
};

void compare_site(Numerics numerics, MixingMap map, Shape3 s, bool is_head) {
    CudaFixture f(numerics);
    const bool is_reference = numerics == Numerics::reference;
    const HyperForm form{.map = map, .n = s.n, .iters = 20, .eps = 1e-6, .is_head = is_head};
    const int n_rows = form.n_rows();
    const HyperWeights w{make_param(noise(static_cast<size_t>(n_rows * s.n * s.d), 1), {n_rows, s.n * s.d}),
                         make_param(noise(n_rows, 2), {n_rows}), make_param(noise(is_head ? 1 : 3, 3), {is_head ? 1 : 3})};
    const HyperWeights on_gpu{f.up(w.fn), f.up(w.base), f.up(w.scale)};
    const auto x = bf16_values(noise(static_cast<size_t>(s.n_tokens * s.n * s.d), 4));
    const auto out = bf16_values(noise(static_cast<size_t>(s.n_tokens * s.d), 5));
    const Tensor x_cpu = f.cpu.tensor({s.n_tokens, s.n, s.d}, x), x_gpu = f.up({s.n_tokens, s.n, s.d}, x);
    const double tolerance = is_reference ? 8e-3 : 2e-5;  // u and the streams are rounded to 8 bits
    if (is_head) {
        const Tensor want = hyper_head(f.cpu.ctx, x_cpu, w, form, 1e-6), got = hyper_head(f.ctx, x_gpu, on_gpu, form, 1e-6);
        EXPECT_LE(worst(f.down(got), want), tolerance);
        return;
    }
    const HyperSite want = hyper_site(f.cpu.ctx, x_cpu, w, form, 1e-6), got = hyper_site(f.ctx, x_gpu, on_gpu, form, 1e-6);
    EXPECT_LE(worst(f.down(got.pre_TN), want.pre_TN), 2e-5);
    EXPECT_LE(worst(f.down(got.post_TN), want.post_TN), 2e-5);
    EXPECT_LE(worst(f.down(got.u_TD), want.u_TD), tolerance);
    const Tensor mixed = hyper_mix(f.cpu.ctx, x_cpu, want, f.cpu.tensor({s.n_tokens, s.d}, out));
    const Tensor streams = hyper_mix(f.ctx, x_gpu, got, f.up({s.n_tokens, s.d}, out));
    cuda::finish_mix(f.ctx);
    EXPECT_LE(worst(f.down(streams), mixed), tolerance);
    EXPECT_LE(worst(f.down(got.comb_TNN), want.comb_TNN), 2e-5);  // of few tokens: made by hyper_mix
}

TEST(HyperCuda, SitesAndMixingEqualTheCpus) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    for (const Numerics n : {Numerics::exact, Numerics::reference})
        for (const MixingMap map : {MixingMap::sinkhorn, MixingMap::permutations, MixingMap::free})
            for (const Shape3 s : {Shape3{1, 4, 31}, {17, 4, 257}, {3, 2, 64}, {5, 3, 33}, {300, 4, 384}, {2, 4, 2048}})
                for (const bool is_head : {false, true}) compare_site(n, map, s, is_head);
    compare_site(Numerics::exact, MixingMap::sinkhorn, {3, 16, 40}, false);
}

// The site after a mix makes it along: the same streams, to the bit, and the same site up to its products' order.
TEST(HyperCuda, ASiteMakesTheMixBeforeIt) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    for (const Numerics numerics : {Numerics::exact, Numerics::reference})
        for (const MixingMap map : {MixingMap::sinkhorn, MixingMap::free})
            for (const Shape3 s : {Shape3{1, 4, 32}, {16, 4, 256}, {3, 2, 64}, {5, 4, 384}, {2, 4, 2048}}) {
                CudaFixture f(numerics);
                const HyperForm form{.map = map, .n = s.n, .iters = 20, .eps = 1e-6, .is_head = false};
                const auto weights = [&](uint64_t seed) {
                    const int n_rows = form.n_rows(), width = s.n * s.d;
                    return HyperWeights{f.up(make_param(noise(static_cast<size_t>(n_rows * width), seed), {n_rows, width})),
                                        f.up(make_param(noise(n_rows, seed + 1), {n_rows})),
                                        f.up(make_param(noise(3, seed + 2), {3}))};
                };
                const HyperWeights w = weights(1), next = weights(11);
                const Param norm = f.up(make_param(noise(s.d, 21), {s.d}));
                const Tensor x = f.up({s.n_tokens, s.n, s.d}, bf16_values(noise(static_cast<size_t>(s.n_tokens * s.n * s.d), 4)));
                const Tensor out = f.up({s.n_tokens, s.d}, bf16_values(noise(static_cast<size_t>(s.n_tokens * s.d), 5)));
                const HyperSite site = cuda::hyper_site(f.ctx, x, w, form, 1e-6, &norm);
                const Tensor apart = cuda::hyper_mix(f.ctx, x, site, out);
                cuda::finish_mix(f.ctx);
                const HyperSite a = cuda::hyper_site(f.ctx, apart, next, form, 1e-6, &norm);
                const std::vector<float> comb = f.down(site.comb_TNN);
                const HyperSite again = cuda::hyper_site(f.ctx, x, w, form, 1e-6, &norm);  // its matrix is not made yet
                const Tensor along = cuda::hyper_mix(f.ctx, x, again, out);
                const HyperSite b = cuda::hyper_site(f.ctx, along, next, form, 1e-6, &norm);
                EXPECT_EQ(f.device->deliveries().waiting_mix, nullptr);
                EXPECT_EQ(f.down(apart), f.down(along));
                EXPECT_EQ(f.down(again.comb_TNN), comb);
                for (const auto part : {&HyperSite::u_TD, &HyperSite::normed_TD, &HyperSite::pre_TN, &HyperSite::post_TN})
                    EXPECT_EQ(f.down(a.*part), f.down(b.*part));
            }
}

TEST(HyperCuda, StreamMeasures) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    CudaFixture f;
    auto x = noise(3 * 4 * 100, 7);
    std::fill_n(x.begin() + 400, 100, 0.0f);  // a stream of zeros
    const cuda::StreamMeasures m = cuda::measure_streams(f.ctx, f.up({3, 4, 100}, x));
    f.device->deliveries().gather();  // streams of few tokens are measured then
    const auto norms = f.down(m.norms_TN), cosines = f.down(m.cosines_TNN);
    for (int t = 0; t < 3; ++t)
        for (int j = 0; j < 4; ++j)
            for (int k = 0; k < 4; ++k) {
                double dot = 0, jj = 0, kk = 0;
                for (int i = 0; i < 100; ++i) {
                    const double a = x[(t * 4 + j) * 100 + i], b = x[(t * 4 + k) * 100 + i];
                    dot += a * b, jj += a * a, kk += b * b;
                }
                EXPECT_NEAR(norms[t * 4 + j], std::sqrt(jj), 1e-5);
                EXPECT_NEAR(cosines[(t * 4 + j) * 4 + k], jj * kk > 0 ? dot / std::sqrt(jj * kk) : 0, 1e-5);
            }
}

TEST(EmbedCuda, RowsAndLastRows) {
    if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
    CudaFixture f;
    const auto table = noise(11 * 33, 1);
    f.set_step({{3, 0, 0}, {10, 0, 1}, {0, 0, 2}}, {});
    const Tensor x = cuda::embed_streams(f.ctx, f.up(make_param(table, {11, 33})), 4);
    const auto got = f.down(x), last = f.down(cuda::last_rows(f.ctx, x));
    const int ids[] = {3, 10, 0};
    for (int t = 0; t < 3; ++t)
        for (int j = 0; j < 4; ++j)
            for (int i = 0; i < 33; ++i) EXPECT_EQ(got[(t * 4 + j) * 33 + i], table[ids[t] * 33 + i]);
    EXPECT_TRUE(std::equal(last.begin(), last.end(), got.begin() + 2 * 4 * 33));
}

}  // namespace
}  // namespace vitrine
