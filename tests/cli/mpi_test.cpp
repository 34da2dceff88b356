// vitrine under mpirun: two processes train as one does, go on from each other's runs, end together, and share a sweep;
// and they answer as one does, each with a share of the experts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <regex>
#include <sstream>

#include "engine/base/json.h"
#include "engine/base/reader.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {

const std::vector<std::string> kSmall = {"train", "--preset", "mix3-t1", "-t", "1", "--set", "batch=3"};

std::vector<std::string> with(std::vector<std::string> words, const std::vector<std::string>& more) {
    words.insert(words.end(), more.begin(), more.end());
    return words;
}

std::vector<double> losses_of(const test::Run& r) {
    std::vector<double> losses;
    std::istringstream in(r.out);
    for (std::string line; std::getline(in, line);) losses.push_back(Json::parse(line, "stdout").at("loss").as_double());
    return losses;
}

TEST(Mpi, two_processes_give_the_losses_of_one) {
    const test::TempFolder home;
    const auto words = with(kSmall, {"--steps", "10"});
    const test::Run one = test::run_program(words, home.path()), two = test::run_ranks(2, words, home.path());
    ASSERT_EQ(two.code, 0) << two.err;
    const std::vector<double> a = losses_of(one), b = losses_of(two);
    ASSERT_EQ(a.size(), 10u) << one.err;
    ASSERT_EQ(b.size(), 10u) << "one line a step, not one of each process\n" << two.out;
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-6) << "step " << i;
    const auto without_clock = [](const std::string& out) {
        return std::regex_replace(out, std::regex("\"tokens_per_s\": [^,}]*"), "");
    };
    EXPECT_EQ(without_clock(test::run_ranks(2, words, home.path()).out), without_clock(two.out)) << "the same bits again";
}

TEST(Mpi, a_run_goes_on_with_any_number_of_processes) {
    const test::TempFolder home;
    const std::string run = home.file("run");
    test::Run r = test::run_ranks(2, with(kSmall, {"--steps", "8", "--set", "checkpoint_every=2", "--run", run, "--control"}),
                                  home.path(), "pause\nstep\nset lr 0.002\nstep\nstop\n");
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_TRUE(std::filesystem::exists(run + "/checkpoints"));
    const size_t n_before = losses_of(r).size();
    EXPECT_LT(n_before, 8u);
    r = test::run_program({"train", "--resume", run, "-t", "1"}, home.path());
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(n_before + losses_of(r).size(), 8u);
    r = test::run_ranks(2, {"train", "--rewind", run, "--step", "8", "--run", home.file("on"), "--set", "steps=10"}, home.path());
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(losses_of(r).size(), 2u);
    EXPECT_EQ(test::run_program({"inspect", home.file("on/checkpoints/10")}, home.path()).code, 0);
}

TEST(Mpi, a_failure_is_told_once_and_ends_all) {
    const test::TempFolder home;
    test::Run r = test::run_ranks(2, with(kSmall, {"--steps", "3", "--set", "metrics=all"}), home.path());
    EXPECT_NE(r.code, 0);
    const std::string message = "expected few when training over several ranks";
    const size_t at = r.err.find(message);
    ASSERT_NE(at, std::string::npos) << r.err;
    EXPECT_EQ(r.err.find(message, at + 1), std::string::npos) << r.err;
    r = test::run_ranks(2, {"train", "--preset", "mix3-t1", "--steps", "x"}, home.path());
    EXPECT_EQ(r.code, 2) << "a wrong command line\n" << r.err;
    // rank 0 can't write: the other, which waits for its orders, ends too
    r = test::run_ranks(2, with(kSmall, {"--steps", "3", "--run", "/proc/no/run"}), home.path());
    EXPECT_EQ(r.code, 1) << r.err;
}

TEST(Mpi, help_is_told_once) {
    const test::TempFolder home;
    const test::Run one = test::run_program({"train", "--help"}, home.path()),
                    two = test::run_ranks(2, {"train", "--help"}, home.path());
    EXPECT_EQ(two.code, 0) << two.err;
    EXPECT_EQ(one.out, two.out);
}

TEST(Mpi, a_sweep_is_shared_and_a_failed_run_stops_no_other) {
    const test::TempFolder home;
    const std::string folder = home.file("sweep");
    const test::Run r = test::run_ranks(
        2, with(kSmall, {"--steps", "4", "--sweep", "data=nothing,mix3", "--sweep", "seed=1,2", "--run", folder}), home.path());
    EXPECT_EQ(r.code, 1) << "two have failed\n" << r.err;
    for (const char* line : {"[rank 0] mix3-t1-data=nothing-seed=1: failed", "[rank 1] mix3-t1-data=nothing-seed=2: failed",
                             "[rank 0] mix3-t1-data=mix3-seed=1: finished", "[rank 1] mix3-t1-data=mix3-seed=2: finished"})
        EXPECT_NE(r.err.find(line), std::string::npos) << line << "\n" << r.err;
    EXPECT_EQ(r.out, read_file(folder + "/summary.md", 1 << 16));
    EXPECT_TRUE(std::filesystem::exists(folder + "/mix3-t1-data=mix3-seed=2/checkpoints/4"));
}

const std::string kNano = VITRINE_SOURCE_DIR "/assets/models/nano",
                  kSeedling = VITRINE_SOURCE_DIR "/assets/models/seedling";

TEST(Mpi, experts_spread_over_processes_answer_as_one_does) {
    const test::TempFolder home;
    for (const std::string& model : {kNano, kSeedling}) {
        const std::vector<std::string> words = {"chat",   "-m",     model, "-t", "1", "-p",
                                                "17*3=?", "--seed", "5",   "-n", "24"};
        const test::Run one = test::run_program(words, home.path()), two = test::run_ranks(2, words, home.path());
        ASSERT_EQ(two.code, 0) << two.err;
        EXPECT_FALSE(one.out.empty());
        EXPECT_EQ(one.out, two.out);
        for (const char* line : {"rank 0 of 2: experts 0 to ", " and all else, ", "rank 1 of 2: experts "})
            EXPECT_NE(two.err.find(line), std::string::npos) << line << "\n" << two.err;
    }
}

TEST(Mpi, experts_spread_over_processes_dump_the_same_bytes) {
    const test::TempFolder home;
    const auto dumped = [&](int n, const std::string& numerics) {
        const std::string out = home.file("out.npz");
        const std::vector<std::string> words = {"dump", "-m",       kNano,        "-t",     "1",  "--raw",
                                                "-p",   "A: 1+1=2", "--numerics", numerics, "-o", out};
        const test::Run r = n == 1 ? test::run_program(words, home.path()) : test::run_ranks(n, words, home.path());
        EXPECT_EQ(r.code, 0) << r.err;
        return read_file(out, 64 << 20);
    };
    for (const std::string numerics : {"exact", "reference"})
        EXPECT_TRUE(dumped(1, numerics) == dumped(3, numerics)) << numerics;
}

TEST(Mpi, a_talk_is_with_rank_0_and_failures_are_told_once) {
    const test::TempFolder home;
    test::Run r = test::run_ranks(2, {"chat", "-m", kNano, "-t", "1", "-n", "4", "--temp", "0"}, home.path(),
                                  "2+2=?\n3+3=?\n/quit\n");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(std::count(r.out.begin(), r.out.end(), '\n'), 2) << r.out;
    r = test::run_ranks(2, {"chat", "-m", "/no/such/model", "-p", "x"}, home.path());
    EXPECT_EQ(r.code, 2) << r.err;
    const size_t at = r.err.find("vitrine: ");
    ASSERT_NE(at, std::string::npos) << r.err;
    EXPECT_EQ(r.err.find("vitrine: ", at + 1), std::string::npos) << r.err;
    r = test::run_ranks(2, {"bench", "--train", "--steps", "1"}, home.path());
    EXPECT_EQ(r.code, 2);
    EXPECT_NE(r.err.find("expected --device cuda"), std::string::npos) << r.err;
}

}  // namespace
}  // namespace vitrine
