// Interventions: what is removed has no influence, what is left as it is changes no bit, and what doesn't fit is
// refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/base/error.h"
#include "engine/engine.h"
#include "engine/model/interventions.h"
#include "tests/support/vectors.h"

namespace vitrine {
namespace {

// flashlike: windows of 16, sliding, CSA and HCA layers.
class Intervened : public ::testing::Test {
  protected:
    void SetUp() override {
        engine_ = Engine::load(test::golden_path("flashlike"), {.n_threads = 2});
        const auto golden =
            test::int_list(test::load_arrays(test::golden_path("flashlike/golden.safetensors")).at("input_ids"));
        for (int i = 0; i < 300; ++i) ids_.push_back(golden[static_cast<size_t>(i * 7 + i / 50) % golden.size()]);
    }
    Interventions all(EntryChoice csa, EntryChoice hca, int topk = 0) const {
        Interventions e;
        for (const LayerConfig& l : engine_->config().layers) {
            e.layers.emplace_back();
            if (l.kind() == LayerKind::csa) e.layers.back().entries = csa, e.layers.back().topk = topk;
            if (l.kind() == LayerKind::hca) e.layers.back().entries = hca;
        }
        return e;
    }
    std::vector<float> logits(const Interventions& edits, ProbeSink* sink = nullptr) {
        engine_->set_interventions(edits);
        const auto s = engine_->new_session();
        s->publish_to(sink);
        s->append(ids_);
        return {s->logits().begin(), s->logits().end()};
    }
    std::unique_ptr<Engine> engine_;
    std::vector<int32_t> ids_;
};
using enum EntryChoice;

TEST_F(Intervened, without_entries_nothing_beyond_the_windows_counts) {
    const auto far_token_counts = [&](const Interventions& edits) {
        const std::vector<float> before = logits(edits);
        std::swap(ids_[0], ids_[1]), ids_[2] = (ids_[2] + 1) % engine_->config().vocab_size;
        return before != logits(edits);
    };
    ASSERT_LT(engine_->config().n_layers() * (engine_->config().sliding_window - 1), 290);  // the windows' reach
    EXPECT_TRUE(far_token_counts({}));
    EXPECT_TRUE(far_token_counts(all(none, as_trained)));
    EXPECT_TRUE(far_token_counts(all(as_trained, none, 1000)));
    EXPECT_FALSE(far_token_counts(all(none, none)));
}

TEST_F(Intervened, every_choice_of_all_entries_is_the_same_choice) {
    const std::vector<float> dense = logits(all(as_trained, as_trained, 1000));
    EXPECT_EQ(logits(all(attention, as_trained, 1000)), dense);
    EXPECT_EQ(logits(all(random, as_trained, 1000)), dense);
    EXPECT_EQ(logits(all(recent, as_trained, 1000)), dense);
    EXPECT_NE(logits(all(random, as_trained, 2)), logits(all(recent, as_trained, 2)));
    EXPECT_EQ(logits(all(as_trained, as_trained)), logits({}));
}

// The one entry that attention likes best of all has more mass than one that was drawn.
class FirstMass : public ProbeSink {
  public:
    void put(int, Probe p, int layer, const float* mass, int, int n) override {
        if (p == kEntryMass && n == 1) sum[layer] += mass[0];
    }
    void put(int, Probe, int, const int32_t*, int, int) override {}
    std::map<int, double> sum;
};

TEST_F(Intervened, attention_chooses_what_it_attends_to_most) {
    engine_->watch().set(probe_bit(kEntryMass));
    FirstMass best, drawn;
    logits(all(attention, as_trained, 1), &best);
    logits(all(random, as_trained, 1), &drawn);
    int n_csa = 0;
    for (int l = 0; l < engine_->config().n_layers(); ++l)
        if (engine_->config().layers[static_cast<size_t>(l)].kind() == LayerKind::csa) {
            ++n_csa;
            EXPECT_GT(best.sum[l], drawn.sum[l]) << l;
        }
    EXPECT_GT(n_csa, 0);
}

TEST_F(Intervened, a_shorter_window_is_read) {
    Interventions own_position;
    own_position.layers.resize(static_cast<size_t>(engine_->config().n_layers()));
    for (LayerIntervention& l : own_position.layers) l.window = 1;
    EXPECT_NE(logits(own_position), logits({}));
    for (LayerIntervention& l : own_position.layers) l.window = engine_->config().sliding_window;
    EXPECT_EQ(logits(own_position), logits({}));
}

class MlpNorms : public ProbeSink {
  public:
    void put(int, Probe p, int layer, const float* x, int, int) override {
        if (p == kMlpNorms) routed[layer] = std::max(routed[layer], static_cast<double>(x[0]));
    }
    void put(int, Probe, int, const int32_t*, int, int) override {}
    std::map<int, double> routed;
};

TEST_F(Intervened, a_removed_expert_adds_nothing) {
    engine_->watch().set(probe_bit(kMlpNorms));
    Interventions edits;
    edits.layers.resize(static_cast<size_t>(engine_->config().n_layers()));
    for (int e = 0; e < engine_->config().n_experts; ++e) edits.layers[1].removed_experts.push_back(e);
    MlpNorms norms;
    EXPECT_NE(logits(edits, &norms), logits({}));
    EXPECT_EQ(norms.routed[1], 0);
    EXPECT_GT(norms.routed[0], 0);
}

TEST_F(Intervened, what_does_not_fit_is_refused) {
    Interventions edits;
    edits.layers.resize(1);
    EXPECT_THROW(engine_->set_interventions(edits), Error);
    edits.layers.resize(static_cast<size_t>(engine_->config().n_layers()));
    edits.layers[0].removed_experts = {-1, engine_->config().n_experts};
    edits.layers[0].window = 17;
    edits.layers[0].topk = -1;
    EXPECT_EQ(validate(edits, engine_->config(), "flashlike").size(), 4u);
    EXPECT_TRUE(engine_->interventions().layers.empty());
}

TEST(RandomEntries, are_different_ones_of_all_and_even) {
    std::map<int32_t, int> seen;
    for (int64_t p = 0; p < 2000; ++p) {
        const std::vector<int32_t> some = random_entries(10, 3, 7, 2, p);
        ASSERT_EQ(some.size(), 3u);
        for (size_t i = 0; i < 3; ++i) {
            ++seen[some[i]];
            EXPECT_TRUE(i == 0 || some[i] > some[i - 1]);
        }
    }
    for (int32_t i = 0; i < 10; ++i) EXPECT_NEAR(seen[i], 600, 5 * std::sqrt(600 * 0.7)) << i;
}

}  // namespace
}  // namespace vitrine
