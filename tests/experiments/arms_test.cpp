// Arms that really train: every metric that a plot or a judgement names is recorded, the same bits side by side and
// alone.
#include <gtest/gtest.h>

#include <filesystem>

#include "app/lab/experiment_runs.h"
#include "app/lab/run_reader.h"
#include "app/lab/shipped.h"
#include "engine/base/error.h"
#include "experiments/list.h"

namespace vitrine {
namespace {

ExperimentRequest shortest(const lab::Experiment& e) {
    ExperimentRequest r;
    for (const LabKnob& k : e.info.knobs) {
        if (k.key == "steps") r.knobs["steps"] = lab::significant(k.min, 3);
        if (k.key == "layers") r.knobs["layers"] = "1";
        if (k.key == "noise_at") r.knobs["noise_at"] = "20";
    }
    return r;
}

TEST(Arms, record_what_plots_and_judgements_name) {
    for (const lab::Experiment& e : lab::experiments()) {
        if (!e.arms) continue;
        SCOPED_TRACE(e.info.name);
        const ExperimentRequest request = shortest(e);
        const auto runs = run_experiment_arms(e, request, {}, {});
        for (const LabRun& r : runs) {
            EXPECT_EQ(r.state, RunState::finished) << r.arm << ": " << r.error;
            for (const LabPlot& p : e.info.plots)
                for (const std::string& metric : p.metrics) {
                    const bool is_of_streams = metric.rfind("hyper.", 0) == 0;  // a plain residual has none
                    if (is_of_streams && r.arm.rfind("plain", 0) == 0) continue;
                    const bool is_fresh = r.arm == "off" || r.arm == "triggered";  // no older weights chose anything
                    if (is_fresh && metric == "routing_churn") continue;
                    EXPECT_TRUE(r.scalars.contains(metric)) << r.arm << ": " << metric;
                }
        }
        const LabVerdict v = e.judge(lab::Knobs(e.info, request.knobs), runs);
        EXPECT_NE(v.outcome, LabVerdict::Outcome::none) << v.sentence;
    }
}

TEST(Arms, the_same_bits_alone_and_side_by_side) {
    const lab::Experiment& e = lab::experiment("X04");
    ExperimentRequest request = shortest(e);
    request.n_seeds = 2;
    const auto alone = run_experiment_arms(e, request, {}, {});
    request.n_at_once = 3;
    const auto together = run_experiment_arms(e, request, {}, {});
    ASSERT_EQ(alone.size(), together.size());
    for (size_t i = 0; i < alone.size(); ++i) {
        EXPECT_EQ(alone[i].arm, together[i].arm);
        EXPECT_EQ(alone[i].scalars.at("loss.next").value, together[i].scalars.at("loss.next").value);
    }
    EXPECT_NE(alone[0].scalars.at("loss.next").value, alone[1].scalars.at("loss.next").value) << "seeds differ";
}

TEST(Arms, run_folders_say_what_was_measured) {
    const std::string folder = testing::TempDir() + "lab_runs";
    std::filesystem::remove_all(folder);
    const lab::Experiment& e = lab::experiment("X01");
    ExperimentRequest request = shortest(e);
    request.folder = folder;
    const auto runs = run_experiment_arms(e, request, {}, {});
    for (const LabRun& r : runs) {
        ASSERT_EQ(r.state, RunState::finished) << r.error;
        RunReader reader(r.folder);
        reader.look();
        EXPECT_EQ(reader.run().experiment, "X01");
        EXPECT_EQ(reader.run().arm, r.arm);
        EXPECT_EQ(reader.run().state, RunState::finished);
        EXPECT_EQ(reader.read("loss", -1, 1000).value, r.scalars.at("loss").value);
    }
}

// The second call takes what was finished and goes on with the rest; what comes out is one uninterrupted call's.
TEST(Arms, a_folder_is_gone_on_with) {
    const std::string folder = testing::TempDir() + "lab_again", straight = testing::TempDir() + "lab_straight";
    std::filesystem::remove_all(folder), std::filesystem::remove_all(straight);
    const lab::Experiment& e = lab::experiment("X04");
    ExperimentRequest request = shortest(e);
    request.folder = folder;
    std::stop_source stop;
    int n_told = 0;
    const auto stops = [&](const std::string&) { n_told += stop.request_stop(); };
    EXPECT_THROW(run_experiment_arms(e, request, stop.get_token(), stops), Error);
    EXPECT_EQ(n_told, 1) << "one arm was finished";
    const auto again = run_experiment_arms(e, request, {}, {}), third = run_experiment_arms(e, request, {}, {});
    request.folder = straight;
    const auto once = run_experiment_arms(e, request, {}, {});
    ASSERT_EQ(again.size(), once.size());
    for (size_t i = 0; i < once.size(); ++i) {
        EXPECT_EQ(again[i].state, RunState::finished) << again[i].error;
        EXPECT_EQ(again[i].step, once[i].step);
        for (const auto& [metric, series] : once[i].scalars) {
            EXPECT_EQ(again[i].scalars.at(metric).value, series.value) << metric;
            EXPECT_EQ(third[i].scalars.at(metric).value, series.value) << metric;
        }
    }
    request.folder = folder, request.knobs["lr"] = "0.02";
    EXPECT_NE(run_experiment_arms(e, request, {}, {})[0].error.find("another configuration"), std::string::npos);
}

// A run whose numbers are no longer finite, as the trainer ends it.
TEST(Arms, a_run_that_diverges_is_told_by_the_judgement) {
    lab::Experiment e = lab::experiment("X04");
    e.arms = [](const lab::Knobs& knobs) {
        std::vector<lab::Arm> arms = lab::experiment("X04").arms(knobs);
        arms[1].train.lr = 1e30, arms[1].train.clip = 0;
        return arms;
    };
    const ExperimentRequest request = shortest(e);
    const auto runs = run_experiment_arms(e, request, {}, {});
    ASSERT_EQ(runs[1].state, RunState::failed);
    EXPECT_LT(runs[1].step, runs[0].step);
    const LabVerdict v = e.judge(lab::Knobs(e.info, request.knobs), runs);
    const std::string what = runs[1].arm + ", seed 1, at step " + std::to_string(runs[1].step);
    EXPECT_NE(v.sentence.find("1 run diverged and is not counted: " + what), std::string::npos)
        << v.sentence;
}

TEST(Arms, a_stop_is_cancelled_and_wrong_names_are_told) {
    std::stop_source stop;
    stop.request_stop();
    EXPECT_THROW(run_experiment_arms(lab::experiment("X01"), {}, stop.get_token(), {}), Error);
    try {
        lab::arm_of(lab::experiment("X01"), {}, "hc 9 layers");
        FAIL();
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("mhc 8 layers lr 0.01"), std::string::npos) << e.what();
    }
}

TEST(Catalogue, serves_the_window) {
    const LabCatalogue c = shipped_catalogue();
    EXPECT_EQ(c.infos.size(), lab::experiments().size());
    EXPECT_EQ(c.arms("X01", {{"layers", "2"}}).size(), 2u);
    EXPECT_TRUE(c.arms("X08", {}).empty());
    EXPECT_EQ(c.analyse("X33", {}, {}, {}).outcome, LabVerdict::Outcome::mixed);
    LabRun r;
    r.arm = "nothing";
    EXPECT_EQ(c.judge("X01", {r}).outcome, LabVerdict::Outcome::none);
    EXPECT_THROW(c.arms("X01", {{"layers", "0"}}), Error);
}

}  // namespace
}  // namespace vitrine
