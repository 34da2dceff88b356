// The indexer on a GPU's tape: tensor cores against plain products, choice and recall against the CPU's.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/ops/index/index_tape.h"
#include "engine/ops/training.h"
#include "tests/support/cuda_fixture.h"

namespace vitrine {
namespace {

// Values that BF16 holds: the products are exact in both, and no sign turns.
TEST(IndexTapeCuda, tensor_cores_equal_plain_products) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (const auto& [heads, d, rows] : {std::tuple{4, 32, Offsets{0, 700}}, {16, 128, Offsets{0, 131, 133, 400}},
                                         {1, 16, Offsets{0, 4, 9, 30}}, {6, 64, Offsets{0, 33, 63, 97}}}) {
        Offsets entries{0};
        for (int64_t i = 0; i < n_segments(rows); ++i) entries.push_back(entries.back() + (rows[i + 1] - rows[i]) / 4);
        const int64_t n = rows.back(), most = longest_segment(entries);
        const auto coarse = [](int64_t count, uint32_t seed) {
            std::vector<float> v = test::noise(static_cast<size_t>(count), seed);
            for (float& x : v) x = std::round(x * 16) / 16;
            return v;
        };
        std::vector<std::vector<float>> results[2];
        for (const bool is_bf16 : {false, true}) {
            test::CudaFixture f;
            Tape tape(true, f.device.get());
            f.ctx.tape = &tape, f.ctx.has_bf16_products = is_bf16;
            const Tensor q = f.up({n, heads, d}, coarse(n * heads * d, 1)), w = f.up({n, heads}, coarse(n * heads, 2)),
                         keys = f.up({entries.back(), d}, coarse(entries.back() * d, 3));
            const Tensor scores = cuda::index_scores_on_tape(f.ctx, q, w, keys, rows, entries, 4);
            const std::vector<float> gradient = coarse(n * most, 4);
            f.device->upload(tape.grad(scores).data, gradient.data(), gradient.size() * 4);
            tape.backward(f.ctx);
            for (const Tensor& t : {scores, tape.grad(w), tape.grad(q), tape.grad(keys)}) results[is_bf16].push_back(f.down(t));
        }
        for (size_t i = 0; i < 4; ++i) {
            float largest = 0;
            for (float x : results[0][i]) largest = std::max(largest, std::abs(x));
            const float tolerance = (i < 2 ? 1e-5f : 1e-2f) * largest;  // q's and keys' gradients pass through BF16 once
            for (size_t j = 0; j < results[0][i].size(); ++j)
                ASSERT_NEAR(results[0][i][j], results[1][i][j], tolerance) << "heads " << heads << " result " << i << " at " << j;
        }
    }
}

TEST(IndexTapeCuda, choice_and_recall_equal_the_cpus) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    for (const auto& [rows, ratio, k] : {std::tuple{Offsets{0, 40}, 4, 3}, {Offsets{0, 1, 600, 603, 857}, 4, 32},
                                         {Offsets{0, 1100, 1109}, 4, 64}, {Offsets{0, 1500}, 1, 65}}) {
        test::CudaFixture f;
        Tape tape(false, f.device.get());
        TrainingStep ours, theirs;
        f.ctx.tape = &tape, f.ctx.training = &ours, f.cpu.ctx.training = &theirs;
        const int64_t n = rows.back(), most = longest_segment(rows) / ratio;
        for (const float steps : {4.0f, 1e6f}) {
            std::vector<float> values = test::noise(static_cast<size_t>(n * most), 4), mass = test::noise(values.size(), 5);
            for (float& x : values) x = std::round(x * steps) / steps;  // ties, zeros of both signs
            const Tensor scores = f.up({n, most}, values);
            const Tensor expected = choose_entries(f.cpu.ctx, f.cpu.tensor({n, most}, values), rows, ratio, k);
            const std::vector<int32_t> got = f.down_i32(choose_entries(f.ctx, scores, rows, ratio, k));
            EXPECT_EQ(got, std::vector<int32_t>(expected.as<int32_t>(), expected.as<int32_t>() + n * k)) << n << " " << steps;
            measure_indexer(f.ctx, scores, f.up({n, most}, mass), rows, ratio, k);
            f.device->collect();
            measure_indexer(f.cpu.ctx, f.cpu.tensor({n, most}, values), f.cpu.tensor({n, most}, mass), rows, ratio, k);
            EXPECT_NEAR(ours.indexers.back().recall, theirs.indexers.back().recall, 1e-6);
        }
    }
}

}  // namespace
}  // namespace vitrine
