// Attention on a GPU's tape at the sizes of real models, against the CPU's, and its bits.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "engine/ops/attend/attend_tape.h"
#include "engine/ops/training.h"
#include "tests/support/cuda_fixture.h"

namespace vitrine {
namespace {

struct Case {
    const char* name;
    Offsets rows;
    int64_t n_heads, c, window, ratio, n_chosen;  // 0: no entries; all that are complete
};
using Results = std::map<std::string, std::vector<float>>;

// The first n_chosen of a query's complete entries in an order of its own, then -1.
std::vector<int32_t> choose(const Case& c) {
    std::vector<int32_t> all;
    uint32_t state = 7;
    for (int64_t s = 0; s < n_segments(c.rows); ++s)
        for (int64_t p = 0; p < c.rows[s + 1] - c.rows[s]; ++p) {
            std::vector<int32_t> list(static_cast<size_t>((p + 1) / c.ratio));
            for (size_t i = 0; i < list.size(); ++i) {
                list[i] = static_cast<int32_t>(i);
                state = state * 1664525u + 1013904223u;
                std::swap(list[i], list[(state >> 8) % (i + 1)]);
            }
            list.resize(static_cast<size_t>(c.n_chosen), -1);
            all.insert(all.end(), list.begin(), list.end());
        }
    return all;
}

Results run(const Case& c, bool is_gpu, bool is_bf16) {
    test::CudaFixture f;
    Ctx& ctx = is_gpu ? f.ctx : f.cpu.ctx;
    TrainingStep step;
    Tape tape(true, ctx.cuda);
    ctx.tape = &tape, ctx.training = &step, ctx.has_bf16_products = is_bf16;
    const auto tensor = [&](Shape shape, uint32_t seed, float factor) {
        std::vector<float> v = test::noise(static_cast<size_t>(shape.count()), seed);
        for (float& x : v) x *= factor;
        return is_gpu ? f.up(shape, v, DType::f32) : f.cpu.tensor(shape, v);
    };
    Offsets entries{0};
    for (int64_t s = 0; s < n_segments(c.rows); ++s)
        entries.push_back(entries.back() + (c.ratio > 0 ? (c.rows[s + 1] - c.rows[s]) / c.ratio : 0));
    const int64_t n = c.rows.back();
    const Tensor q = tensor({n, c.n_heads, c.c}, 1, 2), kv = tensor({n, 1, c.c}, 2, 2);
    const Tensor e = entries.back() > 0 ? tensor({entries.back(), c.c}, 3, 2) : Tensor{};
    const Tensor dsinks = tensor({c.n_heads}, 5, 0);
    Param sinks{"sinks", {c.n_heads}, {}, nullptr, tensor({c.n_heads}, 4, 1)};
    sinks.view = {sinks.master.data, nullptr, DType::f32, DType::f8_e8m0, 1, c.n_heads, 0, 0};
    tape.bind(sinks.master, dsinks);
    const Tensor chosen = c.n_chosen > 0 ? test::place_ints(ctx, {n, c.n_chosen}, choose(c)) : Tensor{};
    const TapeAttention a =
        attend_on_tape(ctx, q, {kv, kv, c.window, c.rows, e, entries, c.ratio, chosen}, sinks, !e.empty());
    const Tensor dout = tape.grad(a.o_THV);
    const std::vector<float> gradient = test::noise(static_cast<size_t>(dout.count()), 9);
    if (is_gpu)
        f.device->upload(dout.data, gradient.data(), gradient.size() * 4), f.device->sync();
    else
        std::copy(gradient.begin(), gradient.end(), dout.f32());
    tape.backward(ctx);
    Results all;
    const auto keep = [&](const char* name, const Tensor& x) {
        if (x.empty()) return;
        if (is_gpu)
            all[name] = f.down(x);
        else
            all[name].assign(x.f32(), x.f32() + x.count());
    };
    keep("o", a.o_THV), keep("mass", a.mass_TS), keep("dq", tape.grad(q)), keep("dk", tape.grad(kv));
    if (!e.empty()) keep("de", tape.grad(e));
    keep("dsinks", dsinks);
    return all;
}

Offsets many_segments() {
    Offsets rows{0};
    for (int64_t i = 0; i < 40; ++i) rows.push_back(rows.back() + 1 + (i * 37) % 90);
    return rows;
}

TEST(AttendTapeCuda, sizes_of_real_models) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (const Case& c : {Case{"chosen", {0, 1024, 1100, 1400}, 6, 64, 128, 4, 64},
                          Case{"all entries", {0, 700, 1000}, 6, 64, 128, 128, 0},
                          Case{"short segments", many_segments(), 8, 64, 64, 4, 8},
                          Case{"every earlier row", {0, 300, 430}, 8, 64, 300, 0, 0},
                          Case{"wide heads", {0, 300, 340}, 16, 512, 128, 4, 0}}) {
        const Results cpu = run(c, false, false);
        for (const bool is_bf16 : {false, true}) {
            const Results gpu = run(c, true, is_bf16), again = run(c, true, is_bf16);
            for (const auto& [name, expected] : cpu) {
                const std::vector<float>& got = gpu.at(name);
                ASSERT_EQ(got.size(), expected.size());
                float largest = 0;
                for (float x : expected) largest = std::max(largest, std::abs(x));
                const float tolerance = (is_bf16 ? 2e-2f : 5e-6f) * largest;
                for (size_t i = 0; i < got.size(); ++i)
                    ASSERT_NEAR(got[i], expected[i], tolerance)
                        << c.name << ", BF16 " << is_bf16 << ", " << name << " at " << i;
                EXPECT_EQ(got, again.at(name))
                    << c.name << ", BF16 " << is_bf16 << ", " << name << ": not the same bits again";
            }
        }
    }
}

}  // namespace
}  // namespace vitrine
