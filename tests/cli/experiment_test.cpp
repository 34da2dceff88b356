// vitrine train --list and --experiment as a user runs them.
#include <gtest/gtest.h>

#include "engine/base/json.h"
#include "engine/base/reader.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

class Experiment : public ::testing::Test {
  protected:
    const test::TempFolder home_;
    test::Run run(std::vector<std::string> words) {
        words.insert(words.begin(), "train");
        return test::run_program(words, home_.path());
    }
    // Two arms of one layer and ten steps.
    test::Run small(std::vector<std::string> more) {
        more.insert(more.begin(), {"--experiment", "X01", "--set", "layers=1", "--steps", "10"});
        return run(more);
    }
};

TEST_F(Experiment, list_says_by_which_knob_a_provoked_one_is_provoked) {
    const test::Run r = run({"--list"});
    EXPECT_EQ(r.code, 0);
    EXPECT_TRUE(has(r.out, "provoked by lr\n")) << r.out;
    EXPECT_TRUE(has(r.out, "provoked by init_router_skew, in the arms called skewed")) << r.out;
}

TEST_F(Experiment, prints_claim_and_literature_beside_what_was_measured) {
    const test::Run r = small({"--knob", "lr=0.02", "--seed", "7"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_TRUE(has(r.err, "hc 1 layers lr 0.02, seed 7")) << r.err;
    EXPECT_TRUE(has(r.out, "Measured with changed knobs (layers 1, lr 0.02, steps 10)")) << r.out;
    EXPECT_TRUE(has(r.out, "\nThe claim: Composite gain about 3000")) << r.out;
    EXPECT_TRUE(has(r.out, "\nWhat is known: Gains: mHC, arXiv 2512.24880")) << r.out;
}

TEST_F(Experiment, the_same_line_again_takes_what_is_there) {
    const std::string folder = home_.file("runs");
    const test::Run first = small({"--run", folder, "--at-once", "1"}), again = small({"--run", folder});
    ASSERT_EQ(first.code, 0) << first.err;
    ASSERT_EQ(again.code, 0) << again.err;
    EXPECT_EQ(again.out, first.out);
    EXPECT_FALSE(has(again.err, "failed")) << again.err;
}

TEST_F(Experiment, words_that_would_be_ignored_are_refused) {
    EXPECT_TRUE(has(run({"--experiment", "X33", "--steps", "5"}).err, "--steps: X33 has no such knob"));
    EXPECT_TRUE(has(run({"--experiment", "X02", "--seed", "5"}).err, "--seed: X02 has no such knob"));
    EXPECT_TRUE(has(small({"--set", "steps=20"}).err, "--steps: given twice"));
    EXPECT_TRUE(has(small({"--set", "depth=20"}).err, "expected one of the knobs"));
    EXPECT_TRUE(has(run({"--experiment", "X34", "--steps", "100"}).err, "expected more than noise_at"));
}

// A run that leaves another one stays with its experiment and arm: the Lab shows the two together.
TEST_F(Experiment, a_rewound_run_keeps_experiment_and_arm) {
    const std::string runs = home_.file("runs");
    const test::Run begun = run({"--experiment", "X01", "--arm", "mhc 1 layers lr 0.01", "--set", "layers=1", "--set", "steps=10",
                                 "--run", runs + "/a", "-t", "1"});
    ASSERT_EQ(begun.code, 0) << begun.err;
    const test::Run r = run({"--rewind", runs + "/a", "--step", "0", "--run", runs + "/b", "--set", "lr=0.001", "-t", "1"});
    ASSERT_EQ(r.code, 0) << r.err;
    const Json j = Json::parse(read_file(runs + "/b/run.json", 1 << 20), "run.json");
    EXPECT_EQ(j.at("experiment").as_string(), "X01");
    EXPECT_EQ(j.at("arm").as_string(), "mhc 1 layers lr 0.01");
    EXPECT_EQ(j.at("knobs").at("layers").as_string(), "1");
    EXPECT_EQ(j.at("knobs").at("lr").as_string(), "0.001");
    EXPECT_EQ(j.at("parent").at("id").as_string(), "a");
}

}  // namespace
}  // namespace vitrine
