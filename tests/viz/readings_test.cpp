// What the views say, apart from drawing: walks over a growing, forking and forgetting trace; sentences.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tests/viz/fake_feed.h"
#include "viz/readings/attention.h"
#include "viz/readings/loads.h"
#include "viz/readings/router.h"
#include "viz/readings/streams.h"
#include "viz/readings/uses.h"

namespace vitrine::viz {
namespace {

fake::Shape small() {
    fake::Shape s = fake::typical();
    s.n_tokens = s.n_recorded = 60;
    return s;
}

// A timeline of n tokens and a trace with the records of [from, to).
struct Growing {
    fake::Shape shape = small();
    std::shared_ptr<const ModelInfo> model = fake::model_info(shape);
    Timeline timeline;
    std::shared_ptr<Trace> trace = std::make_shared<Trace>();
    void tokens(int64_t n) {
        timeline.branch = 1;
        for (auto t = static_cast<int64_t>(timeline.tokens.size()); t < n; ++t)
            timeline.tokens.push_back({.id = static_cast<int32_t>(t),
                                       .phase = t < 20 ? Phase::prompt : Phase::answer,
                                       .ref = {1, t},
                                       .text = "x"});
    }
    void records(int64_t from, int64_t to) {
        for (int64_t t = from; t < to; ++t) trace->put(1, t, fake::record(shape, t));
    }
    int64_t counted(LoadCounter& c, int layer = 3) {
        while (c.update(timeline, trace.get(), *model)) {
        }
        const auto counts = c.counts(layer, Span::all);
        return std::accumulate(counts.begin(), counts.end(), int64_t{0});
    }
};

TEST(Readings, LoadsGrowWithTheConversationAndSumToTokensTimesChosen) {
    Growing g;
    LoadCounter loads;
    const int64_t k = g.shape.n_chosen;
    g.tokens(30), g.records(0, 30);
    EXPECT_EQ(g.counted(loads), 30 * k);
    EXPECT_EQ(loads.n_tokens(Span::prompt), 20);
    g.tokens(45), g.records(30, 45);
    EXPECT_EQ(g.counted(loads), 45 * k);
    EXPECT_EQ(loads.n_tokens(Span::answer), 25);
}

TEST(Readings, ATokenOnItsWayIsWaitedFor) {
    Growing g;
    LoadCounter loads;
    g.tokens(30), g.records(0, 12);  // a prefill chunk is in, the rest of the prompt is still to come
    EXPECT_EQ(g.counted(loads), 12 * g.shape.n_chosen);
    EXPECT_EQ(loads.n_unrecorded(), 0);
    g.records(12, 29);  // the last drawn token is never read
    EXPECT_EQ(g.counted(loads), 29 * g.shape.n_chosen);
    EXPECT_EQ(loads.n_unrecorded(), 0);
}

TEST(Readings, TokensThatFellOutAreToldNotCounted) {
    Growing g;
    LoadCounter loads;
    g.tokens(60), g.records(50, 60);
    EXPECT_EQ(g.counted(loads), 10 * g.shape.n_chosen);
    EXPECT_EQ(loads.n_unrecorded(), 50);
}

TEST(Readings, ACutTailOrAnotherBranchIsCountedAnew) {
    Growing g;
    LoadCounter loads;
    g.tokens(40), g.records(0, 40);
    EXPECT_EQ(g.counted(loads), 40 * g.shape.n_chosen);
    g.timeline.tokens.resize(25);
    EXPECT_EQ(g.counted(loads), 25 * g.shape.n_chosen);
    g.trace->fork(1, 2, 10);
    g.timeline.branch = 2;
    g.timeline.tokens.resize(10);
    for (TokenInfo& t : g.timeline.tokens) t.ref.branch = 2;
    EXPECT_EQ(g.counted(loads), 10 * g.shape.n_chosen);
}

TEST(Readings, AnExpertsCardAgreesWithTheLoads) {
    Growing g;
    g.tokens(60), g.records(0, 60);
    LoadCounter loads;
    g.counted(loads);
    const auto counts = loads.counts(4, Span::all);
    for (int e = 0; e < g.shape.n_experts; ++e) {
        ExpertCard card;
        while (card.update(g.timeline, g.trace.get(), *g.model, 4, e)) {
        }
        EXPECT_EQ(static_cast<int64_t>(card.tokens().size()), counts[e]);
        const auto sum = std::accumulate(card.together().begin(), card.together().end(), int64_t{0});
        EXPECT_EQ(sum, counts[e] * (g.shape.n_chosen - 1));
        EXPECT_EQ(card.together()[e], 0);
    }
}

TEST(Readings, UsesOfEntriesCountTheChoices) {
    Growing g;
    g.tokens(60), g.records(0, 60);
    const int layer = 2;  // CSA
    ASSERT_EQ(g.model->config.layers[layer].kind(), LayerKind::csa);
    EntryUses uses;
    while (uses.update(g.timeline, g.trace.get(), *g.model, layer)) {
    }
    std::vector<int64_t> count(15, 0), last(15, -1);
    for (int64_t t = 0; t < 60; ++t)
        for (const int32_t e : g.trace->get(1, t)->ints(kIndexTopk, layer).data)
            if (e >= 0) ++count[e], last[e] = t;
    ASSERT_EQ(uses.uses().size(), 15u);
    for (int e = 0; e < 15; ++e) {
        EXPECT_EQ(uses.uses()[e].count, count[e]);
        EXPECT_EQ(uses.uses()[e].last, last[e]);
    }
    uses.update(g.timeline, g.trace.get(), *g.model,
                3);  // HCA, 32 tokens a block: one block, used by the tokens 31 to 59
    ASSERT_EQ(uses.uses().size(), 1u);
    EXPECT_EQ(uses.uses()[0].count, 29);
    EXPECT_EQ(uses.uses()[0].last, 59);
}

TEST(Readings, SourcesOfEntries) {
    const EntrySource first = entry_source(LayerKind::csa, 4, 0);
    EXPECT_EQ(first.own_begin, 0);
    EXPECT_EQ(first.own_end, 4);
    EXPECT_EQ(first.overlapped_begin, first.overlapped_end);
    const EntrySource csa = entry_source(LayerKind::csa, 4, 17);
    EXPECT_EQ(csa.own_begin, 68);
    EXPECT_EQ(csa.own_end, 72);
    EXPECT_EQ(csa.overlapped_begin, 64);
    EXPECT_EQ(csa.overlapped_end, 68);
    EXPECT_EQ(csa.completed_at(), 71);
    const EntrySource hca = entry_source(LayerKind::hca, 128, 2);
    EXPECT_EQ(hca.own_begin, 256);
    EXPECT_EQ(hca.completed_at(), 383);
    EXPECT_EQ(hca.overlapped_begin, hca.overlapped_end);
}

TEST(Readings, SentencesSayItInPlainWords) {
    AttentionReading r;
    r.kind = LayerKind::csa, r.ratio = 4, r.position = 100, r.n_entries = 25;
    r.has_cut = r.left_some_out = true;
    r.cut = 2.98f, r.highest_left_out = 2.5f;
    r.entries = {{.entry = 17, .rank = 1, .score = 3.21f, .mass = 0.25f, .has_mass = true}};
    EXPECT_EQ(entry_sentence(r, 17),
              "Entry 17 (tokens 68-71) was chosen: score 3.21, cut at 2.98, rank 1 of 1, 25.0 % of attention.");
    EXPECT_EQ(entry_sentence(r, 3), "Entry 3 (tokens 12-15) was left out: its score is at most 2.50, cut at 2.98.");
    EXPECT_EQ(entry_sentence(r, 25), "Entry 25 (tokens 100-103) is not visible to this token: its block ends later.");

    RouterReading learned;
    learned.without_bias = {1, 2};
    EXPECT_EQ(routing_sentence(learned, "a", 5), "Without the bias the same experts would have been chosen.");
    learned.would_join = {2}, learned.would_leave = {7};
    EXPECT_EQ(routing_sentence(learned, "a", 5),
              "Without the bias expert 2 would have been chosen instead of expert 7: its affinity is higher.");
    learned.would_join = {9, 2, 4}, learned.would_leave = {7, 1, 3};
    EXPECT_EQ(routing_sentence(learned, "a", 5),
              "Without the bias experts 2, 4 and 9 would have been chosen instead of experts 1, 3 and 7: their "
              "affinities are higher.");
}

TEST(Readings, AMissingSiteForbidsTheGain) {
    const fake::Shape shape = small();
    const auto model = fake::model_info(shape);
    const auto whole = fake::record(shape, 5);
    EXPECT_TRUE(read_streams(*whole, *model).is_complete);
    RecordBuilder builder;
    builder.begin(1);
    for (int layer = 0; layer < shape.n_layers; ++layer) {
        const auto comb = whole->floats(kAttnHcComb, layer);
        builder.put(0, kAttnHcComb, layer, comb.data.data(), comb.rows, comb.cols);
    }
    const StreamsReading half = read_streams(*builder.finish(0), *model);
    EXPECT_FALSE(half.is_complete);
    EXPECT_EQ(half.sites.size(), static_cast<size_t>(shape.n_layers));
}

}  // namespace
}  // namespace vitrine::viz
