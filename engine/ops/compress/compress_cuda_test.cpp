// Compression on the GPU against the CPU: both kinds of layer, rings that wrap, chunks and single tokens, entries and
// index keys.
#include <gtest/gtest.h>

#include <cstring>

#include "engine/ops/compress/compress.h"
#include "engine/ops/deliveries.h"
#include "engine/ops/quantize/quantize.h"
#include "tests/support/collector.h"
#include "tests/support/cuda_compare.h"
#include "tests/support/cuda_fixture.h"

namespace vitrine {
namespace {

constexpr int kHidden = 96;

struct Case {
    int ratio, d, rope;
    cuda::EntryKind kind;
    bool is_normed;
};

CompressorWeights weights(const Case& x) {
    const int64_t o = x.ratio == 4 ? 2 : 1;
    const auto matrix = [&](int64_t rows, int64_t cols, uint32_t seed) {
        return test::make_bf16_param(test::noise(rows * cols, seed), {rows, cols});
    };
    return {matrix(o * x.d, kHidden, 1), matrix(o * x.d, kHidden, 2), matrix(x.ratio, o * x.d, 3),
            test::make_bf16_param(test::noise(x.d, 4), {x.d})};
}

std::vector<float> unpack(const Case& x, bool is_packed, const std::byte* row) {
    std::vector<float> v(x.d);
    if (!is_packed)
        std::memcpy(v.data(), row, v.size() * 4);
    else if (x.kind == cuda::EntryKind::main)
        cpu::unpack_entry({true, x.d, x.rope}, row, v.data());
    else
        cpu::unpack_index_key({true, x.d}, row, v.data());
    return v;
}

// All entries of `n` tokens, as rows in the cache's format, and what is published.
class Twins {
  public:
    Twins(Numerics numerics, const Case& x, int64_t n)
        : f(numerics),
          x_(x),
          w_(weights(x)),
          row_(x.kind == cuda::EntryKind::main ? cpu::EntryFormat{f.ctx.is_reference(), x.d, x.rope}.row_bytes()
                                               : cpu::IndexKeyFormat{f.ctx.is_reference(), x.d}.row_bytes()) {
        ModelConfig c;
        c.rope_dim = x.rope, c.compress_rope_theta = 160000;
        frequencies_ = rope_frequencies(c, true);
        input = test::as_activation(numerics, test::noise(n * kHidden, 5));
        n_ = n;
        watch_.set(probe_bit(kEntry) | probe_bit(kEntryWeights));
    }
    std::vector<std::byte> on_gpu(const std::vector<int64_t>& chunks, test::Collector* sink = nullptr) {
        const int64_t most = *std::max_element(chunks.begin(), chunks.end());
        const int64_t capacity = 2 * x_.ratio + most, width = (x_.ratio == 4 ? 2 : 1) * x_.d;
        auto* ring = reinterpret_cast<float*>(f.bytes(capacity * 2 * width * 4));
        std::byte* entries = f.bytes(n_ / x_.ratio * row_ + 1);
        const bool is_key = x_.kind == cuda::EntryKind::index_key;
        const cuda::LayerView view{nullptr,
                                   is_key ? nullptr : entries,
                                   is_key ? entries : nullptr,
                                   is_key ? nullptr : ring,
                                   is_key ? ring : nullptr,
                                   1,
                                   capacity,
                                   capacity};
        CompressorWeights w = w_;
        w.wkv = f.up(w.wkv), w.wgate = f.up(w.wgate), w.ape = f.up(w.ape), w.norm = f.up(w.norm);
        if (sink) f.ctx.watch = &watch_, f.ctx.probes = sink;
        int64_t at = 0;
        for (int64_t n : chunks) {
            std::vector<cuda::TokenAt> tokens;
            for (int64_t t = 0; t < n; ++t) tokens.push_back({0, 0, at + t});
            f.set_step(tokens, {view});
            const Tensor some = f.up({n, kHidden}, {input.begin() + at * kHidden, input.begin() + (at + n) * kHidden});
            cuda::compress(f.ctx, some, {w, x_.ratio, x_.d, x_.rope, frequencies_, 1e-6, x_.kind, x_.is_normed});
            f.device->deliveries().gather();
            f.device->sync();
            if (sink) f.device->deliveries().hand_out(tokens, *sink);
            f.device->deliveries().clear();
            at += n;
        }
        std::vector<std::byte> got(n_ / x_.ratio * row_);
        f.device->download(got.data(), entries, got.size());
        f.device->sync();
        return got;
    }
    std::vector<std::byte> on_cpu(test::Collector* sink = nullptr) {
        RowRing ring((x_.ratio == 4 ? 2 : 1) * x_.d * 8, 2 * x_.ratio);
        std::vector<std::byte> out(n_ / x_.ratio * row_);
        const NewEntries e = compress(f.cpu.ctx, f.cpu.tensor({n_, kHidden}, input), 0, w_, x_.ratio, x_.d,
                                      frequencies_, 1e-6, ring, x_.is_normed);
        for (int64_t i = 0; i < e.n; ++i) {
            float* v = e.entries_ND.row<float>(i);
            const int token = static_cast<int>((i + 1) * x_.ratio - 1);
            if (sink) sink->put(token, kEntry, 0, v, 1, x_.d);
            if (sink)
                sink->put(token, kEntryWeights, 0, e.weights_NS.row<float>(i), 1,
                          static_cast<int>(e.weights_NS.dim(1)));
            std::byte* to = out.data() + i * row_;
            if (x_.kind == cuda::EntryKind::index_key && f.ctx.is_reference()) hadamard(v, x_.d);
            if (!f.ctx.is_reference())
                std::memcpy(to, v, row_);
            else if (x_.kind == cuda::EntryKind::main)
                cpu::pack_entry({true, x_.d, x_.rope}, v, to);
            else
                cpu::pack_index_key({true, x_.d}, v, to);
        }
        return out;
    }
    int64_t row_bytes() const { return row_; }
    test::CudaFixture f;
    std::vector<float> input;

  private:
    Case x_;
    CompressorWeights w_;
    int64_t row_, n_ = 0;
    std::vector<double> frequencies_;
    Watch watch_;
};

const Case kCases[] = {{4, 64, 16, cuda::EntryKind::main, true},       {4, 512, 64, cuda::EntryKind::main, true},
                       {4, 128, 64, cuda::EntryKind::index_key, true}, {4, 32, 16, cuda::EntryKind::index_key, true},
                       {128, 512, 64, cuda::EntryKind::main, true},    {8, 33, 8, cuda::EntryKind::main, false}};

TEST(CompressCuda, EqualsTheCpu) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (Numerics numerics : {Numerics::exact, Numerics::reference})
        for (const Case& x : kCases) {
            const std::string what = "ratio " + std::to_string(x.ratio) + ", " + std::to_string(x.d);
            const int64_t n = x.ratio == 128 ? 300 : 61;
            Twins r(numerics, x, n);
            const bool is_packed = numerics == Numerics::reference;
            const std::vector<std::byte> got = r.on_gpu({n}), want = r.on_cpu();
            size_t n_different = 0;
            for (size_t i = 0; i < got.size(); ++i) n_different += got[i] != want[i];
            // Products of weights are summed in another order: now and then a value rounds to the other neighbour.
            if (is_packed) {
                EXPECT_LE(n_different, got.size() / 50) << what;
            }
            for (int64_t i = 0; i < n / x.ratio; ++i) {
                const auto at = i * r.row_bytes();
                test::expect_close(unpack(x, is_packed, got.data() + at), unpack(x, is_packed, want.data() + at),
                                   numerics, 1e-5, x.kind == cuda::EntryKind::main ? 0.08 : 0.34, what);
            }
        }
}

// Up to 16 tokens the products' bits are those of single tokens, so the entries' are.
TEST(CompressCuda, ChunksEqualSingleTokens) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (Numerics numerics : {Numerics::exact, Numerics::reference})
        for (const Case& x : kCases) {
            if (x.ratio == 128) continue;
            Twins r(numerics, x, 61);
            const std::vector<std::byte> one = r.on_gpu(std::vector<int64_t>(61, 1));
            EXPECT_TRUE(one == r.on_gpu({5, 1, 2, 16, 11, 3, 16, 7})) << x.ratio << ", " << x.d;
        }
}

TEST(CompressCuda, ProbesGetWhatTheCpuPublishes) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (const Case& x : {kCases[0], kCases[4], kCases[5]}) {
        Twins r(Numerics::exact, x, 290);
        test::Collector got, want;
        r.on_gpu({290}, &got);
        r.on_cpu(&want);
        for (Probe p : {kEntry, kEntryWeights}) {
            const std::string name = std::string("blocks.0.") + probe_info(p).name;
            ASSERT_EQ(got.rows(name).size(), want.rows(name).size());
            for (const auto& [token, row] : want.rows(name)) {
                const std::vector<double>& other = got.row(name, token);
                ASSERT_EQ(other.size(), row.size()) << name << " of token " << token;
                for (size_t i = 0; i < row.size(); ++i)
                    EXPECT_NEAR(other[i], row[i], 2e-5) << name << " of token " << token;
            }
        }
    }
}

}  // namespace
}  // namespace vitrine
