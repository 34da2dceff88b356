// The three modes on one question: every number against the same answer given by a Dialogue, whose records are counted
// here anew.
#include <gtest/gtest.h>

#include <cmath>

#include "app/comparison.h"
#include "app/dialogue.h"
#include "app/prompt.h"
#include "engine/base/error.h"
#include "tests/support/greedy.h"

namespace vitrine {
namespace {

using test::greedy;
const std::string kSeedling = std::string(VITRINE_SOURCE_DIR) + "/assets/models/seedling";
constexpr Mode kAllModes[] = {Mode::non_think, Mode::high, Mode::max};

class CompareModesTest : public testing::Test {
  protected:
    CompareModesTest() : engine_(Engine::load(kSeedling, {.n_threads = 1})) {}
    int64_t add(const char* role, int64_t parent, const std::string& text) {
        Turn t;
        t.parent = parent, t.role = role, t.content = text;
        return tree_.add(std::move(t));
    }
    Comparison compare(int64_t asked, const Sampling& s = greedy()) {
        return compare_modes(*engine_, tree_, asked, s, {}, {});
    }
    std::unique_ptr<Engine> engine_;
    ConversationTree tree_;
};

// What a Dialogue with a trace says of the same answer.
struct Truth {
    Turn turn;
    std::array<std::vector<int64_t>, kComparedPhases> loads;  // [L][E]
    std::array<int, kComparedPhases> n_counted{};
    CacheReport cache;
};
Truth answer_again(Engine& engine, const ConversationTree& tree, int64_t asked, Mode mode) {
    const auto trace = std::make_shared<Trace>();
    Dialogue d(engine, trace);
    d.replace(tree);
    engine.watch().set(base_probes());
    const int64_t id = d.answer(asked, mode, greedy(), {}, {});
    engine.watch().set(kNoProbes);
    const Timeline t = d.tree().timeline(id);
    const ModelConfig& c = engine.config();
    Truth truth;
    truth.turn = d.tree().at(id).turn;
    truth.cache = d.session()->cache_report();
    for (auto& l : truth.loads) l.assign(static_cast<size_t>(c.n_layers()) * c.n_experts, 0);
    for (size_t p = 0; p < t.tokens.size(); ++p) {
        const auto record = trace->get(t.branch, static_cast<int64_t>(p));
        if (!record) continue;  // the last one: never read
        const bool is_prompt = static_cast<int64_t>(p) < t.n_prompt;
        const auto phase = static_cast<size_t>(is_prompt ? Phase::prompt : t.tokens[p].phase);
        ++truth.n_counted[phase];
        for (int l = 0; l < c.n_layers(); ++l)
            for (const int32_t e : record->ints(kRouterIndices, l).data)
                ++truth.loads[phase][static_cast<size_t>(l) * c.n_experts + e];
    }
    return truth;
}

TEST_F(CompareModesTest, EveryNumberIsThatOfTheAnswerItself) {
    const int64_t asked = add("user", 0, "72*59=?");
    const Comparison c = compare(asked);
    ASSERT_TRUE(c.is_finished());
    EXPECT_EQ(c.at(Mode::high).content, "4248");
    for (const Mode mode : kAllModes) {
        SCOPED_TRACE(mode_name(mode));
        const ModeAnswer& a = c.at(mode);
        const Truth truth = answer_again(*engine_, tree_, asked, mode);
        EXPECT_EQ(a.state, ModeAnswer::State::done);
        EXPECT_EQ(a.content, truth.turn.content);
        EXPECT_EQ(a.reasoning, truth.turn.reasoning);
        EXPECT_EQ(a.stats.n_prompt, truth.turn.stats.n_prompt);
        EXPECT_EQ(a.stats.n_thinking, truth.turn.stats.n_thinking);
        EXPECT_EQ(a.stats.n_answer, truth.turn.stats.n_answer);
        EXPECT_EQ(a.stats.n_reused, 0);
        EXPECT_EQ(a.stats.stop_reason, truth.turn.stats.stop_reason);
        for (size_t p = 0; p < kComparedPhases; ++p) {
            EXPECT_EQ(a.phases[p].n_counted, truth.n_counted[p]) << "phase " << p;
            EXPECT_EQ(a.phases[p].loads, truth.loads[p]) << "phase " << p;
        }
        const CacheReport& held = a.at(Phase::answer).cache;
        EXPECT_EQ(held.n_tokens, truth.cache.n_tokens);
        EXPECT_EQ(held.allocated(), truth.cache.allocated());
        EXPECT_TRUE(held.is_consistent());
    }
}

TEST_F(CompareModesTest, CacheOfAPhaseIsThatOfASessionThatReadAsMuch) {
    const int64_t asked = add("user", 0, "72*59=?");
    const Comparison c = compare(asked);
    const ModeAnswer& a = c.at(Mode::max);
    const auto session = engine_->new_session();
    std::vector<int32_t> ids = render_prompt(*engine_, tree_, asked, Mode::max).ids();
    session->append(ids);
    EXPECT_EQ(a.at(Phase::prompt).cache.allocated(), session->cache_report().allocated());
    EXPECT_EQ(a.at(Phase::prompt).cache.n_tokens, a.stats.n_prompt);
    EXPECT_EQ(a.at(Phase::thinking).cache.n_tokens, a.stats.n_prompt + a.stats.n_thinking);
    EXPECT_EQ(c.at(Mode::non_think).at(Phase::thinking).n_tokens, 0);
    EXPECT_TRUE(c.at(Mode::non_think).at(Phase::thinking).cache.layers.empty());
    EXPECT_GT(a.at(Phase::thinking).n_filled(), a.at(Phase::prompt).n_filled());
    EXPECT_LE(a.at(Phase::thinking).n_filled(), a.at(Phase::thinking).cache.total());
}

TEST_F(CompareModesTest, DistancesAreThoseOfTheLoads) {
    const Comparison c = compare(add("user", 0, "72*59=?"));
    for (int p = 0; p < kPhasePairCount; ++p)
        for (int l = 0; l < c.n_layers; ++l) {
            const auto a = layer_loads(c.at(kPhasePairs[p].a), l, c.n_experts),
                       b = layer_loads(c.at(kPhasePairs[p].b), l, c.n_experts);
            const double d = c.distance(p, l).distance;
            ASSERT_FALSE(std::isnan(d));
            EXPECT_DOUBLE_EQ(d, total_variation(a, b));
            EXPECT_GE(c.distance(p, l).chance_95, c.distance(p, l).chance * 0.5);
        }
}

TEST_F(CompareModesTest, ReadsTheConversationBeforeTheQuestionAndLeavesItAlone) {
    const int64_t first = add("user", 0, "12+30=?"), second = add("assistant", first, "42");
    const int64_t asked = add("user", second, "72*59=?");
    const Comparison c = compare(asked, greedy(8));
    EXPECT_EQ(c.n_earlier_turns, 2);
    EXPECT_EQ(c.at(Mode::high).stats.n_prompt,
              static_cast<int>(render_prompt(*engine_, tree_, asked, Mode::high).tokens.size()));
    EXPECT_EQ(tree_.nodes().size(), 3u);
    EXPECT_EQ(engine_->watch().get(), kNoProbes);
}

TEST_F(CompareModesTest, StoppedInTheMiddle) {
    const int64_t asked = add("user", 0, "72*59=?");
    std::stop_source stop;
    int n_thought = 0;
    const auto changed = [&](const Comparison& c) {
        if (c.at(Mode::high).stats.n_thinking == 5) n_thought = 5, stop.request_stop();
    };
    const Comparison c = compare_modes(*engine_, tree_, asked, greedy(), changed, stop.get_token());
    EXPECT_EQ(n_thought, 5);
    EXPECT_EQ(c.at(Mode::non_think).stats.stop_reason, "end of text");
    EXPECT_EQ(c.at(Mode::high).stats.stop_reason, "stopped");
    EXPECT_EQ(c.at(Mode::max).state, ModeAnswer::State::failed);
    EXPECT_EQ(c.at(Mode::max).problem, "stopped");
    EXPECT_TRUE(c.is_finished());
}

TEST_F(CompareModesTest, AModeThatDoesNotFitSaysSoAndTheOthersGoOn) {
    // Think Max puts a text in front: its prompt alone is too long here.
    const auto narrow = Engine::load(kSeedling, {.n_threads = 1, .max_context = 64});
    const int64_t asked = add("user", 0, "72*59=?");
    const Comparison c = compare_modes(*narrow, tree_, asked, greedy(), {}, {});
    EXPECT_EQ(c.at(Mode::high).state, ModeAnswer::State::done);
    EXPECT_EQ(c.at(Mode::max).state, ModeAnswer::State::failed);
    EXPECT_NE(c.at(Mode::max).problem.find("the context holds 64"), std::string::npos) << c.at(Mode::max).problem;
}

TEST_F(CompareModesTest, ASamplingThatCanNotBeIsRefused) {
    const int64_t asked = add("user", 0, "72*59=?");
    Sampling s = greedy();
    s.top_p = 0;
    EXPECT_THROW(compare(asked, s), Error);
}

}  // namespace
}  // namespace vitrine
