// The tree of turns, the queue of reports, and the interval around a median.
#include "app/conversation.h"

#include <gtest/gtest.h>

#include "app/report_queue.h"
#include "app/watching.h"
#include "engine/base/error.h"
#include "engine/base/json.h"

namespace vitrine {
namespace {

Turn turn(int64_t parent, const std::string& role, const std::string& content) {
    Turn t;
    t.parent = parent;
    t.role = role;
    t.content = content;
    return t;
}

std::vector<std::string> contents(const ConversationTree& t) {
    std::vector<std::string> out;
    const auto published = t.publish();  // outlives the loop
    for (const Turn& x : published->path) out.push_back(x.content);
    return out;
}
using Strings = std::vector<std::string>;

TEST(Tree, EditingAndRegeneratingMakeSiblings) {
    ConversationTree t;
    const int64_t q = t.add(turn(0, "user", "question"));
    const int64_t a = t.add(turn(q, "assistant", "answer"));
    const int64_t q2 = t.add(turn(a, "user", "more"));
    t.add(turn(q2, "assistant", "more answer"));
    EXPECT_EQ(contents(t), (Strings{"question", "answer", "more", "more answer"}));

    t.add(turn(q, "assistant", "another answer"));  // regenerated: the tail belongs to the first one
    EXPECT_EQ(contents(t), (Strings{"question", "another answer"}));
    EXPECT_EQ(t.publish()->path[1].n_siblings, 2);
    EXPECT_EQ(t.publish()->path[1].sibling, 1);

    t.select_sibling(a, 0);  // and comes back with it
    EXPECT_EQ(contents(t), (Strings{"question", "answer", "more", "more answer"}));

    const int64_t edited = t.add(turn(0, "user", "other question"));
    EXPECT_EQ(contents(t), (Strings{"other question"}));
    EXPECT_EQ(t.siblings(edited).size(), 2u);
    EXPECT_EQ(t.title, "question");

    EXPECT_THROW(t.select_sibling(a, 2), Error);
    EXPECT_THROW(t.add(turn(99, "user", "x")), Error);
    EXPECT_THROW(t.at(99), Error);
}

TEST(Tree, RestoringRefusesCyclesAndOrphans) {
    ConversationTree t;
    ConversationTree::Node n;
    n.turn = turn(0, "user", "a");
    n.turn.id = 3;
    t.restore(n, true);
    EXPECT_THROW(t.restore(n, true), Error);  // twice
    n.turn.id = 2, n.turn.parent = 3;         // older than its parent
    EXPECT_THROW(t.restore(n, true), Error);
    n.turn.id = 9, n.turn.parent = 8;
    EXPECT_THROW(t.restore(n, true), Error);
    n.turn.id = 5, n.turn.parent = 3;
    t.restore(n, true);
    EXPECT_EQ(t.add(turn(5, "user", "b")), 6);
}

TEST(Tree, BranchesShareTheirBeginning) {
    ConversationTree t;
    const auto token = [](uint64_t branch, int64_t p, int32_t id) {
        TokenInfo i;
        i.id = id;
        i.ref = {branch, p};
        return i;
    };
    t.branches[10] = {0, 0, {token(10, 0, 1), token(10, 1, 2), token(10, 2, 3)}};
    t.branches[11] = {10, 2, {token(11, 2, 7), token(11, 3, 8)}};
    t.branches[12] = {11, 3, {token(12, 3, 9)}};
    std::vector<int32_t> ids;
    for (const TokenInfo& i : t.tokens(12, 0, 100)) {
        ids.push_back(i.id);
        EXPECT_EQ(i.ref, (TokenRef{12, static_cast<int64_t>(ids.size()) - 1}));
    }
    EXPECT_EQ(ids, (std::vector<int32_t>{1, 2, 7, 9}));
    EXPECT_EQ(t.tokens(11, 1, 3).size(), 2u);
    EXPECT_TRUE(t.tokens(99, 0, 5).empty());
}

TEST(Export, MarkdownFoldsThinkingAndJsonKeepsItApart) {
    ConversationTree t;
    t.system = "be brief";
    const int64_t q = t.add(turn(0, "user", "1+1 \"quoted\""));
    Turn a = turn(q, "assistant", "2");
    a.reasoning = "one and one";
    a.mode = Mode::high;
    t.add(a);
    const std::string md = to_markdown(*t.publish());
    EXPECT_NE(md.find("<details><summary>Thinking"), std::string::npos) << md;
    EXPECT_NE(md.find("## Assistant (Think High)\n"), std::string::npos) << md;
    const Json j = Json::parse(to_json(*t.publish(), "m"), "export");
    ASSERT_EQ(j.at("messages").size(), 3u);
    EXPECT_EQ(j.at("messages").items()[1].at("content").as_string(), "1+1 \"quoted\"");
    EXPECT_EQ(j.at("messages").items()[2].at("reasoning_content").as_string(), "one and one");
}

TEST(Reports, TextIsJoinedMetersAreReplacedAndOverflowIsTold) {
    int n_wakes = 0;
    ReportQueue q([&] { ++n_wakes; }, 4);
    q.push(Meters{1, -1});
    q.push(TokensAppended{5, {TokenInfo{}}, "a", ""});
    q.push(Meters{2, -1});
    q.push(TokensAppended{5, {TokenInfo{}}, "b", "c"});
    EXPECT_EQ(n_wakes, 1);
    std::vector<Update> got = q.take();
    ASSERT_EQ(got.size(), 2u);
    EXPECT_EQ(std::get<Meters>(got[0]).tokens_per_s, 2);
    EXPECT_EQ(std::get<TokensAppended>(got[1]).reasoning_delta, "ab");
    EXPECT_EQ(std::get<TokensAppended>(got[1]).tokens.size(), 2u);
    EXPECT_EQ(q.n_dropped(), 0);

    for (int i = 0; i < 7; ++i) q.push(Notice{Notice::Level::info, std::to_string(i)});
    got = q.take();
    ASSERT_EQ(got.size(), 5u);
    EXPECT_EQ(std::get<Notice>(got[3]).text, "3");
    EXPECT_NE(std::get<Notice>(got[4]).text.find("3 reports"), std::string::npos);
    EXPECT_EQ(q.n_dropped(), 3);
    EXPECT_TRUE(q.take().empty());  // told once
}

TEST(Reports, TokensOfAnotherTurnAndProgressOfOtherWorkStayApart) {
    ReportQueue q(nullptr);
    q.push(Progress{"prefill", 1, 2});
    q.push(Finished{1, {}});
    q.push(Progress{"prefill", 0, 9});
    q.push(TokensAppended{1, {}, "", "x"});
    q.push(TokensAppended{2, {}, "", "y"});
    EXPECT_EQ(q.take().size(), 5u);
}

TEST(Watching, MedianAndItsIntervalOfTwentyRuns) {
    std::vector<double> v;
    for (int i = 20; i >= 1; --i) v.push_back(i);
    const WatchingCost c = summarize(v);
    EXPECT_EQ(c.n_pairs, 20);
    EXPECT_EQ(c.percent, 10.5);
    // Order statistics 6 and 15: coverage 95.9 % (binomial, n = 20, p = 1/2).
    EXPECT_EQ(c.low, 6);
    EXPECT_EQ(c.high, 15);
}

}  // namespace
}  // namespace vitrine
