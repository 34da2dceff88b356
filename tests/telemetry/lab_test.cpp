// The lab's plain data: how updates change a snapshot, differences of configs, the lines that steer a run.
#include "engine/telemetry/lab.h"

#include <gtest/gtest.h>

#include "engine/base/config/training_config.h"
#include "engine/base/error.h"
#include "engine/telemetry/run_control.h"

namespace vitrine {
namespace {

LabRun run_called(const std::string& id) {
    LabRun r;
    r.id = id;
    return r;
}

TEST(LabSnapshot, points_are_appended_and_survive_a_change_of_the_run) {
    LabSnapshot s;
    s.apply(LabRunChanged{run_called("a")});
    s.apply(LabPointsAdded{"a", "loss", {1, 2}, {0.5, 0.25}, true});
    s.apply(LabEventsAdded{"a", {{2, "alarm", "x", ""}}, false});
    const uint64_t revision = s.find("a")->scalars["loss"].revision;
    s.apply(LabPointsAdded{"a", "loss", {3}, {0.125}, false});
    LabRun changed = run_called("a");
    changed.step = 3;
    s.apply(LabRunChanged{changed});
    ASSERT_EQ(s.runs.size(), 1u);
    const LabRun& r = s.runs[0];
    EXPECT_EQ(r.step, 3);
    EXPECT_EQ(r.events.size(), 1u);
    EXPECT_EQ(r.scalars.at("loss").value, (std::vector<double>{0.5, 0.25, 0.125}));
    EXPECT_EQ(r.scalars.at("loss").revision, revision);
    s.apply(LabPointsAdded{"a", "loss", {9}, {1}, true});
    EXPECT_EQ(s.runs[0].scalars.at("loss").step, (std::vector<double>{9}));
    EXPECT_NE(s.runs[0].scalars.at("loss").revision, revision);
    s.apply(LabRunGone{"a"});
    EXPECT_TRUE(s.runs.empty());
    s.apply(LabPointsAdded{"a", "loss", {1}, {1}, false});  // of a run that is gone
    EXPECT_TRUE(s.runs.empty());
}

TEST(CompareConfigs, names_nested_fields_that_differ_and_those_of_one_side) {
    const auto d = compare_configs(R"({"lr": 0.01, "model": {"layers": [1, 2], "d": 64}, "x": "a"})",
                                   R"({"lr": 0.02, "model": {"layers": [1, 3], "d": 64}, "y": true})");
    ASSERT_EQ(d.size(), 4u);
    EXPECT_EQ(d[0].field, "lr");
    EXPECT_EQ(d[0].a, "0.01");
    EXPECT_EQ(d[0].b, "0.02");
    EXPECT_EQ(d[1].field, "model.layers.1");
    EXPECT_EQ(d[1].b, "3");
    EXPECT_EQ(d[2].field, "x");
    EXPECT_EQ(d[2].b, "");
    EXPECT_EQ(d[3].field, "y");
    EXPECT_EQ(d[3].b, "true");
    EXPECT_THROW(compare_configs("[]", "{}"), Error);
}

TEST(RunControl, lines_are_read_back) {
    for (const char* line : {"pause", "resume", "step", "stop", "checkpoint", "set lr 0.001", "set clip 0", "set metrics layers",
                             "set metrics_every 5", "set steps 300", "set eval_every 0"})
        EXPECT_EQ(run_control_line(parse_run_control(line)), line);
    const RunControl c = parse_run_control("  set lr 1e-3\r");
    EXPECT_EQ(c.key, "lr");
    EXPECT_EQ(c.value.as_double(), 1e-3);
    EXPECT_EQ(parse_run_control("set metrics all").value.as_string(), "all");
    EXPECT_EQ(parse_run_control("set metrics_every 5").value.as_int(), 5);
}

TEST(RunControl, every_live_key_can_be_set) {
    TrainConfig c;
    const ConfigFields all = fields(c);
    size_t n = 0;
    for (const ConfigField& f : all.all()) {
        if (!f.is_live) continue;
        ++n;
        const Json now = f.get();
        const std::string word = now.is_string() ? now.as_string() : now.dump();
        EXPECT_EQ(parse_run_control("set " + std::string(f.name) + " " + word).value, now) << f.name;
    }
    EXPECT_EQ(lab_live_fields().size(), n);
}

TEST(RunControl, a_wrong_line_says_what_was_expected) {
    const auto message = [](const char* line) {
        try {
            parse_run_control(line);
        } catch (const Error& e) {
            return std::string(e.what());
        }
        return std::string("accepted");
    };
    EXPECT_NE(message("").find("pause, resume"), std::string::npos);
    EXPECT_NE(message("paus").find("pause, resume"), std::string::npos);
    EXPECT_NE(message("stop now").find("stop alone"), std::string::npos);
    EXPECT_NE(message("set depth 3").find("a live field: "), std::string::npos) << message("set depth 3");
    EXPECT_NE(message("set lr").find("set KEY VALUE"), std::string::npos);
    EXPECT_NE(message("set batch 3").find("a live field"), std::string::npos) << "is not live";
    EXPECT_NE(message("set metrics some").find("metrics to be one of few, layers, all"), std::string::npos);
    EXPECT_NE(message("set metrics_every 2.5").find("an integer in [1, "), std::string::npos) << message("set metrics_every 2.5");
    for (const char* line : {"set lr 101", "set lr -1", "set lr nan", "set lr 1e-3x"})
        EXPECT_NE(message(line).find("number in [0, 100]"), std::string::npos) << line;
}

}  // namespace
}  // namespace vitrine
