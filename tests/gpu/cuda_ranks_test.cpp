// Training over ranks on GPUs: the losses of one GPU. Two ranks on one GPU (through the host), and on two (NCCL) where they are.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/device/cuda/rank_sums.h"
#include "tests/support/cuda_fixture.h"
#include "tests/support/thread_ranks.h"
#include "tests/train/small_model.h"

namespace vitrine {
namespace {

TrainConfig whole_training() {
    TrainConfig c = test::small_training();
    c.batch = 5, c.balance = BalanceKind::bias_and_sequence, c.z_weight = 1e-3, c.indexer_weight = 0.1, c.eps = 1e-8;
    return c;
}

struct Result {
    std::vector<StepReport> steps;
    std::vector<std::vector<std::byte>> bits;
};

// Ranks as threads, rank r on GPU gpus[r].
Result train(const TrainConfig& c, const std::vector<int>& gpus, int n_steps) {
    Result result;
    result.bits.resize(gpus.size());
    const ModelConfig m = test::small_model();
    test::ThreadRanks(static_cast<int>(gpus.size())).run([&](Communicator& ranks) {
        const auto rank = static_cast<size_t>(ranks.rank());
        std::unique_ptr<Trainer> t;
        if (rank == 0) {
            t = std::make_unique<Trainer>(m, fresh_weights(m, c), c, 1, gpus[0], &ranks);
            t->invite();
            for (int i = 0; i < n_steps; ++i) result.steps.push_back(t->step());
            t->dismiss();
        } else {
            t = Trainer::join(ranks, 1, gpus[rank]);
            t->follow();
        }
        result.bits[rank] = test::bits_of(*t);
    });
    return result;
}

void expect_one_gpus_losses(const std::vector<int>& gpus) {
    const TrainConfig c = whole_training();
    const Result one = train(c, {0}, 10), two = train(c, gpus, 10), again = train(c, gpus, 10);
    ASSERT_EQ(two.steps.size(), 10u);
    for (size_t i = 0; i < 10; ++i) {
        EXPECT_NEAR(two.steps[i].loss, one.steps[i].loss, 1e-4) << "step " << i;
        EXPECT_NEAR(two.steps[i].grad_norm, one.steps[i].grad_norm, 1e-3 * one.steps[i].grad_norm) << "step " << i;
        EXPECT_EQ(two.steps[i].loss, again.steps[i].loss) << "step " << i;
        for (size_t j = 0; j < two.steps[i].scalars.size(); ++j) {
            const Scalar &a = one.steps[i].scalars[j], &b = two.steps[i].scalars[j];
            EXPECT_EQ(a.name, b.name);
            if (!a.name.starts_with("loss.")) continue;
            EXPECT_NEAR(a.value, b.value, 1e-4) << a.name << ", step " << i;
        }
    }
    EXPECT_EQ(two.bits[0], two.bits[1]) << "every rank holds the same weights and moments";
}

TEST(CudaRanks, two_ranks_on_one_gpu_add_through_the_host) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    expect_one_gpus_losses({0, 0});
}

TEST(CudaRanks, two_gpus_add_by_nccl) {
    if (!test::CudaFixture::is_there() || cuda::gpus().found.size() < 2) GTEST_SKIP() << "needs two GPUs";
    expect_one_gpus_losses({0, 1});
}

TEST(CudaRanks, what_needs_other_ranks_activations_is_refused) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    TrainConfig c = whole_training();
    c.balance = BalanceKind::auxiliary;
    EXPECT_THROW(train(c, {0, 0}, 1), Error);
}

// Odd counts, and more than one piece on the way through the host.
TEST(CudaRanks, sums_of_any_length) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    const bool has_two = cuda::gpus().found.size() > 1;
    for (const size_t n : {size_t{1}, size_t{17}, (size_t{4} << 20) + 31})
        test::ThreadRanks(2).run([&](Communicator& ranks) {
            cuda::Device device(has_two ? ranks.rank() : 0);
            cuda::RankSums sums(device, ranks);
            EXPECT_FALSE(sums.way().empty());
            std::vector<float> here(n);
            for (size_t i = 0; i < n; ++i) here[i] = static_cast<float>(i % 512) * (ranks.rank() ? 4.0F : 1.0F);
            auto* there = static_cast<float*>(device.memory().take(n * sizeof(float)));
            device.upload(there, here.data(), n * sizeof(float));
            sums.sum(there, n);
            device.download(here.data(), there, n * sizeof(float));
            device.sync();
            device.memory().give(there);
            for (size_t i = 0; i < n; ++i) ASSERT_EQ(here[i], 5.0F * static_cast<float>(i % 512)) << i << " of " << n;
        });
}

}  // namespace
}  // namespace vitrine
