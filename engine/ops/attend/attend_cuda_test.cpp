// Core attention on the GPU against the CPU: rings that wrap, entries all or chosen, few tokens and many, what the
// probes get.
#include <gtest/gtest.h>

#include <cstring>

#include "engine/ops/attend/attend.h"
#include "engine/ops/compress/compress.h"
#include "engine/ops/deliveries.h"
#include "engine/ops/rmsnorm/rmsnorm.h"
#include "tests/support/collector.h"
#include "tests/support/cuda_compare.h"
#include "tests/support/cuda_fixture.h"

namespace vitrine {
namespace {

constexpr int kWindow = 128;

// One sequence's rows, the same bytes on both sides; the last of the ring is `last`.
struct Rows {
    cpu::EntryFormat format;
    int64_t capacity = kWindow + 60;
    std::vector<std::byte> ring, entries;

    Rows(test::CudaFixture& f, int c, int rope, int64_t last, int64_t n_entries)
        : format{f.ctx.is_reference(), c, rope},
          ring(capacity * format.row_bytes()),
          entries(n_entries * format.row_bytes() + 1) {
        for (int64_t p = std::max<int64_t>(0, last + 1 - capacity); p <= last; ++p) put(row(p), p);
        for (int64_t i = 0; i < n_entries; ++i) put(entry(i), 1000003 + i);
    }
    std::byte* row(int64_t p) { return ring.data() + p % capacity * format.row_bytes(); }
    std::byte* entry(int64_t i) { return entries.data() + i * format.row_bytes(); }
    void put(std::byte* at, int64_t seed) const {
        const std::vector<float> v = test::noise(format.c, static_cast<uint32_t>(seed));
        if (format.is_packed)
            cpu::pack_entry(format, v.data(), at);
        else
            std::memcpy(at, v.data(), v.size() * 4);
    }
    cuda::LayerView upload(test::CudaFixture& f) const {
        cuda::LayerView v{f.bytes(ring.size()), f.bytes(entries.size()), nullptr, nullptr, nullptr, capacity, 1, 1};
        f.device->upload(v.window, ring.data(), ring.size());
        f.device->upload(v.entries, entries.data(), entries.size());
        f.device->sync();
        return v;
    }
    KeyList keys(int64_t position, int ratio, const std::vector<int32_t>* chosen) {
        KeyList k;
        for (int64_t p = std::max<int64_t>(0, position + 1 - kWindow); p <= position; ++p) k.rows.push_back(row(p));
        k.n_window = static_cast<int64_t>(k.rows.size());
        for (int64_t i = 0; !chosen && ratio && i < (position + 1) / ratio; ++i) k.rows.push_back(entry(i));
        for (size_t i = 0; chosen && i < chosen->size() && (*chosen)[i] >= 0; ++i)
            k.rows.push_back(entry((*chosen)[i]));
        return k;
    }
};

struct Case {
    int c, rope, heads, ratio;
    int64_t position, n_tokens, k;  // k > 0: chosen entries
};

// Every third entry from the token's own number on, as many as are visible, then -1.
std::vector<int32_t> picks(const Case& x, int64_t t) {
    std::vector<int32_t> v;
    const int64_t visible = (x.position + t + 1) / 4;
    for (int64_t i = t % 3; i < visible && static_cast<int64_t>(v.size()) < x.k; i += 3)
        v.push_back(static_cast<int32_t>(i));
    v.resize(x.k, -1);
    return v;
}

std::vector<cuda::TokenAt> tokens(int64_t position, int64_t n) {
    std::vector<cuda::TokenAt> v;
    for (int64_t t = 0; t < n; ++t) v.push_back({0, 0, position + t});
    return v;
}

ModelConfig config(const Case& x) {
    ModelConfig c;
    c.head_dim = x.c, c.rope_dim = x.rope, c.n_heads = x.heads, c.sliding_window = kWindow;
    return c;
}

const Case kCases[] = {
    {64, 16, 6, 0, 0, 1, 0},        {64, 16, 6, 0, 0, 3, 0},         {33, 8, 3, 0, 1000, 5, 0},
    {64, 16, 6, 128, 700, 40, 0},   {512, 64, 16, 0, 990, 1, 0},     {512, 64, 16, 128, 3000, 2, 0},
    {512, 64, 16, 4, 11999, 1, 0},  {512, 64, 17, 4, 11999, 33, 0},  {64, 16, 6, 4, 20, 7, 64},
    {512, 64, 16, 4, 8000, 3, 512}, {512, 64, 16, 4, 8000, 40, 512}, {40, 8, 9, 4, 300, 17, 31},
    {128, 32, 8, 4, 0, 50, 16},     {256, 64, 64, 4, 3000, 20, 100},
};

TEST(AttendCuda, EqualsTheCpu) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (Numerics numerics : {Numerics::exact, Numerics::reference})
        for (const Case& x : kCases) {
            test::CudaFixture f(numerics);
            const int64_t last = x.position + x.n_tokens - 1;
            Rows rows(f, x.c, x.rope, last, x.ratio ? (last + 1) / x.ratio : 0);
            f.set_step(tokens(x.position, x.n_tokens), {rows.upload(f)});
            std::vector<KeyList> keys;
            std::vector<int32_t> chosen;
            for (int64_t t = 0; t < x.n_tokens; ++t) {
                const std::vector<int32_t> v = picks(x, t);
                keys.push_back(rows.keys(x.position + t, x.ratio, x.k ? &v : nullptr));
                chosen.insert(chosen.end(), v.begin(), v.end());
            }
            const Shape shape{x.n_tokens, x.heads, x.c};
            const std::vector<float> q = test::as_activation(numerics, test::noise(shape.count(), 5));
            const std::vector<float> sinks = test::noise(x.heads, 6);
            const Tensor want =
                attend(f.cpu.ctx, f.cpu.tensor(shape, q), keys, rows.format, f.cpu.tensor({x.heads}, sinks), 0);
            const Param sink = f.up(test::make_param(sinks, {x.heads}));
            const Tensor there = x.k ? f.up_i32({x.n_tokens, x.k}, chosen) : Tensor{};
            const Tensor got = cuda::attend(f.ctx, f.up(shape, q), sink, config(x), x.ratio, there);
            // FP32 sums over up to 3,100 keys: 6e-6 of the largest value was measured.
            test::expect_close(f.down(got), want, numerics, 1e-5, 0x1p-7,
                               "c " + std::to_string(x.c) + ", ratio " + std::to_string(x.ratio) + ", " +
                                   std::to_string(x.n_tokens) + " tokens at " + std::to_string(x.position));
        }
}

// Up to 16 tokens, a token's bits don't depend on the others, nor on the length that the step is made for.
TEST(AttendCuda, FewTokensAreIndependent) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (Numerics numerics : {Numerics::exact, Numerics::reference})
        for (const Case& x : {Case{512, 64, 16, 4, 5000, 5, 300}, Case{64, 16, 6, 128, 3000, 16, 0}}) {
            test::CudaFixture f(numerics);
            const int64_t last = x.position + x.n_tokens - 1;
            Rows rows(f, x.c, x.rope, last, (last + 1) / x.ratio);
            const cuda::LayerView view = rows.upload(f);
            const Param sink = f.up(test::make_param(test::noise(x.heads, 6), {x.heads}));
            const int64_t width = x.heads * x.c;
            const std::vector<float> q = test::as_activation(numerics, test::noise(x.n_tokens * width, 5));
            const auto run = [&](int64_t t0, int64_t n, int64_t longer) {
                f.set_step(tokens(x.position + t0, n), {view});
                f.device->step.longest += longer;
                std::vector<int32_t> chosen;
                for (int64_t t = t0; t < t0 + n && x.k; ++t) {
                    const std::vector<int32_t> v = picks(x, t);
                    chosen.insert(chosen.end(), v.begin(), v.end());
                }
                const Tensor there = x.k ? f.up_i32({n, x.k}, chosen) : Tensor{};
                const Tensor some = f.up({n, x.heads, x.c}, {q.begin() + t0 * width, q.begin() + (t0 + n) * width});
                return f.down(cuda::attend(f.ctx, some, sink, config(x), x.ratio, there));
            };
            const std::vector<float> all = run(0, x.n_tokens, 0);
            for (int64_t t = 0; t < x.n_tokens; ++t) {
                const std::vector<float> one = run(t, 1, 200000);
                EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin() + t * width)) << "token " << t;
            }
        }
}

TEST(AttendCuda, StoresRowsAsTheCpuDoes) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (Numerics numerics : {Numerics::exact, Numerics::reference})
        for (const auto& [c, rope] : {std::pair{64, 16}, {512, 64}, {33, 8}, {200, 8}}) {
            test::CudaFixture f(numerics);
            const cpu::EntryFormat format{f.ctx.is_reference(), c, rope};
            const int64_t n = 20, capacity = 31, position = 57;  // wraps
            const auto bytes = static_cast<size_t>(format.row_bytes());
            std::byte* ring = f.bytes(capacity * bytes);
            f.set_step(tokens(position, n), {{ring, nullptr, nullptr, nullptr, nullptr, capacity, 1, 1}});
            std::vector<float> x = test::noise(n * c, 9);
            for (int i = 0; i < c; ++i) x[i] = 0, x[c + i] *= 1e-6f, x[2 * c + i] *= 1e4f;  // floors and large scales
            x = test::as_activation(numerics, x);
            const cuda::WindowInput rows{f.up({n, c}, x), rope};
            cuda::append_keys(f.ctx, {}, {}, &rows);
            std::vector<std::byte> got(capacity * bytes), want(bytes);
            f.device->download(got.data(), ring, got.size());
            f.device->sync();
            for (int64_t t = 0; t < n; ++t) {
                if (format.is_packed)
                    cpu::pack_entry(format, x.data() + t * c, want.data());
                else
                    std::memcpy(want.data(), x.data() + t * c, bytes);
                EXPECT_EQ(std::memcmp(want.data(), got.data() + (position + t) % capacity * bytes, bytes), 0)
                    << c << ", row " << t;
            }
        }
}

// From the product itself: norm and rotation on the way.
TEST(AttendCuda, NormsAndRotatesRowsOnTheWay) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (Numerics numerics : {Numerics::exact, Numerics::reference})
        for (const auto& [c, rope, is_normed] : {std::tuple{64, 16, true}, {512, 64, true}, {33, 8, false}}) {
            test::CudaFixture f(numerics);
            const cpu::EntryFormat format{f.ctx.is_reference(), c, rope};
            const int64_t n = 7, position = 57;
            const auto bytes = static_cast<size_t>(format.row_bytes());
            std::byte* ring = f.bytes(n * bytes);
            f.set_step(tokens(position, n), {{ring, nullptr, nullptr, nullptr, nullptr, n, 1, 1}});
            ModelConfig config;
            config.rope_dim = rope, config.compress_rope_theta = 160000;
            const std::vector<double> frequencies = rope_frequencies(config, true);
            const std::vector<float> x = test::as_activation(numerics, test::noise(n * c, 9));
            const Param norm = test::make_bf16_param(test::noise(c, 8), {c}), there = f.up(norm);
            const RopeAngles angles = cuda::rope_angles(f.ctx, frequencies);
            const cuda::WindowInput input{f.up({n, c}, x), rope, is_normed ? &there : nullptr, 1e-6, &angles};
            cuda::append_keys(f.ctx, {}, {}, &input);

            Tensor rows = f.cpu.tensor({n, c}, x);
            if (is_normed) rows = rmsnorm(f.cpu.ctx, rows, norm, 1e-6);
            std::vector<int64_t> positions;
            for (int64_t t = 0; t < n; ++t) positions.push_back(position + t);
            apply_rope(f.cpu.ctx, rows.reshaped({n, 1, c}), rope_angles(f.cpu.ctx, positions, frequencies));
            std::vector<std::byte> got(n * bytes), packed(bytes);
            f.device->download(got.data(), ring, got.size());
            f.device->sync();
            for (int64_t t = 0; t < n; ++t) {
                std::vector<float> have(c), want(rows.row<float>(t), rows.row<float>(t) + c);
                const std::byte* at = got.data() + (position + t) % n * bytes;
                if (format.is_packed) {
                    cpu::pack_entry(format, want.data(), packed.data());
                    cpu::unpack_entry(format, packed.data(), want.data());
                    cpu::unpack_entry(format, at, have.data());
                } else {
                    std::memcpy(have.data(), at, bytes);
                }
                test::expect_close(have, want, numerics, 1e-6, 0.08, "c " + std::to_string(c));
            }
        }
}

// Rotation back in the same pass gives the same bits as afterwards.
TEST(AttendCuda, RotatesBackInTheSamePass) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (Numerics numerics : {Numerics::exact, Numerics::reference})
        for (const Case& x :
             {Case{64, 16, 6, 128, 700, 3, 0}, Case{512, 64, 16, 4, 1000, 40, 64}, Case{33, 8, 3, 4, 50, 20, 31}}) {
            test::CudaFixture f(numerics);
            const int64_t last = x.position + x.n_tokens - 1;
            Rows rows(f, x.c, x.rope, last, (last + 1) / x.ratio);
            f.set_step(tokens(x.position, x.n_tokens), {rows.upload(f)});
            std::vector<int32_t> chosen;
            for (int64_t t = 0; t < x.n_tokens; ++t) {
                const std::vector<int32_t> v = picks(x, t);
                chosen.insert(chosen.end(), v.begin(), v.end());
            }
            ModelConfig c = config(x);
            c.compress_rope_theta = 160000;
            const RopeAngles angles = cuda::rope_angles(f.ctx, rope_frequencies(c, true));
            const Shape shape{x.n_tokens, x.heads, x.c};
            const Tensor q = f.up(shape, test::as_activation(numerics, test::noise(shape.count(), 5)));
            const Param sink = f.up(test::make_param(test::noise(x.heads, 6), {x.heads}));
            const Tensor there = x.k ? f.up_i32({x.n_tokens, x.k}, chosen) : Tensor{};
            const Tensor after = cuda::attend(f.ctx, q, sink, c, x.ratio, there);
            cuda::apply_rope(f.ctx, after, angles, -1);
            EXPECT_EQ(f.down(cuda::attend(f.ctx, q, sink, c, x.ratio, there, {}, &angles)), f.down(after));
        }
}

TEST(AttendCuda, ProbesGetWhatTheCpuPublishes) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    Watch watch;
    watch.set(probe_bit(kShares) | probe_bit(kSharesHead) | probe_bit(kWindowMass) | probe_bit(kEntryMass) |
              probe_bit(kEntryMassHead));
    for (Numerics numerics : {Numerics::exact, Numerics::reference})
        for (const Case& x : {Case{64, 16, 6, 0, 3, 2, 0}, Case{64, 16, 6, 128, 700, 20, 0},
                              Case{512, 64, 16, 4, 1000, 3, 64}, Case{512, 64, 16, 4, 100, 30, 64}}) {
            test::CudaFixture f(numerics);
            const int64_t last = x.position + x.n_tokens - 1;
            Rows rows(f, x.c, x.rope, last, x.ratio ? (last + 1) / x.ratio : 0);
            const std::vector<cuda::TokenAt> at = tokens(x.position, x.n_tokens);
            f.set_step(at, {rows.upload(f)});
            std::vector<KeyList> keys;
            std::vector<int32_t> chosen, places;
            for (int64_t t = 0; t < x.n_tokens; ++t) {
                const std::vector<int32_t> v = picks(x, t);
                keys.push_back(rows.keys(x.position + t, x.ratio, x.k ? &v : nullptr));
                const auto n =
                    static_cast<int32_t>(keys.back().rows.size()) - static_cast<int32_t>(keys.back().n_window);
                for (int32_t i = 0; i < n && x.k; ++i) keys.back().column.push_back(n - 1 - i);
                chosen.insert(chosen.end(), v.begin(), v.end());
                for (int32_t i = 0; i < x.k; ++i) places.push_back(i < n ? n - 1 - i : i);
            }
            const Shape shape{x.n_tokens, x.heads, x.c};
            const std::vector<float> q = test::as_activation(numerics, test::noise(shape.count(), 5)),
                                     sinks = test::noise(x.heads, 6);
            test::Collector want, got;
            f.ctx.watch = f.cpu.ctx.watch = &watch;
            f.ctx.probes = &got, f.cpu.ctx.probes = &want;
            attend(f.cpu.ctx, f.cpu.tensor(shape, q), keys, rows.format, f.cpu.tensor({x.heads}, sinks), 0);
            const Param sink = f.up(test::make_param(sinks, {x.heads}));  // until what is watched has been gathered
            cuda::attend(f.ctx, f.up(shape, q), sink, config(x), x.ratio,
                         x.k ? f.up_i32({x.n_tokens, x.k}, chosen) : Tensor{},
                         x.k ? f.up_i32({x.n_tokens, x.k}, places) : Tensor{});
            f.device->deliveries().gather();
            f.device->sync();
            f.device->deliveries().hand_out(at, got);
            for (Probe p : {kShares, kSharesHead, kWindowMass, kEntryMass, kEntryMassHead}) {
                const std::string name = std::string("blocks.0.") + probe_info(p).name;
                for (int t = 0; t < x.n_tokens; ++t) {
                    const std::vector<double>&a = got.row(name, t), &b = want.row(name, t);
                    ASSERT_EQ(a.size(), b.size()) << name << " of token " << t;
                    for (size_t i = 0; i < a.size(); ++i)
                        ASSERT_NEAR(a[i], b[i], 2e-6) << name << " of token " << t << " at " << i;
                }
            }
        }
}

}  // namespace
}  // namespace vitrine
