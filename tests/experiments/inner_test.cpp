// The inner measures: statistics on cases with known answers, and every measure on a tiny random model.
#include "experiments/inner/inner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stop_token>

#include "engine/base/error.h"
#include "engine/engine.h"
#include "engine/model/init.h"
#include "experiments/curriculum/draws.h"
#include "experiments/inner/causal.h"
#include "experiments/inner/reading.h"
#include "experiments/inner/recall.h"
#include "experiments/inner/statistics.h"
#include "tests/experiments/small_model.h"
#include "tests/support/temp_folder.h"

namespace vitrine::inner {
namespace {

Occurrences two_tokens(bool follows_domain, int n) {
    Occurrences o{2, 4, 1, {}, {}, {}, {}};
    curriculum::Draws draw(CounterRng(1, 1));
    for (int i = 0; i < n; ++i) {
        const int domain = static_cast<int>(draw.below(2));
        o.token.push_back(0), o.domain.push_back(domain), o.sample.push_back(i / 5);
        o.experts.push_back(follows_domain ? domain : static_cast<int>(draw.below(4)));
        o.token.push_back(1), o.domain.push_back(domain), o.sample.push_back(i / 5);
        o.experts.push_back(3);  // whatever the domain
    }
    return o;
}

TEST(Information, of_a_table_made_by_hand) {
    // Token 7: three times domain 0 with expert 0, once domain 1 with expert 1: H(1/4) = 0.8113 bit. Token 8: one
    // domain only: 0. Each is half of the choices.
    const Occurrences o{2,
                        2,
                        1,
                        {7, 8, 7, 8, 7, 8, 7, 8},
                        {0, 0, 0, 0, 0, 0, 1, 0},
                        {0, 0, 1, 1, 2, 2, 3, 3},
                        {0, 0, 0, 1, 0, 0, 1, 1}};
    EXPECT_NEAR(information(o, 1, 1).plug_in, 0.8112781 / 2, 1e-6);
}

TEST(Information, is_a_bit_where_the_expert_is_the_domain_and_nothing_where_it_is_drawn) {
    const Information all = information(two_tokens(true, 2000), 20, 3);
    EXPECT_NEAR(all.plug_in, 0.5, 0.001);  // a bit for every other choice
    EXPECT_NEAR(all.corrected(), 0.5, 0.002);
    EXPECT_LT(all.interval.highest - all.interval.lowest, 0.01);
    const Information none = information(two_tokens(false, 200), 20, 3);
    EXPECT_GT(none.plug_in, 0.001);  // finite texts seem to tell something
    EXPECT_NEAR(none.corrected(), 0, 0.006);
    EXPECT_LT(none.interval.lowest, 0);
    EXPECT_GT(none.interval.highest, 0);
    EXPECT_LE(none.null_mean, none.null_highest);
}

TEST(Means, have_students_interval) {
    const Mean m = mean_of({1, 2, 3, 4, 5});  // s = 1.5811, t(4) = 2.776
    EXPECT_DOUBLE_EQ(m.value, 3);
    EXPECT_NEAR(m.interval.highest, 3 + 2.776 * 1.5811 / std::sqrt(5), 1e-3);
    EXPECT_EQ(mean_of({2}).interval.lowest, 2);
    const Mean r = ratio_of_sums({1, 4}, {2, 4});  // residuals -2/3 and 2/3 over a mean of 3: s = 0.3143, t(1) = 12.71
    EXPECT_DOUBLE_EQ(r.value, 5.0 / 6);
    EXPECT_NEAR(r.interval.highest, 5.0 / 6 + 12.706 * 0.31427 / std::sqrt(2), 1e-2);
    EXPECT_NEAR(r.value - r.interval.lowest, r.interval.highest - r.value, 1e-12);
    EXPECT_TRUE(std::isnan(ratio_of_sums({1}, {0}).value));
    EXPECT_DOUBLE_EQ(max_violation({1, 1, 2, 0}), 1);
}

TEST(IndexerRecall, of_masses_in_the_indexers_order) {
    const Picked p = picked({0.1F, 0.4F, 0.3F, 0.2F}, 2);  // most mass: second and third
    EXPECT_DOUBLE_EQ(p.recall, 0.5);
    EXPECT_DOUBLE_EQ(p.chance, 0.5);
    EXPECT_NEAR(p.mass, 0.5, 1e-6);
    EXPECT_NEAR(p.best_mass, 0.7, 1e-6);
    EXPECT_EQ(picked({0.5F, 0.1F}, 3).recall, 1);
}

TEST(Selectivity, of_losses_made_by_hand) {
    // Ten samples of ten tokens in each of three domains; the first one's rise by 0.6 nat a token, the second's by 0.1.
    const std::vector<std::vector<TextSum>> before(3, std::vector<TextSum>(10, {5, 10}));
    std::vector<std::vector<TextSum>> after = before;
    for (TextSum& l : after[0]) l.sum += 6;
    for (TextSum& l : after[1]) l.sum += 1;
    const std::vector<Selectivity> s = selectivities(before, after, 1);
    EXPECT_NEAR(s[0].own, 0.6, 1e-12);
    EXPECT_NEAR(s[0].others, 0.05, 1e-12);
    EXPECT_NEAR(s[0].ratio(), 12, 1e-9);
    EXPECT_TRUE(s[0].is_selective);
    EXPECT_NEAR(s[1].ratio(), 0.1 / 0.3, 1e-9);
    EXPECT_FALSE(s[1].is_selective);
    EXPECT_EQ(s[2].ratio(), 0);
    // One sample of ten alone carries the rise: it may be chance.
    after = before;
    after[0][3].sum += 6;
    EXPECT_FALSE(selectivities(before, after, 1)[0].is_selective);
}

// Every kind of layer, a drafter, and answers that never end in little time.
ModelConfig small_config() {
    ModelConfig c = test::small_model({{0, true}, {4, false}, {32, false}});
    c.n_mtp_layers = 1;
    return c;
}

TEST(InnerJson, an_infinite_ratio_is_null_and_what_is_not_told_is_left_out) {
    Result r;
    r.tables.push_back({"t", {"a", "b", "c"}, 3, {{"row", {std::numeric_limits<double>::infinity(), kNone, 1}}}});
    const Json j = to_json({r}, {});
    const Json& row = j.at("measures").items()[0].at("tables").items()[0].at("rows").items()[0];
    ASSERT_NE(row.find("a"), nullptr);
    EXPECT_TRUE(row.at("a").is_null());
    EXPECT_EQ(row.find("b"), nullptr);
    EXPECT_EQ(row.at("c").as_double(), 1);
}

class InnerOnAModel : public ::testing::Test {
  protected:
    static void SetUpTestSuite() {
        folder_ = new test::TempFolder;
        init_checkpoint(small_config(), 0, WeightsFormat::official, folder_->file("model"));
        engine_ = Engine::load(folder_->file("model"), {.n_threads = 2}).release();
    }
    static void TearDownTestSuite() { delete engine_, delete folder_; }
    static test::TempFolder* folder_;
    static Engine* engine_;
};
test::TempFolder* InnerOnAModel::folder_ = nullptr;
Engine* InnerOnAModel::engine_ = nullptr;

TEST_F(InnerOnAModel, an_expert_that_is_used_matters_and_one_that_is_not_does_not) {
    const std::vector<ForcedText> all = lab::held_out_texts(*engine_, 2, 200, 5);  // by domain
    const std::vector<std::vector<ForcedText>> texts{{all[0], all[1]}, {all[10], all[11]}};
    const int layer = engine_->config().n_layers() - 1;
    std::vector<int> used(static_cast<size_t>(engine_->config().n_experts));
    Reader reader{probe_bit(kRouterIndices), {}, {}};
    const ForcedText* now = nullptr;
    reader.ints = [&](int position, Probe, int l, const int32_t* experts, int k) {
        const auto next = static_cast<size_t>(position) + 1;
        if (next == now->ids.size() || !now->is_learnt[next]) return;
        for (int j = 0; j < k && l == layer; ++j) ++used[static_cast<size_t>(experts[j])];
    };
    for (const auto& of_domain : texts)
        for (const ForcedText& t : of_domain) now = &t, read(*engine_, t.ids, reader, {});
    const CausalStudy study(*engine_, texts, {});
    for (size_t e = 0; e < used.size(); ++e) {
        const std::vector<Selectivity> s = study.without(layer, {static_cast<int32_t>(e)}, 1);
        EXPECT_EQ(s[0].own == 0 && s[1].own == 0, used[e] == 0) << e;
    }
    EXPECT_TRUE(engine_->interventions().layers.empty());
}

TEST_F(InnerOnAModel, every_measure_runs_and_is_written_down) {
    Options options;
    options.n = 1;
    const std::vector<Result> results = run_measures(*engine_, options, {}, {});
    ASSERT_EQ(results.size(), measures().size());
    const Json j = to_json(results, options);
    EXPECT_EQ(j.at("measures").items()[0].at("measure").as_string(), "routing");
    const Table& information = results[0].tables[0];
    ASSERT_EQ(information.rows.size(), static_cast<size_t>(engine_->config().n_layers()));
    for (size_t l = 0; l < information.rows.size(); ++l)
        EXPECT_TRUE(!engine_->config().layers[l].is_hash_routed || information.rows[l].values[1] == 0) << l;
    EXPECT_NE(to_text(results).find("bit"), std::string::npos);
    for (const Result& r : results) {
        EXPECT_FALSE(r.bars.empty()) << r.name;
        for (const Table& t : r.tables)
            for (const Table::Row& row : t.rows) EXPECT_EQ(row.values.size(), t.columns.size()) << t.title;
    }
    EXPECT_EQ(results[1].tables.size(), 3u);
    ASSERT_EQ(results[1].tables[0].rows.size(), 1u);  // one CSA layer
    EXPECT_EQ(results[1].tables[0].rows[0].values[0], 2);
    EXPECT_EQ(results[2].tables[0].rows.size(), 6u);
    EXPECT_TRUE(results[3].bars[0].is_met);  // drafts change nothing
    EXPECT_TRUE(engine_->interventions().layers.empty());
    std::stop_source stopped;
    const auto stop_while_drafting = [&](const std::string& what) {
        if (what.rfind("drafting", 0) == 0) stopped.request_stop();
    };
    EXPECT_THROW(measure_drafting(*engine_, options, stop_while_drafting, stopped.get_token()), Error);
    options.measures = {"routin"};
    EXPECT_THROW(run_measures(*engine_, options, {}, {}), Error);
}

}  // namespace
}  // namespace vitrine::inner
