// The evaluation: intervals, the frozen rows, and a run on a tiny random model by its table and its JSON.
#include "experiments/curriculum/suite.h"

#include <gtest/gtest.h>

#include <set>

#include "engine/base/error.h"
#include "engine/engine.h"
#include "engine/infer/generate.h"
#include "engine/model/init.h"
#include "tests/support/temp_folder.h"

namespace vitrine::curriculum {
namespace {

TEST(Suite, wilson_intervals) {
    const Interval half = wilson(50, 100);  // Wilson 1927; values by hand
    EXPECT_NEAR(half.lowest, 0.4038, 1e-4);
    EXPECT_NEAR(half.highest, 0.5962, 1e-4);
    EXPECT_NEAR(wilson(500, 500).lowest, 0.99237, 1e-4);
    EXPECT_EQ(wilson(500, 500).highest, 1);
    EXPECT_EQ(wilson(0, 0).highest, 1);
}

TEST(Suite, every_row_makes_its_items) {
    const ModelConfig model = preset_config("nano");
    std::set<std::string> names;
    for (const SuiteRow& row : nano_suite()) {
        EXPECT_TRUE(names.insert(row.name).second) << row.name;
        const Selection what{.domain = domain_index(row.domain),
                             .skill = &find_skill(row.skill),
                             .level = row.level,
                             .language = row.language,
                             .model = &model};
        for (uint64_t i = 0; i < 3; ++i) {
            const Item item = make_item(1, Split::test, what, i);
            EXPECT_TRUE(item.accepts(item.reply)) << row.name;
            EXPECT_EQ(item.level, row.level);
            EXPECT_TRUE(is_held_out(item.problem)) << row.name;
        }
    }
}

class SuiteOnAModel : public ::testing::Test {
  protected:
    static void SetUpTestSuite() {
        folder_ = new test::TempFolder;
        init_checkpoint("tiny", 0, WeightsFormat::f32, folder_->file("model"));
        engine_ = Engine::load(folder_->file("model"), {.n_threads = 2}).release();
    }
    static void TearDownTestSuite() { delete engine_, delete folder_; }
    static test::TempFolder* folder_;
    static Engine* engine_;
};
test::TempFolder* SuiteOnAModel::folder_ = nullptr;
Engine* SuiteOnAModel::engine_ = nullptr;

TEST_F(SuiteOnAModel, many_prompts_together_say_what_each_says_alone) {
    std::vector<GreedyRequest> requests;
    for (int i = 0; i < 5; ++i) {
        GreedyRequest r{{}, 4 + i};
        for (int t = 0; t < 3 + 40 * i; ++t) r.prompt.push_back((t * 37 + i * 11) % 500 + 2);
        requests.push_back(r);
    }
    const auto together = engine_->continue_greedily(requests, 3);
    for (size_t i = 0; i < requests.size(); ++i) {
        const auto session = engine_->new_session();
        GenerateRequest g;
        g.prompt = requests[i].prompt;
        g.sampling.temperature = 0, g.sampling.max_new_tokens = requests[i].max_new_tokens;
        EXPECT_EQ(together[i], generate(*engine_, *session, g, {}, {}).output_ids) << i;
    }
}

TEST_F(SuiteOnAModel, a_random_model_knows_nothing_and_the_report_says_so) {
    EvalOptions options;
    options.n = 3, options.rows = {"add 3 digits", "reverse 12"}, options.modes = {Mode::non_think, Mode::high};
    options.n_samples = 1;
    const EvalResult r = evaluate(*engine_, options, {}, {});
    ASSERT_EQ(r.rows.size(), 2u);
    for (const RowResult& row : r.rows) {
        ASSERT_EQ(row.cells.size(), 2u);
        for (const Cell& c : row.cells) {
            EXPECT_EQ(c.n, 3);
            EXPECT_EQ(c.n_right, 0);
            EXPECT_GT(c.mean_spent, 0);
            EXPECT_EQ(c.samples.size(), 1u);
        }
    }
    const Json j = to_json(r, options);
    EXPECT_EQ(j.at("rows").items()[0].at("row").as_string(), "add 3 digits");
    EXPECT_EQ(j.at("macro").items()[1].at("mode").as_string(), "high");
    EXPECT_NE(to_table(r, options).find("reverse 12 (control)"), std::string::npos);
    options.rows = {kChatForm}, options.modes = {Mode::non_think};
    const EvalResult form = evaluate(*engine_, options, {}, {});
    EXPECT_TRUE(form.rows.empty() && !form.faithfulness);
    ASSERT_EQ(form.chat_validity.size(), 1u);
    EXPECT_EQ(form.chat_validity[0].n, 3);
    EXPECT_EQ(to_table(form, options).find("macro"), std::string::npos);
    options.rows = {"add 3"};
    EXPECT_THROW(evaluate(*engine_, options, {}, {}), Error);
}

}  // namespace
}  // namespace vitrine::curriculum
