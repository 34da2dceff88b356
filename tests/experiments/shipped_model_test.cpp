// The experiments on the shipped model: their statistics on constructed answers, and each of them on a tiny random
// model.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "engine/base/error.h"
#include "engine/engine.h"
#include "engine/model/init.h"
#include "experiments/curriculum/causality.h"
#include "experiments/forced_text.h"
#include "experiments/list.h"
#include "experiments/questions.h"
#include "experiments/statistics.h"
#include "experiments/x08_cost/cost_model.h"
#include "experiments/x17_prediction/predictors.h"
#include "experiments/x19_active_experts/routed_share.h"
#include "tests/experiments/small_model.h"
#include "tests/support/lab_verdict.h"
#include "tests/support/temp_folder.h"

namespace vitrine::lab {
namespace {

TEST(Statistics, mcnemar_is_the_binomial_test_of_what_differs) {
    const auto p = [](int only_a, int only_b) {
        return Pairs{.n = 100, .n_only_a = only_a, .n_only_b = only_b}.p_value();
    };
    EXPECT_DOUBLE_EQ(p(0, 0), 1);
    EXPECT_NEAR(p(0, 6), 2.0 / 64, 1e-12);
    EXPECT_NEAR(p(9, 1), 2.0 * 11 / 1024, 1e-12);
    EXPECT_NEAR(p(5, 5), 1, 1e-12);
    EXPECT_NEAR(p(25, 10), 2.0 * 286454524 / 34359738368.0, 1e-12);
    const Pairs pairs = pairs_of({true, true, false, false}, {true, false, true, true});
    EXPECT_EQ(pairs.n_both, 1);
    EXPECT_EQ(pairs.n_only_a, 1);
    EXPECT_EQ(pairs.n_only_b, 2);
    EXPECT_DOUBLE_EQ(pairs.difference(), 0.25);
}

TEST(Statistics, a_change_of_shares_has_newcombes_interval) {
    // Newcombe 1998 (Statistics in Medicine 17: 2635), formulae of method 10 worked out apart from this program.
    const Estimate e = Pairs{.n = 50, .n_only_a = 2, .n_only_b = 12, .n_both = 20}.change();
    EXPECT_DOUBLE_EQ(e.value, 0.2);
    EXPECT_NEAR(e.lowest, 0.0562, 1e-4);
    EXPECT_NEAR(e.highest, 0.3292, 1e-4);
    const Estimate same = Pairs{.n = 20, .n_both = 20}.change();
    EXPECT_EQ(same.value, 0);
    EXPECT_NEAR(same.highest, 0.1611, 1e-4);
    EXPECT_NEAR(same.lowest, -0.1611, 1e-4);
    // The interval's width goes with 1 / sqrt(n); the products of counts don't fit an int.
    const Estimate large = Pairs{.n = 200000, .n_only_a = 8000, .n_only_b = 48000, .n_both = 80000}.change();
    EXPECT_NEAR(large.lowest, 0.2 - 0.0022, 2e-4);
    EXPECT_NEAR(large.highest, 0.2 + 0.0022, 2e-4);
    EXPECT_EQ(Pairs{}.change().lowest, -1);
}

TEST(Statistics, a_paired_difference_is_of_tokens_and_its_interval_of_texts) {
    const std::vector<TextSum> a = {{10, 10}, {30, 10}, {5, 20}};
    std::vector<TextSum> b = a;
    for (TextSum& t : b) t.sum += 0.5 * static_cast<double>(t.n);
    Estimate e = paired_difference(a, b, 1);
    EXPECT_DOUBLE_EQ(e.value, 0.5);
    EXPECT_NEAR(e.lowest, 0.5, 1e-12);
    EXPECT_NEAR(e.highest, 0.5, 1e-12);
    b = a, b[0].sum += 40;
    e = paired_difference(a, b, 1);
    EXPECT_DOUBLE_EQ(e.value, 1);
    EXPECT_EQ(e.lowest, 0) << "a text that is not drawn moves nothing";
    EXPECT_GT(e.highest, 1);
    EXPECT_FALSE(e.is_above(0));
}

TEST(Statistics, recall_and_the_best_of_scores) {
    EXPECT_DOUBLE_EQ(recall({1, 2, 3, 4}, {4, 3, 8, 9}), 0.5);
    EXPECT_DOUBLE_EQ(recall({1}, {-1, 1}), 1);
    EXPECT_DOUBLE_EQ(recall({1}, {-1, -1}), 1);
    EXPECT_EQ(best_indices({1, 3, 3, 0, 5}, 3), (std::vector<int32_t>{4, 1, 2}));
}

// Two layers of four experts, two of them a token: layer 0 goes by the token's id, layer 1 uses the neighbours of what
// layer 0 chose, and the input of layer 0 points to layer 1's choice.
RoutedText made_up(int seed, int n) {
    RoutedText t;
    t.experts.resize(2), t.inputs.resize(2);
    for (int i = 0; i < n; ++i) {
        const int id = (seed + i * i) % 4, next = (id + 1) % 4;
        t.ids.push_back(id);
        t.experts[0].insert(t.experts[0].end(), {id, next});
        t.experts[1].insert(t.experts[1].end(), {next, (id + 2) % 4});
        for (int e = 0; e < 4; ++e) {
            t.inputs[0].push_back(e == next || e == (id + 2) % 4 ? 2.0f : -1.0f);
            t.inputs[1].push_back(0);
        }
    }
    return t;
}

TEST(Predictors, find_what_was_built_in) {
    int asked = -1;
    ExpertPredictors p({2, 4, 2, 4, 4}, [&](int layer, std::span<const float> x) {
        asked = layer;
        return best_indices({x.begin(), x.end()}, 2);
    });
    for (int seed = 0; seed < 4; ++seed) p.fit(made_up(seed, 20));
    p.finish();
    const auto mean = [&](Predictor which, int layer) {
        ExpertPredictors::Recall r;
        p.judge(which, made_up(5, 30), layer, r);
        EXPECT_EQ(r.n, 29);
        return r.mean();
    };
    EXPECT_DOUBLE_EQ(mean(Predictor::token_id, 0), 1);
    EXPECT_DOUBLE_EQ(mean(Predictor::token_id, 1), 1);
    EXPECT_DOUBLE_EQ(mean(Predictor::affinity, 1), 1);
    EXPECT_DOUBLE_EQ(mean(Predictor::linear, 1), 1);
    EXPECT_DOUBLE_EQ(mean(Predictor::next_router, 1), 1);
    EXPECT_EQ(asked, 1);
    EXPECT_LT(mean(Predictor::popularity, 1), 0.8);
    // i^2 mod 4 alternates: the token before is always the neighbour or the other one's, with one expert in common.
    EXPECT_DOUBLE_EQ(mean(Predictor::previous_token, 0), 0.5);
    EXPECT_THROW(p.guess(Predictor::affinity, made_up(0, 3), 0, 1), Error);
}

TEST(Predictors, guesses_save_at_most_half_of_their_recall) {
    const std::vector<double> all(1000, 1), half(1000, 0.5);
    EXPECT_DOUBLE_EQ(seconds_on_demand(3, 2, 5), 21);
    EXPECT_DOUBLE_EQ(seconds_with_guesses({0, 1, 0.5}, 2, 5), 7 + 5 + 7.5);
    EXPECT_NEAR(1 - seconds_with_guesses(all, 1, 1) / seconds_on_demand(1000, 1, 1), 0.5, 1e-3);
    EXPECT_NEAR(1 - seconds_with_guesses(half, 1, 1) / seconds_on_demand(1000, 1, 1), 0.25, 1e-3);
    EXPECT_DOUBLE_EQ(seconds_with_guesses(half, 1, 0), seconds_on_demand(1000, 1, 0)) << "resident: nothing to save";
    EXPECT_GT(seconds_with_guesses(half, 1, 100), seconds_on_demand(1000, 1, 100)) << "wrong guesses take the line";
}

TEST(RoutedShare, is_that_of_the_weights_read) {
    const ModelConfig flash = flash_config();
    // v4-spec 1.5: 43 layers, three matrices of 4096 x 2048, six experts.
    EXPECT_DOUBLE_EQ(routed_multiply_adds(flash, 6), 43.0 * 6 * 3 * 4096 * 2048);
    EXPECT_LT(routed_multiply_adds(flash, 12), 2 * routed_multiply_adds(flash, 6)) << "hash-routed layers keep theirs";
}

ModelConfig small_config() {
    return test::small_model({{0, true}, {4, true}, {32, false}, {4, false}});
}

TEST(Causality, edits_a_result_and_knows_what_taking_it_over_is) {
    const std::string working = "5+8=3c 0+6c=7 1+3=4 ~374";
    std::set<std::string> kept;
    for (uint64_t i = 0; i < 40; ++i) {
        const curriculum::Edit e = curriculum::edit_working(working, 1, i);
        kept.insert(e.kept);
        ASSERT_EQ(e.kept.size(), e.changed.size());
        EXPECT_EQ(working.rfind(e.kept, 0), 0u);
        EXPECT_EQ(e.kept.substr(0, e.kept.size() - 1), e.changed.substr(0, e.changed.size() - 1));
        EXPECT_NE(e.kept.back(), e.changed.back());
        EXPECT_TRUE(e.changed.back() >= '0' && e.changed.back() <= '9');
    }
    EXPECT_EQ(kept, (std::set<std::string>{"5+8=3", "5+8=3c 0+6c=7", "5+8=3c 0+6c=7 1+3=4"}));
    EXPECT_TRUE(curriculum::edit_working("no result = here", 1, 0).kept.empty());
    EXPECT_TRUE(curriculum::takes_over("473", "423", '2'));
    EXPECT_FALSE(curriculum::takes_over("473", "423", '5')) << "another digit";
    EXPECT_FALSE(curriculum::takes_over("473", "523", '2')) << "two digits";
    EXPECT_FALSE(curriculum::takes_over("473", "473", '7')) << "nothing changed";
    EXPECT_FALSE(curriculum::takes_over("473", "1473", '1'));
}

class OnATinyModel : public ::testing::Test {
  protected:
    static void SetUpTestSuite() {
        folder_ = new test::TempFolder;
        init_checkpoint(small_config(), 0, WeightsFormat::official, folder_->file("model"));
    }
    static void TearDownTestSuite() { delete folder_; }
    static LabVerdict run(const std::string& name, std::map<std::string, std::string> knobs) {
        const Experiment& e = experiment(name);
        int n_lines = 0;
        const Bench bench{folder_->file("model"), [&](const std::string&) { ++n_lines; }, {}};
        const LabVerdict v = e.measure(Knobs(e.info, knobs), bench);
        EXPECT_GT(n_lines, 0);
        test::expect_whole(v);
        EXPECT_GE(v.tables.size(), 2u);
        EXPECT_GE(v.charts.size(), 1u);
        return v;
    }
    static test::TempFolder* folder_;
};
test::TempFolder* OnATinyModel::folder_ = nullptr;

const LabTable& table(const LabVerdict& v, const std::string& word) {
    const auto t = std::find_if(v.tables.begin(), v.tables.end(),
                                [&](const LabTable& x) { return x.title.find(word) != std::string::npos; });
    EXPECT_NE(t, v.tables.end()) << word;
    return t == v.tables.end() ? v.tables[0] : *t;
}

TEST_F(OnATinyModel, texts_are_held_out_and_their_loss_is_that_of_the_logits) {
    const auto engine = Engine::load(folder_->file("model"), {.n_threads = 2});
    const auto texts = held_out_texts(*engine, 2, 500, 7), again = held_out_texts(*engine, 2, 500, 7);
    ASSERT_EQ(texts.size(), 14u);
    EXPECT_EQ(texts[3].ids, again[3].ids);
    EXPECT_EQ(texts.back().domain, 6);
    const ForcedText& text = *std::min_element(
        texts.begin(), texts.end(), [](const auto& a, const auto& b) { return a.ids.size() < b.ids.size(); });
    const TextScore score = read_text(*engine, text, {});
    EXPECT_EQ(engine->watch().get(), kNoProbes);
    TextSum sum;
    const auto session = engine->new_session();
    for (size_t t = 0; t + 1 < text.ids.size(); ++t) {
        session->append({&text.ids[t], 1});
        if (text.is_learnt[t + 1]) sum.sum += loss_of(session->logits(), text.ids[t + 1]), ++sum.n;
    }
    EXPECT_EQ(score.loss.n, sum.n);
    EXPECT_EQ(score.best.size(), static_cast<size_t>(sum.n));
    EXPECT_NEAR(score.loss.sum / sum.sum, 1, 1e-5);
    const float two[] = {0, 0};
    EXPECT_NEAR(loss_of(two, 1), std::log(2.0), 1e-12);
}

TEST_F(OnATinyModel, questions_are_those_of_the_suite) {
    const auto items = suite_items("reverse 12", 3, 2026, small_config());
    ASSERT_EQ(items.size(), 3u);
    EXPECT_TRUE(items[0].accepts(items[0].reply));
    EXPECT_TRUE(curriculum::is_held_out(items[0].problem));
    EXPECT_THROW(suite_items("reverse", 3, 2026, small_config()), Error);
}

TEST_F(OnATinyModel, x17_knows_hash_layers_and_saves_nothing_in_memory) {
    const LabVerdict v = run("X17", {{"texts", "2"}, {"compute", "0.1"}});
    const LabTable& criteria = table(v, "Criteria");
    EXPECT_EQ(criteria.rows[0].back(), "pass");
    EXPECT_EQ(criteria.rows[3][1], "0.0 %");
    EXPECT_EQ(criteria.rows[3].back(), "by construction");
    EXPECT_EQ(table(v, "experts that were guessed").rows.size(), small_config().layers.size() + 1);
}

TEST_F(OnATinyModel, x19_counts_what_the_identity_says) {
    const LabVerdict v = run("X19", {{"texts", "1"}, {"items", "1"}, {"k", "1,2,3,999"}});
    const LabTable& cost = table(v, "Cost");
    EXPECT_EQ(cost.rows.size(), 3u) << "those the model has, and the trained one";
    for (const auto& row : cost.rows) EXPECT_LT(std::abs(std::stod(row[4])), 0.02) << row[0];
    EXPECT_EQ(table(v, "Criteria").rows[3].back(), "pass");
    EXPECT_THROW(run("X19", {{"k", "1,,2"}}), Error);
    EXPECT_THROW(run("X19", {{"model", "/nonexistent"}}), Error);
}

TEST_F(OnATinyModel, x12_pairs_the_same_questions) {
    const LabVerdict v = run("X12", {{"items", "2"}});
    EXPECT_EQ(table(v, "Criteria").rows.size(), 4u);
    EXPECT_EQ(table(v, "Criteria").rows[0].back(), "fail") << "a random model knows nothing";
    for (const auto& row : table(v, "McNemar").rows) EXPECT_EQ(row.back(), "1.0") << row[0];
}

TEST_F(OnATinyModel, x15_rounds_what_is_stored_in_fp4_to_itself) {
    const LabVerdict v = run("X15", {{"texts", "1"}});
    const LabTable& parts = table(v, "One part rounded");
    EXPECT_EQ(parts.rows.size(), 19u);
    for (const auto& row : parts.rows) {
        SCOPED_TRACE(row[0] + " " + row[1]);
        const bool is_stored_so = (row[0] == "routed experts") ||
                                  (row[1] == "FP8" && (row[0] == "shared expert" || row[0] == "attention projections"));
        // Scales of two formats differ, values of the narrower one fit into the wider one.
        EXPECT_EQ(row[5] == "exact", is_stored_so || row[1] == "BF16");
        if (is_stored_so) {
            EXPECT_EQ(row[7], "100.00 %");
        }
    }
    for (const size_t row : {1, 2}) EXPECT_EQ(table(v, "Criteria").rows[row].back(), "pass");
}

TEST_F(OnATinyModel, rounding_is_what_packing_writes) {
    // The same model stored in F32: rounded in memory it says what the packed checkpoint says, and has its bytes.
    init_checkpoint(small_config(), 0, WeightsFormat::f32, folder_->file("f32"));
    EngineOptions o;
    o.rounding = {{WeightPart::routed_experts, NumberFormat::fp4},
                  {WeightPart::shared_experts, NumberFormat::fp8},
                  {WeightPart::attention, NumberFormat::fp8}};
    const auto packed = Engine::load(folder_->file("model"), {}), wide = Engine::load(folder_->file("f32"), {}),
               rounded = Engine::load(folder_->file("f32"), o);
    const auto text = held_out_texts(*wide, 1, 500, 7).at(0);
    // The indexer's query projection is packed too, but these texts are shorter than what it would leave out.
    const double of_packed = read_text(*packed, text, {}).loss.sum, of_rounded = read_text(*rounded, text, {}).loss.sum,
                 of_wide = read_text(*wide, text, {}).loss.sum;
    EXPECT_NEAR(of_rounded / of_packed, 1, 1e-4);
    EXPECT_GT(std::abs(of_wide / of_packed - 1), 1e-3);
    ASSERT_EQ(rounded->rounded().size(), 3u);
    const RoundedWeights& experts = rounded->rounded()[0];
    EXPECT_EQ(experts.n_values, 4 * 8 * 3 * 64 * 32);
    EXPECT_EQ(experts.stored_bytes, static_cast<uint64_t>(4 * experts.n_values));
    EXPECT_EQ(experts.rounded_bytes, static_cast<uint64_t>(experts.n_values / 2 + experts.n_values / 32));
    EXPECT_NEAR(experts.sqnr_db(), 18.8, 0.5) << "of normal values";
    EXPECT_NEAR(rounded->rounded()[1].sqnr_db(), 31.8, 0.5);
}

TEST_F(OnATinyModel, a_stop_is_cancelled) {
    std::stop_source stop;
    stop.request_stop();
    for (const char* name : {"X12", "X15", "X17", "X19"}) {
        const Experiment& e = experiment(name);
        try {
            e.measure(Knobs(e.info, {}), {folder_->file("model"), {}, stop.get_token()});
            FAIL() << name;
        } catch (const Error& error) {
            EXPECT_EQ(error.kind(), ErrorKind::cancelled) << name;
        }
    }
}

}  // namespace
}  // namespace vitrine::lab
