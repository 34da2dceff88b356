// vitrine train and dump --gradients as a user runs them.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <sstream>

#include "engine/base/json.h"
#include "engine/base/reader.h"
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
