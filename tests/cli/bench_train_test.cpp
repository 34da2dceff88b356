// vitrine bench --train on the CPU as a user runs it: what --json holds, and that the numbers fit together.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/base/json.h"
#include "engine/train/fresh.h"
#include "engine/train/presets.h"
#include "engine/train/trainer.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {

TEST(BenchTrain, json_holds_speed_share_of_peak_bytes_and_time_by_op) {
    const test::TempFolder home;
    const test::Run r =
        test::run_program({"bench", "--train", "--preset", "mix3-t1", "--steps", "3", "-t", "1", "--json"}, home.path());
    ASSERT_EQ(r.code, 0) << r.err;
    const Json j = Json::parse(r.out, "stdout");
    const std::set<std::string> fixed{"preset",         "threads",          "kernels",
                                      "train.tokens_per_s", "train.step_ms", "train.gflop_per_s",
                                      "peak_gflop_per_s",   "train.peak_share", "watching_cost_percent",
                                      "bytes.weights",  "bytes.gradients",  "bytes.moments",
                                      "bytes.activations",  "bytes.activation_gradients"};
    std::set<std::string> names, ops;
    double op_ms = 0;
    for (const auto& [name, value] : j.members()) {
        EXPECT_TRUE(names.insert(name).second) << name << " twice";
        if (fixed.contains(name)) continue;
        ASSERT_TRUE(name.starts_with("ms.") && (name.ends_with(".forward") || name.ends_with(".backward"))) << name;
        ops.insert(name.substr(3, name.rfind('.') - 3));
        EXPECT_GE(value.as_double(), 0) << name;
        op_ms += value.as_double();
    }
    for (const std::string& name : fixed) EXPECT_TRUE(names.contains(name)) << name;
    EXPECT_GE(ops.size(), 8u);
    for (const char* op : {"attend", "optimizer", "router", "linear", "moe"}) EXPECT_TRUE(ops.contains(op)) << op;
    EXPECT_EQ(j.at("preset").as_string(), "mix3-t1");
    EXPECT_EQ(j.at("threads").as_int(), 1);

    const TrainPreset& preset = train_preset("mix3-t1");
    const auto n_tokens = static_cast<double>(preset.train.batch * preset.train.sequence_length);
    const double in_step = j.at("train.tokens_per_s").as_double() * j.at("train.step_ms").as_double() * 1e-3;
    EXPECT_GT(in_step, 0.8 * n_tokens) << "batches are packed";
    EXPECT_LE(in_step, n_tokens * (1 + 1e-9));
    EXPECT_GT(op_ms, 0);
    EXPECT_LE(op_ms, 1.01 * j.at("train.step_ms").as_double()) << "a part of the step";
    const double share = j.at("train.gflop_per_s").as_double() / j.at("peak_gflop_per_s").as_double();
    EXPECT_NEAR(j.at("train.peak_share").as_double(), share, 1e-9);
    EXPECT_GT(share, 0);
    EXPECT_LT(share, 1);
    EXPECT_TRUE(std::isfinite(j.at("watching_cost_percent").as_double()));

    Trainer trainer(preset.model, fresh_weights(preset.model, preset.train), preset.train, 1);
    trainer.step();
    const Trainer::Bytes want = trainer.bytes();
    EXPECT_EQ(j.at("bytes.weights").as_int(), static_cast<int64_t>(want.weights));
    EXPECT_EQ(j.at("bytes.gradients").as_int(), static_cast<int64_t>(want.gradients));
    EXPECT_EQ(j.at("bytes.moments").as_int(), static_cast<int64_t>(want.moments));
    EXPECT_GT(j.at("bytes.activations").as_int(), 0);
    EXPECT_GT(j.at("bytes.activation_gradients").as_int(), 0);
}

}  // namespace
}  // namespace vitrine
