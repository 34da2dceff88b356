// vitrine train --sweep in one process: folders and a table; wrong words are told before anything runs.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "engine/base/json.h"
#include "engine/base/reader.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {

TEST(Sweep, every_combination_has_its_folder_and_its_row) {
    const test::TempFolder home;
    const std::string folder = home.file("runs");
    const std::vector<std::string> words = {"train",
                                            "--preset",
                                            "mix3-t1",
                                            "--steps",
                                            "12",
                                            "--set",
                                            "batch=2",
                                            "--sweep",
                                            "data=mix3,nothing",
                                            "--sweep",
                                            "optimizer=adamw,muon",
                                            "--run",
                                            folder};
    const test::Run r = test::run_program(words, home.path());
    EXPECT_EQ(r.code, 1) << "runs have failed\n" << r.err;
    EXPECT_EQ(std::count(r.out.begin(), r.out.end(), '\n'), 2 + 4 + 1 + 2) << r.out;
    for (const char* name : {"mix3-t1-data=mix3-optimizer=adamw", "mix3-t1-data=mix3-optimizer=muon"}) {
        EXPECT_NE(r.out.find("| " + std::string(name)), std::string::npos) << r.out;
        EXPECT_TRUE(std::filesystem::exists(folder + "/" + name + "/checkpoints/12")) << name;
    }
    EXPECT_NE(r.out.find("\nmix3-t1-data=nothing-optimizer=adamw: data = nothing"), std::string::npos) << "why it failed\n"
                                                                                                       << r.out;
    EXPECT_EQ(r.out, read_file(folder + "/summary.md", 1 << 16));

    // Again: what has finished is taken as it is, with the same losses.
    const test::Run again = test::run_program(words, home.path());
    const auto row = [](const std::string& out) {
        const size_t at = out.find("| mix3-t1-data=mix3-optimizer=muon");
        return out.substr(at, out.rfind("| ", out.find('\n', at)) - at);  // up to the seconds
    };
    EXPECT_EQ(row(r.out), row(again.out));

    // Another configuration is not put into the same curve.
    auto other = words;
    other[4] = "13";
    EXPECT_NE(test::run_program(other, home.path()).out.find("holds a run with another configuration"), std::string::npos);
}

// What a verdict reads: all knobs, and an arm that says what is different in it.
TEST(Sweep, knobs_and_keys_of_an_experiment) {
    const test::TempFolder home;
    const std::string folder = home.file("runs");
    const test::Run r = test::run_program({"train", "--experiment", "X07", "--steps", "10", "--set", "batch=2", "--sweep",
                                           "clip=0.5,2", "--sweep", "init_std=0.03", "--sweep", "seed=7", "--run", folder},
                                          home.path());
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.out.find("| finished | 10 "), std::string::npos) << r.out;
    size_t n = 0;
    for (const auto& e : std::filesystem::directory_iterator(folder)) {
        if (!e.is_directory()) continue;
        ++n;
        const std::string name = e.path().filename().string();
        const Json j = Json::parse(read_file(e.path().string() + "/run.json", 1 << 20), name);
        EXPECT_EQ(j.at("experiment").as_string(), "X07");
        EXPECT_TRUE(name.ends_with("-clip=0.5-init_std=0.03-seed=7") || name.ends_with("-clip=2-init_std=0.03-seed=7")) << name;
        const std::string change = name.find("clip=2") != std::string::npos ? ", clip=2" : ", clip=0.5";
        EXPECT_TRUE(j.at("arm").as_string().ends_with(change)) << j.at("arm").as_string();
        EXPECT_EQ(j.at("seed").as_int(), 7);
        EXPECT_EQ(j.at("knobs").at("init_std").as_string(), "0.03");
        EXPECT_EQ(j.at("knobs").at("steps").as_string(), "10");
        EXPECT_EQ(j.at("n_steps").as_int(), 10);
        EXPECT_EQ(j.at("knobs").at("size").as_string(), "quick") << "knobs that were not given too";
        EXPECT_EQ(j.at("knobs").find("clip"), nullptr);
    }
    EXPECT_EQ(n, 8u);
}

TEST(Sweep, a_table_even_where_no_run_could_begin) {
    const test::TempFolder home;
    const test::Run r = test::run_program(
        {"train", "--preset", "mix3-t1", "--steps", "2", "--sweep", "data=nothing,never", "--run", home.file("runs")}, home.path());
    EXPECT_EQ(r.code, 1) << r.err;
    EXPECT_NE(r.out.find("| mix3-t1-data=never   | failed | 0 "), std::string::npos) << r.out;
    EXPECT_EQ(r.out, read_file(home.file("runs/summary.md"), 1 << 16));
}

TEST(Sweep, wrong_words_are_told_before_anything_runs) {
    const test::TempFolder home;
    const auto refused = [&](const std::vector<std::string>& words, const std::string& message) {
        std::vector<std::string> all = {"train"};
        all.insert(all.end(), words.begin(), words.end());
        const test::Run r = test::run_program(all, home.path());
        EXPECT_NE(r.code, 0);
        EXPECT_EQ(r.out, "");
        EXPECT_NE(r.err.find(message), std::string::npos) << r.err;
    };
    refused({"--preset", "mix3-t1", "--sweep", "lr"}, "expected KEY=VALUE,VALUE,...");
    refused({"--preset", "mix3-t1", "--sweep", "lr=1,1"}, "with different values");
    refused({"--preset", "mix3-t1", "--sweep", "lr=1,-1"}, "lr");
    refused({"--preset", "mix3-t1", "--sweep", "learning=1"}, "learning");
    refused({"--preset", "mix3-t1", "--sweep", "lr=1", "--sweep", "lr=2"}, "given twice");
    refused({"--experiment", "X07", "--sweep", "lr=1e-3,1e-2"}, "its arms set lr themselves");
    refused({"--experiment", "X02", "--sweep", "lr=1"}, "nothing to train");
}

}  // namespace
}  // namespace vitrine
