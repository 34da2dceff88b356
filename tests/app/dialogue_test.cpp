// A conversation and its session, with the model that ships: answers, reuse, branches, cancel, recomputed records.
#include "app/dialogue.h"

#include <gtest/gtest.h>

#include "engine/base/error.h"
#include "tests/support/greedy.h"

namespace vitrine {
namespace {

using test::greedy;
const std::string kSeedling = std::string(VITRINE_SOURCE_DIR) + "/assets/models/seedling";

class DialogueTest : public testing::Test {
  protected:
    DialogueTest()
        : engine_(Engine::load(kSeedling, {.n_threads = 1})), trace_(std::make_shared<Trace>()), d_(*engine_, trace_) {
        engine_->watch().set(base_probes());
    }
    int64_t user(int64_t parent, const std::string& text) {
        Turn t;
        t.parent = parent;
        t.role = "user";
        t.content = text;
        return d_.tree().add(std::move(t));
    }
    int64_t ask(int64_t parent, const std::string& text, Mode mode) {
        return d_.answer(user(parent, text), mode, greedy(), {}, {});
    }
    const ConversationTree::Node& at(int64_t turn) { return d_.tree().at(turn); }
    std::vector<int32_t> ids(int64_t turn) {
        std::vector<int32_t> out;
        for (const TokenInfo& t : d_.tree().timeline(turn).tokens) out.push_back(t.id);
        return out;
    }
    // Every token of the timeline that was read has a record that names its experts.
    void expect_recorded(int64_t turn) {
        const Timeline t = d_.tree().timeline(turn);
        for (size_t p = 0; p + 1 < t.tokens.size(); ++p) {
            const auto record = trace_->get(t.branch, static_cast<int64_t>(p));
            ASSERT_TRUE(record) << "position " << p;
            EXPECT_EQ(record->ints(kRouterIndices, 4).data.size(), 2u);
            EXPECT_EQ(t.tokens[p].ref, (TokenRef{t.branch, static_cast<int64_t>(p)}));
        }
    }

    std::unique_ptr<Engine> engine_;
    std::shared_ptr<Trace> trace_;
    Dialogue d_;
};

TEST_F(DialogueTest, AnswersAndContinuesInTheSameBranch) {
    const int64_t a = ask(0, "74*82=?", Mode::non_think);
    EXPECT_EQ(at(a).turn.content, "6108");
    EXPECT_EQ(at(a).turn.stats.stop_reason, "end of text");
    EXPECT_EQ(at(a).context.n_reused, 0);
    expect_recorded(a);

    const int64_t b = ask(a, "72*59=?", Mode::non_think);
    EXPECT_EQ(at(b).context.branch, at(a).context.branch);
    // All but the end token of the first answer, which was drawn and never read.
    EXPECT_EQ(at(b).context.n_reused, at(a).context.n_total - 1);
    EXPECT_EQ(at(b).context.reuse_reason,
              "All that was in the cache is still in the context: only what is new is read.");
    expect_recorded(b);
    // The tokens of the first answer keep what is known of them from when they were drawn.
    const Timeline t = d_.tree().timeline(b);
    EXPECT_GT(t.tokens[at(a).context.n_prompt].probability, 0);
    EXPECT_EQ(t.tokens[at(a).context.n_prompt].phase, Phase::answer);
}

TEST_F(DialogueTest, DroppedThinkingForksTheTraceAndStaysSelectable) {
    const int64_t a = ask(0, "72*59=?", Mode::high);
    EXPECT_EQ(at(a).turn.content, "4248");
    EXPECT_EQ(at(a).turn.reasoning, "72*50=3600; 72*9=648; 3600+648=4248");
    const int64_t b = ask(a, "74*82=?", Mode::high);
    EXPECT_NE(at(b).context.branch, at(a).context.branch);
    EXPECT_LT(at(b).context.n_reused, at(a).context.n_total - 1);
    EXPECT_GT(at(b).context.n_reused, 1);
    EXPECT_NE(at(b).context.reuse_reason.find("thinking of an earlier answer"), std::string::npos)
        << at(b).context.reuse_reason;
    expect_recorded(a);
    expect_recorded(b);
    // The shared beginning is one record, not two.
    EXPECT_EQ(trace_->get(at(a).context.branch, 0), trace_->get(at(b).context.branch, 0));
    const auto published = d_.tree().publish();
    EXPECT_FALSE(published->path[1].is_reasoning_in_context);
    EXPECT_TRUE(published->path[3].is_reasoning_in_context);
    EXPECT_FALSE(published->path[1].tokens.empty());
}

TEST_F(DialogueTest, ThinkMaxChangesTheBeginning) {
    const int64_t a = ask(0, "74*82=?", Mode::high);
    const int64_t b = d_.answer(at(a).turn.parent, Mode::max, greedy(), {}, {});
    EXPECT_EQ(at(b).context.n_reused, 1);  // the begin-of-sentence token
    EXPECT_NE(at(b).context.reuse_reason.find("puts a text in front"), std::string::npos) << at(b).context.reuse_reason;
    EXPECT_EQ(d_.tree().siblings(b).size(), 2u);
    expect_recorded(a);
    expect_recorded(b);
}

TEST_F(DialogueTest, RegeneratingAndEditingGiveWhatAFreshConversationGives) {
    const int64_t a = ask(0, "74*82=?", Mode::non_think);
    ask(a, "72*59=?", Mode::high);
    const int64_t again = d_.answer(at(a).turn.parent, Mode::non_think, greedy(), {}, {});
    EXPECT_EQ(ids(again), ids(a));
    EXPECT_EQ(at(again).context.n_reused, at(a).context.n_prompt - 1);  // the last one is read for its logits
    const int64_t edited = ask(0, "17*53=?", Mode::non_think);

    Dialogue fresh(*engine_, nullptr);
    Turn t;
    t.role = "user";
    t.content = "17*53=?";
    const int64_t other = fresh.answer(fresh.tree().add(t), Mode::non_think, greedy(), {}, {});
    EXPECT_EQ(at(edited).turn.content, fresh.tree().at(other).turn.content);
    expect_recorded(a);
    expect_recorded(again);
    expect_recorded(edited);
}

// What runs after a stop is bounded, not timed: no token after the one that asked for it, no chunk after the one that
// did.
TEST_F(DialogueTest, StopEndsAfterTheTokenAndTheNextAnswerIsUnchanged) {
    std::stop_source stop;
    int n_tokens = 0;
    AnswerObserver observer;
    observer.token = [&](const TokenInfo&, const std::string&, const std::string&) {
        if (++n_tokens == 5) stop.request_stop();
    };
    const int64_t a = d_.answer(user(0, "72*59=?"), Mode::high, greedy(), observer, stop.get_token());
    EXPECT_EQ(n_tokens, 5);
    EXPECT_EQ(at(a).turn.stats.stop_reason, "stopped");
    EXPECT_TRUE(at(a).turn.is_complete);
    const int64_t again = d_.answer(at(a).turn.parent, Mode::high, greedy(), {}, {});
    EXPECT_EQ(at(again).turn.content, "4248");
    EXPECT_EQ(at(again).turn.reasoning, "72*50=3600; 72*9=648; 3600+648=4248");
    expect_recorded(again);
}

TEST_F(DialogueTest, StopInPrefillEndsWithTheChunk) {
    std::string text = "Notes: ";
    for (int i = 0; i < 200; ++i) text += "key k" + std::to_string(i) + " is " + std::to_string(i * 7) + ". ";
    std::stop_source stop;
    std::vector<int64_t> done;
    AnswerObserver observer;
    observer.prefill = [&](int64_t n, int64_t) {
        done.push_back(n);
        stop.request_stop();
    };
    const int64_t a = d_.answer(user(0, text), Mode::non_think, greedy(), observer, stop.get_token());
    ASSERT_EQ(done.size(), 1u);
    EXPECT_EQ(at(a).turn.stats.stop_reason, "stopped");
    EXPECT_EQ(d_.session()->length(), done[0]);
    // What was read is used, and the answer is the one an undisturbed session gives.
    const int64_t again = d_.answer(at(a).turn.parent, Mode::non_think, greedy(20), {}, {});
    EXPECT_EQ(at(again).context.n_reused, done[0]);
    Dialogue fresh(*engine_, nullptr);
    Turn t;
    t.role = "user";
    t.content = text;
    const int64_t other = fresh.answer(fresh.tree().add(t), Mode::non_think, greedy(20), {}, {});
    EXPECT_EQ(at(again).turn.content, fresh.tree().at(other).turn.content);
}

TEST_F(DialogueTest, PromptOverTheContextIsRefusedWithNumbersAndNothingChanges) {
    const auto small = Engine::load(kSeedling, {.n_threads = 1, .max_context = 32});
    Dialogue d(*small, nullptr);
    Turn t;
    t.role = "user";
    t.content = std::string(40, 'a');
    const int64_t asked = d.tree().add(t);
    try {
        d.answer(asked, Mode::non_think, greedy(), {}, {});
        FAIL() << "accepted";
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("context holds 32"), std::string::npos) << e.what();
    }
    EXPECT_EQ(d.tree().nodes().size(), 1u);
    t.content = "2*3=?";
    t.parent = 0;
    const int64_t a = d.answer(d.tree().add(t), Mode::non_think, greedy(), {}, {});
    EXPECT_FALSE(d.tree().at(a).turn.content.empty());
}

TEST_F(DialogueTest, RecordsThatFellOutAreComputedAgain) {
    const int64_t a = ask(0, "72*59=?", Mode::high);
    const Timeline t = d_.tree().timeline(a);
    const auto position = static_cast<int64_t>(t.tokens.size()) - 4;
    const auto before = trace_->get(t.branch, position);
    ASSERT_TRUE(before);
    trace_->cut(t.branch, position);
    ASSERT_FALSE(trace_->get(t.branch, position));
    const int64_t length = d_.session()->length();
    d_.recompute({t.branch, position}, probe_bit(kIndexScores), {});
    const auto after = trace_->get(t.branch, position);
    ASSERT_TRUE(after);
    EXPECT_TRUE(after->has(kIndexScores, 4));
    EXPECT_FALSE(before->has(kIndexScores, 4));
    for (int layer = 0; layer < 8; ++layer) {
        const auto x = before->floats(kRouterScores, layer), y = after->floats(kRouterScores, layer);
        ASSERT_EQ(x.data.size(), y.data.size());
        for (size_t i = 0; i < x.data.size(); ++i) EXPECT_NEAR(x[i], y[i], 1e-4);
        const auto e = before->ints(kRouterIndices, layer), f = after->ints(kRouterIndices, layer);
        EXPECT_TRUE(std::equal(e.data.begin(), e.data.end(), f.data.begin(), f.data.end()));
    }
    EXPECT_EQ(d_.session()->length(), length);
    EXPECT_EQ(engine_->watch().get(), base_probes());
    EXPECT_THROW(d_.recompute({t.branch, 100000}, 0, {}), Error);
    EXPECT_THROW(d_.recompute({12345, 0}, 0, {}), Error);
}

}  // namespace
}  // namespace vitrine
