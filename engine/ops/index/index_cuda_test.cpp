// The indexer on the GPU: scores against the CPU's, the choice against a full sort of those scores, ties, forced picks.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "engine/ops/deliveries.h"
#include "engine/ops/index/index.h"
#include "tests/support/collector.h"
#include "tests/support/cuda_compare.h"
#include "tests/support/cuda_fixture.h"

namespace vitrine {
namespace {

constexpr int kQueryRank = 96, kHidden = 160;

struct Indexer {
    ModelConfig config;
    IndexerWeights w;
    std::vector<double> frequencies;
    Indexer(int heads, int d, int k) {
        config.index_n_heads = heads, config.index_head_dim = d, config.index_topk = k, config.rope_dim = d / 2;
        config.compress_rope_theta = 160000;
        frequencies = rope_frequencies(config, true);
        w.wq_b =
            test::make_bf16_param(test::noise(static_cast<size_t>(heads * d * kQueryRank), 1), {heads * d, kQueryRank});
        w.weights_proj = test::make_bf16_param(test::noise(static_cast<size_t>(heads * kHidden), 2), {heads, kHidden});
    }
};

// Index keys of `n` entries; a key that repeats every `period` entries gives exact ties.
EntryStore keys(const cpu::IndexKeyFormat& format, int64_t n, int64_t period) {
    EntryStore store(format.row_bytes());
    for (int64_t i = 0; i < n; ++i) {
        const std::vector<float> v = test::noise(format.d, static_cast<uint32_t>(77 + i % period));
        if (format.is_packed)
            cpu::pack_index_key(format, v.data(), store.writable_row(i));
        else
            std::memcpy(store.writable_row(i), v.data(), v.size() * 4);
    }
    return store;
}

struct Case {
    int heads, d, k;
    int64_t position, n_tokens, period;
};

class Twins {
  public:
    Twins(Numerics numerics, const Case& x) : f(numerics), indexer(x.heads, x.d, x.k), x_(x) {
        const cpu::IndexKeyFormat format{f.ctx.is_reference(), x.d};
        const int64_t n = (x.position + x.n_tokens) / 4;
        store = keys(format, n, x.period);
        const auto row = static_cast<size_t>(format.row_bytes());
        std::byte* there = f.bytes(row * n + 1);
        for (int64_t i = 0; i < n; ++i) f.device->upload(there + i * row, store.row(i), row);
        for (int64_t t = 0; t < x.n_tokens; ++t)
            tokens.push_back({0, 0, x.position + t}), positions.push_back(x.position + t);
        f.set_step(tokens, {{nullptr, nullptr, there, nullptr, nullptr, 1, 1, 1}});
        w = indexer.w;
        w.wq_b = f.up(w.wq_b), w.weights_proj = f.up(w.weights_proj);
        qr = test::as_activation(numerics, test::noise(x.n_tokens * kQueryRank, 3));
        input = test::as_activation(numerics, test::noise(x.n_tokens * kHidden, 4));
    }
    void watch(ProbeSet set) {
        watch_.set(set);
        f.ctx.watch = f.cpu.ctx.watch = &watch_;
        f.ctx.probes = &got, f.cpu.ctx.probes = &want;
    }
    std::vector<int32_t> on_gpu(const Tensor& forced = {}) {
        const RopeAngles angles = cuda::rope_angles(f.ctx, indexer.frequencies);
        const Tensor chosen =
            cuda::select_entries(f.ctx, f.up({x_.n_tokens, kQueryRank}, qr), f.up({x_.n_tokens, kHidden}, input), w,
                                 indexer.config, angles, forced, &places);
        f.device->deliveries().gather();
        const std::vector<int32_t> v = f.down_i32(chosen);
        f.device->deliveries().hand_out(tokens, got);
        return v;
    }
    Selection on_cpu() {
        const RopeAngles angles = rope_angles(f.cpu.ctx, positions, indexer.frequencies);
        return select_entries(f.cpu.ctx, f.cpu.tensor({x_.n_tokens, kQueryRank}, qr),
                              f.cpu.tensor({x_.n_tokens, kHidden}, input), x_.position, 0, indexer.w, indexer.config,
                              angles, store, {f.ctx.is_reference(), x_.d});
    }
    test::CudaFixture f;
    Indexer indexer;
    EntryStore store;
    IndexerWeights w;
    std::vector<cuda::TokenAt> tokens;
    std::vector<int64_t> positions;
    std::vector<float> qr, input;
    test::Collector got, want;
    Tensor places;

  private:
    Case x_;
    Watch watch_;
};

const std::string kName = "blocks.0.attn.indexer.";

TEST(IndexCuda, ScoresEqualTheCpuAndTheChoiceAFullSort) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    const Case cases[] = {{16, 128, 512, 12100, 3, 1 << 20}, {4, 32, 64, 3000, 20, 1 << 20},
                          {64, 128, 512, 4000, 5, 31},       {3, 16, 5, 0, 40, 7},
                          {16, 64, 16, 500, 9, 3},           {4, 32, 64, 100, 6, 1 << 20}};
    for (Numerics numerics : {Numerics::exact, Numerics::reference})
        for (const Case& x : cases) {
            const std::string what = std::to_string(x.d) + " dims at " + std::to_string(x.position);
            Twins r(numerics, x);
            r.watch(probe_bit(kIndexScores) | probe_bit(kIndexTopk) | probe_bit(kIndexTopkScores) |
                    probe_bit(kIndexCut));
            const std::vector<int32_t> chosen = r.on_gpu(), places = r.f.down_i32(r.places);
            r.on_cpu();
            int64_t n_scores = 0, n_different = 0;
            for (int t = 0; t < x.n_tokens; ++t) {
                const std::vector<double>&scores = r.got.row(kName + "hook_scores", t),
                      &want = r.want.row(kName + "hook_scores", t);
                ASSERT_EQ(scores.size(), want.size()) << what;
                const std::vector<float> s(scores.begin(), scores.end());
                n_scores += static_cast<int64_t>(s.size());
                for (size_t i = 0; i < s.size(); ++i) n_different += scores[i] != want[i];
                test::expect_close(s, std::vector<float>(want.begin(), want.end()), numerics, 5e-6, 0x1p-5, what);

                std::vector<int32_t> best, ranked;
                float left_out = 0;
                const auto n = static_cast<int64_t>(s.size());
                choose_top(s.data(), n, std::min<int64_t>(x.k, n), best, &ranked, &left_out);
                std::vector<double> ids(ranked.begin(), ranked.end()), values;
                for (int32_t i : ranked) values.push_back(s[i]);
                EXPECT_EQ(r.got.row(kName + "hook_cut", t),
                          (std::vector<double>{values.empty() ? -INFINITY : values.back(), left_out}));
                ids.resize(x.k, -1), values.resize(x.k, -INFINITY);
                EXPECT_EQ(r.got.row(kName + "hook_topk", t), ids) << what;
                EXPECT_EQ(r.got.row(kName + "hook_topk_scores", t), values) << what;
                for (size_t i = 0; i < best.size(); ++i) EXPECT_EQ(ids[places[t * x.k + i]], best[i]) << what;
                best.resize(x.k, -1);
                EXPECT_EQ(std::vector<int32_t>(chosen.begin() + t * x.k, chosen.begin() + (t + 1) * x.k), best) << what;
            }
            // The queries' sums run in another order: now and then one rounds to the other neighbour, and if its FP4
            // code then differs, so do many of the token's scores.
            if (numerics == Numerics::reference) {
                EXPECT_LE(n_different, n_scores / 2) << what;
            }
        }
}

TEST(IndexCuda, ChoosesTheSameUnwatchedAndForALongerStep) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (Numerics numerics : {Numerics::exact, Numerics::reference})
        for (const Case& x : {Case{16, 128, 512, 9000, 3, 100}, Case{4, 32, 64, 200, 30, 1000}}) {
            Twins a(numerics, x), b(numerics, x), c(numerics, x);
            a.watch(probe_bit(kIndexTopk));
            const std::vector<int32_t> want = a.on_gpu();
            EXPECT_EQ(b.on_gpu(), want);
            c.f.device->step.longest += 100000;
            EXPECT_EQ(c.on_gpu(), want);
            EXPECT_TRUE(b.places.empty());
        }
}

TEST(IndexCuda, EverythingIsChosenWhileThereIsLittle) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    Twins r(Numerics::exact, {4, 32, 8, 1, 20, 100});
    const std::vector<int32_t> chosen = r.on_gpu();
    for (int64_t t = 0; t < 20; ++t)
        for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(chosen[t * 8 + i], i < (t + 2) / 4 ? i : -1);
}

TEST(IndexCuda, ForcedPicksAreSorted) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    Twins r(Numerics::exact, {4, 32, 5, 100, 2, 100});
    EXPECT_EQ(r.on_gpu(r.f.up_i32({2, 5}, {7, -1, 3, 20, -1, -1, -1, -1, -1, 2})),
              (std::vector<int32_t>{3, 7, 20, -1, -1, 2, -1, -1, -1, -1}));
}

}  // namespace
}  // namespace vitrine
