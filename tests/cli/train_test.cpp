// vitrine train and dump --gradients as a user runs them.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <sstream>

#include "engine/base/json.h"
#include "engine/base/reader.h"
#include "engine/base/sqlite.h"
#include "engine/weights/checkpoint.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {

const std::string kFlashlike = std::string(VITRINE_SOURCE_DIR) + "/tests/golden/flashlike";

std::vector<Json> lines_of(const std::string& text) {
    std::vector<Json> lines;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line, "stdout"));
    return lines;
}

std::string tokens_file(const test::TempFolder& folder) {
    std::string ids = "[";
    for (const RawTensor& t : read_safetensors(kFlashlike + "/golden.safetensors"))
        if (t.name == "input_ids")
            for (int64_t i = 0; i < t.shape[0]; ++i)
                ids += (i ? ", " : "") + std::to_string(reinterpret_cast<const int32_t*>(t.data)[i]);
    write_file_atomic(folder.file("ids.json"), ids + "]");
    return folder.file("ids.json");
}

TEST(Train, ten_adamw_losses_are_pytorchs) {
    const test::TempFolder home;
    std::vector<std::string> args = {"train", "--from", kFlashlike, "--tokens", tokens_file(home), "--steps", "10"};
    for (const char* s : {"optimizer=adamw", "lr=1e-3", "beta1=0.9", "beta2=0.95", "eps=1e-8", "weight_decay=0.1", "decay=all",
                          "schedule=constant", "clip=0"})
        args.insert(args.end(), {"--set", s});
    const test::Run r = test::run_program(args, home.path());
    ASSERT_EQ(r.code, 0) << r.err;
    const auto lines = lines_of(r.out);
    const Json want = Json::parse(read_file(kFlashlike + "/train.json", 1 << 20), "train.json");
    ASSERT_EQ(lines.size(), 10u);
    for (size_t i = 0; i < lines.size(); ++i) {
        EXPECT_EQ(lines[i].at("step").as_int(), static_cast<int64_t>(i));
        EXPECT_NEAR(lines[i].at("loss").as_double(), want.at("losses").items()[i].as_double(), 1e-4);
        EXPECT_GT(lines[i].at("grad_norm").as_double(), 0);
        EXPECT_EQ(lines[i].at("lr").as_double(), 1e-3);
    }
}

TEST(Train, dump_writes_gradients_and_loss) {
    const test::TempFolder home;
    const std::string out = home.file("g.safetensors");
    const test::Run r = test::run_program(
        {"dump", "-m", kFlashlike, "--tokens", tokens_file(home), "--gradients", "--dtype", "f64", "--out", out}, home.path());
    ASSERT_EQ(r.code, 0) << r.err;
    bool has_loss = false, has_embedding = false;
    for (const RawTensor& t : read_safetensors(out)) {
        EXPECT_EQ(t.dtype, DType::f64) << t.name;
        if (t.name == "loss") has_loss = std::abs(*reinterpret_cast<const double*>(t.data) - 6.46377) < 1e-4;
        has_embedding |= t.name == "embed.weight";
    }
    EXPECT_TRUE(has_loss && has_embedding);
}

TEST(Train, a_run_is_stopped_by_a_line_and_gone_on_from) {
    const test::TempFolder home;
    const std::string run = home.file("run");
    const std::vector<std::string> begin = {"train", "--preset", "mix3-t1", "--run", run, "--steps", "6", "--set", "batch=2",
                                            "--control"};
    test::Run r = test::run_program(begin, home.path(), "pause\nset lr 0.001\nstep\nbroken\nstop\n");
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.err.find("broken"), std::string::npos) << "a wrong line is told";
    EXPECT_EQ(test::run_program(begin, home.path()).code, 2) << "there is a run already";
    r = test::run_program({"train", "--resume", run, "-t", "1"}, home.path());
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(lines_of(r.out).back().at("step").as_int(), 5);
    EXPECT_TRUE(std::filesystem::exists(run + "/checkpoints/6/manifest.json"));
    r = test::run_program({"inspect", run + "/checkpoints/6", "--quick"}, home.path());
    EXPECT_EQ(r.code, 0) << r.err;
    r = test::run_program({"train", "--config", run + "/run.json", "--run", home.file("again")}, home.path());
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(lines_of(r.out).size(), 6u);
}

// The rows of a run's stdout without the time they took.
std::vector<std::string> rows_of(const std::string& out) {
    std::vector<std::string> rows;
    for (const Json& line : lines_of(out)) {
        Json row = Json::object();
        for (const auto& [name, value] : line.members())
            if (name != "tokens_per_s") row.set(name, value);
        rows.push_back(row.dump());
    }
    return rows;
}
// The state behind a step: weights, moments, counters.
std::string bits_of(const std::string& run, int64_t step) {
    const std::string at = run + "/checkpoints/" + std::to_string(step) + "/";
    return read_file(at + "model.safetensors", 1 << 26) + read_file(at + "state.safetensors", 1 << 26);
}
std::vector<std::string> events_of(const std::string& run, const std::string& kind) {
    std::vector<std::string> all;
    sql::Database db(run + "/metrics.sqlite");
    sql::Statement s(db, "SELECT text FROM events WHERE kind = ? ORDER BY id");
    s.bind(1, kind);
    while (s.step()) all.push_back(s.text(0));
    return all;
}

TEST(Train, a_run_is_repeated_from_its_folder_bit_for_bit) {
    const test::TempFolder home;
    const auto train = [&](std::vector<std::string> args, const std::string& input = "") {
        args.insert(args.begin(), "train");
        const test::Run r = test::run_program(args, home.path(), input);
        EXPECT_EQ(r.code, 0) << r.err;
        return r;
    };
    const auto repeated = [&](const std::string& run) {
        return train({"--config", run + "/run.json", "--run", run + "-again"});
    };
    const std::string a = home.file("a"), b = home.file("b"), c = home.file("c");
    // From nothing, with a live change.
    train({"--preset", "mix3-t1", "--run", a, "--steps", "6", "--set", "batch=2", "--set", "checkpoint_every=3", "--control"},
          "pause\nset lr 0.001\nset metrics layers\nstop\n");
    train({"--resume", a});
    repeated(a);
    EXPECT_EQ(bits_of(a, 6), bits_of(a + "-again", 6));
    EXPECT_EQ(events_of(a + "-again", "change"), (std::vector<std::string>{"lr 0.01 -> 0.001", "metrics \"few\" -> \"layers\""}));
    // From given weights.
    const test::Run first = train({"--from", a + "/checkpoints/3", "--run", b, "--steps", "4", "--set", "batch=2"});
    EXPECT_EQ(rows_of(first.out), rows_of(repeated(b).out));
    EXPECT_EQ(bits_of(b, 4), bits_of(b + "-again", 4));
    EXPECT_EQ(rows_of(first.out), rows_of(train({"--config", b + "/run.json"}).out)) << "without a folder of its own";
    // A run that left another one, and the repeat of its repeat.
    const test::Run left = train({"--rewind", a, "--step", "3", "--run", c, "--set", "clip=0.5"});
    EXPECT_EQ(rows_of(left.out), rows_of(repeated(c).out));
    EXPECT_EQ(rows_of(left.out), rows_of(repeated(c + "-again").out));
    EXPECT_EQ(bits_of(c, 6), bits_of(c + "-again-again", 6));
    // The first checkpoint is gone: the weights themselves will do while they are what they were.
    std::filesystem::remove_all(b + "-again");
    std::filesystem::remove_all(b + "/checkpoints/0");
    EXPECT_EQ(rows_of(first.out), rows_of(repeated(b).out));
    const auto refusal = [&](const std::string& run) {
        const test::Run r = test::run_program({"train", "--config", run + "/run.json", "--run", home.file("no")}, home.path());
        EXPECT_EQ(r.code, 2) << r.err;
        return r.err;
    };
    std::filesystem::copy_file(a + "/checkpoints/6/model.safetensors", a + "/checkpoints/3/model.safetensors",
                               std::filesystem::copy_options::overwrite_existing);
    EXPECT_NE(refusal(b).find("can't be repeated"), std::string::npos);
    std::filesystem::remove_all(a);
    EXPECT_NE(refusal(b).find("so are the weights"), std::string::npos);
    std::filesystem::remove_all(c + "/checkpoints/3");
    EXPECT_NE(refusal(c).find("it left a at step 3"), std::string::npos);
}

TEST(Train, what_is_asked_of_a_run_is_recorded_in_it) {
    const test::TempFolder home;
    const std::string run = home.file("run");
    const std::vector<std::string> words = {"train", "--preset", "mix3-t1", "--run", run, "--steps", "4", "--set", "batch=2",
                                            "--control"};
    const test::Run r = test::run_program(words, home.path(), "pause\nset metrics_every 3\nstop\n");
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(events_of(run, "control"), (std::vector<std::string>{"paused before step 0", "stopped at step 0"}));
    EXPECT_EQ(events_of(run, "change"), (std::vector<std::string>{"metrics_every 10 -> 3"}));
}

TEST(Train, without_a_folder_it_measures_the_same) {
    const test::TempFolder home;
    const std::vector<std::string> words = {"train", "--preset", "mix3-t1", "--steps", "4", "--set", "batch=2", "--set",
                                            "eval_every=2", "--set", "lr=1"};
    const test::Run r = test::run_program(words, home.path());
    ASSERT_EQ(r.code, 0) << r.err;
    const auto lines = lines_of(r.out);
    ASSERT_EQ(lines.size(), 4u);
    for (size_t i = 0; i < lines.size(); ++i) {
        EXPECT_EQ(lines[i].find("eval.loss") != nullptr, i % 2 == 1) << i;
        EXPECT_GT(lines[i].at("tokens_per_s").as_double(), 0);
    }
    EXPECT_NE(r.err.find("update_ratio."), std::string::npos) << "alarms: " << r.err;
}

TEST(Train, wrong_words_are_told) {
    const test::TempFolder home;
    auto message = [&](std::vector<std::string> args) {
        args.insert(args.begin(), "train");
        const test::Run r = test::run_program(args, home.path());
        EXPECT_NE(r.code, 0);
        return r.err;
    };
    auto has = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
    EXPECT_TRUE(has(message({}), "--from DIR, --preset NAME"));
    EXPECT_TRUE(has(message({"--preset", "mix3-t3"}), "did you mean mix3-t"));
    EXPECT_TRUE(has(message({"--preset", "mix3-t1", "--set", "lrr=1"}), "unknown key"));
    EXPECT_TRUE(has(message({"--preset", "mix3-t1", "--set", "data=mix4"}), "did you mean mix3"));
    EXPECT_TRUE(has(message({"--resume", home.file("none")}), "no complete checkpoint"));
}

}  // namespace
}  // namespace vitrine
