// Experts spread over ranks: the bits of one process, whatever is asked of the model.
#include "tests/support/expert_ranks.h"

#include <gtest/gtest.h>

#include "engine/base/error.h"
#include "tests/support/vectors.h"

namespace vitrine {
namespace {

std::vector<int32_t> ids_of(const std::string& model) {
    const auto all =
        test::int_list(test::load_arrays(test::golden_path(model + "/golden.safetensors")).at("input_ids"));
    return {all.begin(), all.begin() + 21};
}

void expect_the_same(const test::Heard& a, const test::Heard& b) {
    EXPECT_FALSE(a.logits.empty());
    EXPECT_EQ(a.logits, b.logits);
    EXPECT_FALSE(a.probes.values.empty());
    EXPECT_TRUE(a.probes.values == b.probes.values) << "what is watched";
    EXPECT_EQ(a.answers, b.answers);
}

class OfModel : public testing::TestWithParam<std::tuple<const char*, Numerics, int>> {};

TEST_P(OfModel, ranks_give_the_bits_of_one_process) {
    const auto [model, numerics, size] = GetParam();
    EngineOptions o;
    o.numerics = numerics, o.n_threads = 1;
    const std::vector<int32_t> ids = ids_of(model);
    const test::Heard alone = test::listen(*Engine::load(test::golden_path(model), o), ids);
    expect_the_same(alone, test::listen_to_ranks(test::golden_path(model), o,
                                                 std::vector<int>(static_cast<size_t>(size), kCpu), ids));
}

INSTANTIATE_TEST_SUITE_P(ExpertRanks, OfModel,
                         testing::Combine(testing::Values("flashlike", "prolike", "tiny15"),
                                          testing::Values(Numerics::exact, Numerics::reference),
                                          testing::Values(2, 3, 8)));

TEST(ExpertRanks, other_numbers_of_experts_per_token) {
    for (const int active : {1, 5}) {
        EngineOptions o;
        o.n_threads = 1, o.active_experts = active;
        const std::string folder = test::golden_path("prolike");
        const std::vector<int32_t> ids = ids_of("prolike");
        expect_the_same(test::listen(*Engine::load(folder, o), ids),
                        test::listen_to_ranks(folder, o, {kCpu, kCpu}, ids));
    }
}

TEST(ExpertRanks, a_cancelled_pass_leaves_the_ranks_in_step) {
    const std::string folder = test::golden_path("flashlike");
    const std::vector<int32_t> ids = ids_of("flashlike");
    test::Heard alone, after;
    {
        EngineOptions o;
        o.n_threads = 1;
        alone = test::listen(*Engine::load(folder, o), ids);
    }
    test::ThreadRanks(2).run([&](Communicator& ranks) {
        EngineOptions o;
        o.ranks = &ranks, o.n_threads = 1;
        if (ranks.rank() > 0) return Engine::serve_experts(folder, o);
        const auto engine = Engine::load(folder, o);
        const auto session = engine->new_session();
        test::AllProbes sink;
        sink.stop_at_layer = 2;
        session->publish_to(&sink);
        engine->watch().set((ProbeSet{1} << kProbeCount) - 1);
        EXPECT_THROW(session->append(ids, sink.stop.get_token()), Error);
        EXPECT_EQ(session->length(), 0);
        after = test::listen(*engine, ids);
    });
    expect_the_same(alone, after);
}

std::string refusal(int n_ranks, const std::function<void(EngineOptions&)>& change) {
    const std::string folder = test::golden_path("flashlike");
    std::string told;
    try {
        test::ThreadRanks(n_ranks).run([&](Communicator& ranks) {
            EngineOptions o;
            o.ranks = &ranks, o.n_threads = 1;
            change(o);
            if (ranks.rank() == 0) Engine::load(folder, o)->set_device(7);
        });
    } catch (const Error& e) {
        told = e.what();
    }
    return told;
}

TEST(ExpertRanks, what_cannot_be_spread_is_refused) {
    EXPECT_EQ(refusal(9, [](EngineOptions&) {}),
              "9 processes, and the model has 8 routed experts: expected at most one process per expert");
    EXPECT_NE(refusal(2, [](EngineOptions& o) { o.rounding.emplace_back(); }).find("expected no rounding"),
              std::string::npos);
    EXPECT_NE(refusal(2, [](EngineOptions&) {}).find("spread over ranks: it stays on CPU"), std::string::npos);
}

}  // namespace
}  // namespace vitrine
