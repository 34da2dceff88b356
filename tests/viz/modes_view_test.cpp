// The Modes view tells the truth: what is drawn for a model that really answered equals the comparison's numbers,
// counted here anew, and what is not there is not drawn as a number.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "app/comparison.h"
#include "app/conversation.h"
#include "engine/engine.h"
#include "tests/viz/stage.h"

namespace vitrine::viz::test {
namespace {

constexpr Mode kAllModes[] = {Mode::non_think, Mode::high, Mode::max};
constexpr Phase kPhases[] = {Phase::prompt, Phase::thinking, Phase::answer};

// The seedling's three answers to one question.
const Snapshot& compared() {
    static const Snapshot snapshot = [] {
        const auto engine = Engine::load(std::string(VITRINE_SOURCE_DIR) + "/assets/models/seedling", {.n_threads = 1});
        ConversationTree tree;
        Turn turn;
        turn.role = "user", turn.content = "72*59=?";
        const int64_t asked = tree.add(std::move(turn));
        Sampling greedy;
        greedy.temperature = 0;
        Snapshot s;
        s.model = std::make_shared<ModelInfo>(engine->info());
        s.comparison = std::make_shared<Comparison>(compare_modes(*engine, tree, asked, greedy, {}, {}));
        return s;
    }();
    return snapshot;
}

class ModesView : public testing::Test {
  protected:
    double number(const std::string& name) {
        const auto v = stage.number(name);
        EXPECT_TRUE(v) << name << " is not drawn";
        return v.value_or(-1);
    }
    Stage stage;
};

TEST_F(ModesView, TextsTokensAndTimes) {
    const Comparison& c = *compared().comparison;
    stage.draw("Modes", compared());
    EXPECT_EQ(stage.text("modes/question"), "72*59=?");
    for (const Mode m : kAllModes) {
        const std::string name = std::string("modes/") + mode_name(m);
        const ModeAnswer& a = c.at(m);
        EXPECT_EQ(stage.text(name + "/answer"), a.content);
        EXPECT_EQ(stage.text(name + "/thinking"), a.reasoning);
        EXPECT_EQ(number(name + "/tokens/prompt"), a.stats.n_prompt);
        EXPECT_EQ(number(name + "/tokens/thinking"), a.stats.n_thinking);
        EXPECT_EQ(number(name + "/tokens/answer"), a.stats.n_answer);
        EXPECT_EQ(number(name + "/written"), a.stats.n_thinking + a.stats.n_answer);
        for (const Phase p : kPhases) EXPECT_EQ(number(name + "/ms/" + phase_name(p)), a.at(p).ms);
    }
}

TEST_F(ModesView, DistancesAreHalfTheSumOfDifferencesOfShares) {
    const Comparison& c = *compared().comparison;
    stage.draw("Modes", compared());
    for (int p = 0; p < kPhasePairCount; ++p) {
        double sum = 0;
        for (int l = 0; l < c.n_layers; ++l) {
            // From the choices, token by token: not from the counts that the program made of them.
            std::vector<double> share(static_cast<size_t>(c.n_experts));
            double sign = 1;
            for (const PhaseRef r : {kPhasePairs[p].a, kPhasePairs[p].b}) {
                const PhaseMeasure& m = c.at(r);
                for (int t = 0; t < m.n_counted; ++t)
                    for (int k = 0; k < c.n_chosen; ++k)
                        share[static_cast<size_t>(
                            m.choices[(static_cast<size_t>(t) * c.n_layers + l) * c.n_chosen + k])] +=
                            sign / m.n_counted / c.n_chosen;
                sign = -1;
            }
            double distance = 0;
            for (const double d : share) distance += std::abs(d) / 2;
            sum += distance;
            EXPECT_NEAR(number("modes/distance/" + std::to_string(p) + "/" + std::to_string(l)), distance, 1e-6);
        }
        EXPECT_NEAR(number("modes/distance/" + std::to_string(p) + "/" + std::to_string(c.n_layers)), sum / c.n_layers,
                    1e-6);
    }
}

TEST_F(ModesView, LoadsOfTheSelectedLayerSumToOne) {
    const Comparison& c = *compared().comparison;
    stage.draw("Modes", compared());
    ASSERT_TRUE(stage.click("Modes", compared(), "modes/routing/loads"));
    for (const int layer : {0, 5}) {
        stage.cursor.layer = layer;
        stage.draw("Modes", compared());
        int row = 0;
        for (const Mode m : kAllModes)
            for (const Phase p : kPhases) {
                if (m == Mode::non_think && p == Phase::thinking) continue;
                const std::vector<int64_t> counts = layer_loads(c.at(m).at(p), layer, c.n_experts);
                const auto total = static_cast<double>(c.at(m).at(p).n_counted * c.n_chosen);
                EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), 0.0), total);
                for (int e = 0; e < c.n_experts; ++e)
                    EXPECT_NEAR(number("modes/load/" + std::to_string(row) + "/" + std::to_string(e)),
                                static_cast<double>(counts[static_cast<size_t>(e)]) / total, 1e-6);
                ++row;
            }
    }
}

TEST_F(ModesView, CacheBytesByKind) {
    const Comparison& c = *compared().comparison;
    stage.draw("Modes", compared());
    for (const Mode m : kAllModes)
        for (const Phase p : kPhases) {
            const std::string name = std::string("modes/cache/") + mode_name(m) + "/" + phase_name(p);
            if (m == Mode::non_think && p == Phase::thinking) {
                EXPECT_FALSE(stage.is_drawn(name + "/total"));
                continue;
            }
            // FP32 rows (numerics `exact`), counted from the tokens that were read; states by the specification's 4.5.
            const CacheReport& cache = c.at(m).at(p).cache;
            const ModelConfig& config = compared().model->config;
            std::array<int64_t, kCacheKinds> bytes{};
            for (const LayerConfig& l : config.layers) {
                bytes[0] += std::min<int64_t>(cache.n_tokens, config.sliding_window) * config.head_dim * 4;
                if (l.ratio == 0) continue;
                const bool is_csa = l.kind() == LayerKind::csa;
                bytes[is_csa ? 1 : 3] += cache.n_tokens / l.ratio * config.head_dim * 4;
                bytes[2] += is_csa ? cache.n_tokens / l.ratio * config.index_head_dim * 4 : 0;
                const int64_t overlap = is_csa ? 2 : 1, dims = config.head_dim + (is_csa ? config.index_head_dim : 0);
                bytes[4] += overlap * l.ratio * overlap * dims * 2 * 4;
            }
            int64_t total = 0;
            for (int k = 0; k < kCacheKinds; ++k) {
                EXPECT_EQ(number(name + "/" + cache_kind_name(static_cast<CacheKind>(k))),
                          static_cast<double>(bytes[k]));
                total += bytes[k];
            }
            EXPECT_EQ(number(name + "/total"), static_cast<double>(total));
            EXPECT_EQ(number(name + "/length"), static_cast<double>(cache.n_tokens));
        }
}

TEST_F(ModesView, AClickSelectsTheLayer) {
    stage.draw("Modes", compared());
    ASSERT_TRUE(stage.click("Modes", compared(), "modes/distance/2/3"));
    EXPECT_EQ(stage.cursor.layer, 3);
}

TEST_F(ModesView, NothingComparedAndOneStillBeingWritten) {
    stage.draw("Modes", fake::empty_conversation(fake::typical()));
    EXPECT_FALSE(stage.is_drawn("modes/question"));
    EXPECT_FALSE(stage.is_drawn("Compare the last question"));
    Snapshot s = fake::snapshot(fake::typical());
    s.comparison = nullptr;
    stage.draw("Modes", s);
    ASSERT_TRUE(stage.click("Modes", s, "Compare the last question"));
    EXPECT_EQ(stage.asked_for, "chat.compare");

    s.comparison = fake::comparison(fake::typical(), true);
    s.is_comparing = true;
    stage.draw("Modes", s);
    EXPECT_EQ(stage.text("modes/max/cost"), "writes");
    s.is_comparing = false;
    stage.draw("Modes", s);
    EXPECT_EQ(stage.text("modes/max/cost"), "stopped");

    auto several = std::make_shared<Comparison>(*s.comparison);
    several->question = "A note.\nAnd one more.\nWhat was it?\n", several->n_earlier_turns = 0;
    s.comparison = several;
    stage.draw("Modes", s);
    EXPECT_EQ(stage.text("modes/question"), "\xE2\x80\xA6 What was it?");

    auto failed = std::make_shared<Comparison>(*s.comparison);
    failed->modes[2] = {};
    failed->modes[2].state = ModeAnswer::State::failed, failed->modes[2].problem = "the prompt has 300 tokens";
    measure_distances(*failed);
    s.comparison = failed;
    stage.draw("Modes", s);
    EXPECT_EQ(stage.text("modes/max/problem"), "the prompt has 300 tokens");
    EXPECT_TRUE(std::isnan(number("modes/distance/3/0")));
}

}  // namespace
}  // namespace vitrine::viz::test
