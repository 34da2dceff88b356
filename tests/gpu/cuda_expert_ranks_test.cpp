// Experts spread over two GPUs: the bits of one.
#include <gtest/gtest.h>

#include "tests/support/cuda_fixture.h"
#include "tests/support/expert_ranks.h"
#include "tests/support/vectors.h"

namespace vitrine {
namespace {

class OnGpus : public testing::TestWithParam<std::tuple<const char*, Numerics>> {};

TEST_P(OnGpus, two_give_the_bits_of_one) {
    if (!test::CudaFixture::is_there() || cuda::gpus().found.size() < 2) GTEST_SKIP() << "needs two GPUs";
    const auto [model, numerics] = GetParam();
    const auto all = test::int_list(
        test::load_arrays(test::golden_path(std::string(model) + "/golden.safetensors")).at("input_ids"));
    for (const size_t n : {size_t{5}, all.size()}) {
        const std::vector<int32_t> ids(all.begin(), all.begin() + static_cast<ptrdiff_t>(n));
        EngineOptions o;
        o.numerics = numerics, o.n_threads = 1, o.gpu = 0;
        const test::Heard one = test::listen(*Engine::load(test::golden_path(model), o), ids),
                          two = test::listen_to_ranks(test::golden_path(model), o, {0, 1}, ids);
        EXPECT_FALSE(one.logits.empty());
        EXPECT_EQ(one.logits, two.logits);
        EXPECT_TRUE(one.probes.values == two.probes.values) << "what is watched";
        EXPECT_EQ(one.answers, two.answers);
    }
}

INSTANTIATE_TEST_SUITE_P(CudaExpertRanks, OnGpus,
                         testing::Combine(testing::Values("flashlike", "prolike", "tiny15"),
                                          testing::Values(Numerics::exact, Numerics::reference)));

TEST(CudaExpertRanks, ranks_that_share_a_gpu_are_refused) {
    if (!test::CudaFixture::is_there()) GTEST_SKIP() << test::CudaFixture::why_not();
    EngineOptions o;
    EXPECT_THROW(test::listen_to_ranks(test::golden_path("flashlike"), o, {0, 0}, {1, 2, 3}), Error);
}

}  // namespace
}  // namespace vitrine
