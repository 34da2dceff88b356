// X09 and X11: their texts, and each of them on a tiny random model.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/base/error.h"
#include "engine/engine.h"
#include "engine/model/init.h"
#include "experiments/list.h"
#include "experiments/x11_retrieval/haystack.h"
#include "tests/experiments/small_model.h"
#include "tests/support/lab_verdict.h"
#include "tests/support/temp_folder.h"

namespace vitrine::lab {
namespace {

size_t count_of(const std::string& text, const std::string& word) {
    size_t n = 0;
    for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++n;
    return n;
}

TEST(Haystack, holds_the_note_once_and_where_it_was_asked_for) {
    const ModelConfig model = preset_config("nano");
    for (uint64_t i = 0; i < 20; ++i) {
        const Haystack first = make_haystack(600, 0, 4, 3, i, model), middle = make_haystack(600, 0.5, 4, 3, i, model),
                       last = make_haystack(600, 1, 4, 3, i, model);
        EXPECT_EQ(first.note, middle.note);
        EXPECT_EQ(first.prompt().size(), last.prompt().size());
        EXPECT_EQ(count_of(middle.prompt(), middle.note), 1u);
        EXPECT_NE(middle.note.find(middle.reply), std::string::npos);
        EXPECT_TRUE(first.before.empty());
        EXPECT_EQ(count_of(last.after, "\n"), 1u) << "the question alone follows";
        const auto lines = double(count_of(middle.prompt(), "\n"));
        EXPECT_NEAR(double(count_of(middle.before, "\n")) / lines, 0.5, 1 / lines);
    }
    EXPECT_EQ(make_haystack(600, 0.5, 4, 3, 1, model).prompt(), make_haystack(600, 0.5, 4, 3, 1, model).prompt());
}

TEST(Haystack, has_as_many_notes_as_were_asked_for) {
    const ModelConfig model = preset_config("nano");
    const Haystack few = make_haystack(600, 0.5, 4, 3, 1, model), many = make_haystack(600, 0.5, 40, 3, 1, model);
    EXPECT_EQ(count_of(many.prompt(), "\n"), count_of(few.prompt(), "\n") + 36);
    EXPECT_EQ(many.reply, few.reply);
    EXPECT_EQ(count_of(many.prompt(), many.note), 1u);
}

class RetrievalOnATinyModel : public ::testing::Test {
  protected:
    static void SetUpTestSuite() {
        ModelConfig c = test::small_model({{0, true}, {4, false}, {32, false}, {4, false}});
        c.index_topk = 4;
        folder_ = new test::TempFolder;
        init_checkpoint(c, 0, WeightsFormat::official, folder_->file("model"));
    }
    static void TearDownTestSuite() { delete folder_; }
    static LabVerdict run(const std::string& name, std::map<std::string, std::string> knobs,
                          std::stop_token stop = {}) {
        const Experiment& e = experiment(name);
        const LabVerdict v = e.measure(Knobs(e.info, knobs), {folder_->file("model"), {}, stop});
        test::expect_whole(v);
        EXPECT_EQ(v.tables.size(), 3u);
        return v;
    }
    static test::TempFolder* folder_;
};
test::TempFolder* RetrievalOnATinyModel::folder_ = nullptr;

TEST_F(RetrievalOnATinyModel, x09_climbs_the_ladder) {
    const LabVerdict v = run("X09", {{"items", "1"}, {"texts", "1"}});
    EXPECT_NE(v.outcome, LabVerdict::Outcome::holds) << "it knows nothing";
    const LabTable& picks = v.tables[2];
    ASSERT_EQ(picks.rows.size(), 5u);  // 1, 2, 4, 8, 32
    double before = 0;
    for (const auto& row : picks.rows) {  // shares of the mass grow with k, and none covers more than the best
        const double mass = std::stod(row[3]), best = std::stod(row[4]);
        EXPECT_GE(mass, before);
        EXPECT_LE(mass, best);
        before = mass;
    }
}

TEST_F(RetrievalOnATinyModel, x11_asks_every_cell) {
    const LabVerdict v = run("X11", {{"items", "1"}, {"lengths", "150,300"}, {"trained", "200"}, {"notes", "6"}});
    EXPECT_EQ(v.tables[1].rows.size(), 2u);
    EXPECT_EQ(v.tables[2].rows.size(), 1u) << "only the longer length is changed";
    EXPECT_EQ(v.tables[0].rows.back().back().substr(0, 4), "fail") << "one question a cell";
    EXPECT_THROW(run("X11", {{"lengths", "300,200"}}), Error);
    EXPECT_THROW(run("X11", {{"lengths", "1000000"}}), Error);
}

TEST_F(RetrievalOnATinyModel, a_stop_is_cancelled) {
    std::stop_source stop;
    stop.request_stop();
    for (const char* name : {"X09", "X11"}) {
        try {
            run(name, {}, stop.get_token());
            FAIL() << name;
        } catch (const Error& error) {
            EXPECT_EQ(error.kind(), ErrorKind::cancelled) << name;
        }
    }
}

}  // namespace
}  // namespace vitrine::lab
