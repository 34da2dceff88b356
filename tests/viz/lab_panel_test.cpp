// The Lab, read from its drawn widgets: empty, typical, huge; form, runs, controls, events, replay.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/viz/fake_lab.h"
#include "tests/viz/stage.h"
#include "viz/imgui_compat.h"
#include "viz/lab/curves.h"
#include "viz/widgets/curve.h"
#include "viz/widgets/registry.h"

namespace vitrine::viz::test {
namespace {

class Lab : public ::testing::Test {
  protected:
    Stage stage{1800, 1900};
    Snapshot s;
    void draw(int n = 3) { stage.draw("Lab", s, n); }
    bool click(const std::string& name) { return stage.click("Lab", s, name); }
    void type(const std::string& field, const std::string& text) {
        ASSERT_TRUE(click(field)) << field;
        feed_mods(kCtrl), feed_key(Key::kA, true), draw(1), feed_key(Key::kA, false), feed_mods(0), draw(1);
        for (const char c : text) ImGui::GetIO().AddInputCharacter(static_cast<unsigned>(c)), draw(1);
        draw(1);
    }
    template <class T>
    const T& last() {
        const T* found = stage.sink.last_lab<T>();
        if (!found) throw std::runtime_error("nothing like it was asked for");
        return *found;
    }
};

TEST_F(Lab, without_anything_it_says_what_to_do) {
    draw();
    EXPECT_TRUE(ui::is_text_shown("No experiments here"));
    s.lab = fake::lab_without_runs();
    draw();
    EXPECT_TRUE(stage.is_drawn("lab/hint"));
    EXPECT_TRUE(ui::is_text_shown("No runs are drawn"));
    EXPECT_EQ(stage.number("lab/experiment/X01"), 1);
    EXPECT_EQ(stage.text("lab/experiment/X01/badge"), "provoked");
    EXPECT_TRUE(click("lab/hint/Close"));
    draw();
    EXPECT_FALSE(stage.is_drawn("lab/hint"));
}

TEST_F(Lab, the_form_marks_what_differs_and_run_sends_it) {
    s.lab = fake::lab_without_runs();
    draw();
    EXPECT_EQ(stage.text("lab/knob/depth"), "8");
    EXPECT_FALSE(stage.is_drawn("lab/knob/depth/reset"));
    type("lab/knob/depth", "16");
    EXPECT_EQ(stage.number("lab/knob/depth/label"), 1);
    EXPECT_TRUE(stage.is_drawn("lab/knob/depth/reset"));
    ASSERT_TRUE(click("lab/seeds/1"));
    ASSERT_TRUE(click("lab/Run"));
    EXPECT_EQ(last<StartRuns>().experiment, "X01");
    EXPECT_EQ(last<StartRuns>().n_seeds, 1);
    EXPECT_EQ(last<StartRuns>().knobs, (std::map<std::string, std::string>{{"depth", "16"}}));
    type("lab/knob/depth", "99");
    EXPECT_NE(stage.text("lab/knob/depth/problem").find("expected 1 to 48"), std::string::npos);
    const size_t n = stage.sink.lab.size();
    click("lab/Run");
    EXPECT_EQ(stage.sink.lab.size(), n) << "a wrong value is not run";
    ASSERT_TRUE(click("lab/knob/depth/reset"));
    draw();
    EXPECT_EQ(stage.text("lab/knob/depth"), "8");
    EXPECT_FALSE(stage.is_drawn("lab/knob/depth/problem"));
}

TEST_F(Lab, a_full_queue_is_told) {
    s.lab = fake::lab_without_runs();
    stage.sink.is_full = true;
    draw();
    ASSERT_TRUE(click("lab/Run"));
    EXPECT_TRUE(stage.is_drawn("lab/problem"));
    stage.sink.is_full = false;
    ASSERT_TRUE(click("lab/Run"));
    EXPECT_FALSE(stage.is_drawn("lab/problem"));
}

TEST_F(Lab, draws_the_newest_runs_and_watches_what_it_draws) {
    s.lab = fake::lab();
    draw();
    EXPECT_EQ(stage.number("lab/runs"), 8);
    EXPECT_EQ(stage.number("lab/run/X01-0001-hc-s1/shown"), 1);
    EXPECT_EQ(stage.number("lab/run/X01-0008-mhc-s4/shown"), 0) << "other knobs than the newest run";
    EXPECT_EQ(last<WatchScalars>().metrics, (std::vector<std::string>{"grad_norm", "hyper.gain.max", "loss"}));
    EXPECT_EQ(last<WatchScalars>().ids.size(), 7u);
    EXPECT_EQ(stage.number("lab/plot/Composite gain/legend/hc (3 seeds)"), 1);
    EXPECT_EQ(stage.number("lab/plot/Composite gain/legend/mhc (3 seeds)"), 1);
    EXPECT_EQ(stage.number("lab/plot/Loss/x_hi"), 200);
    const size_t n = stage.sink.lab.size();
    draw();
    EXPECT_EQ(stage.sink.lab.size(), n) << "asked once";
    ASSERT_TRUE(click("lab/run/X01-0001-hc-s1/shown"));
    draw();
    EXPECT_EQ(last<WatchScalars>().ids.size(), 6u);
    EXPECT_EQ(stage.number("lab/plot/Composite gain/legend/hc (2 seeds)"), 1);
}

TEST_F(Lab, controls_steer_the_run_in_focus) {
    s.lab = fake::lab();
    draw();
    EXPECT_NE(stage.text("lab/focus").find("mhc, seed 3"), std::string::npos) << "the one that runs";
    ASSERT_TRUE(click("lab/control/Pause"));
    EXPECT_EQ(last<ControlRun>().id, "X01-0006-mhc-s3");
    EXPECT_EQ(last<ControlRun>().what, ControlRun::Do::pause);
    const size_t n = stage.sink.lab.size();
    click("lab/control/Step");
    EXPECT_EQ(stage.sink.lab.size(), n) << "only a paused run steps";
    type("lab/live/lr", "1e-3");
    ASSERT_TRUE(click("lab/live/lr/Set"));
    EXPECT_EQ(last<SetLive>().key, "lr");
    EXPECT_EQ(last<SetLive>().value, "1e-3");
    ASSERT_TRUE(click("lab/live/metrics"));
    draw();
    ASSERT_TRUE(click("lab/live/metrics/layers"));
    EXPECT_EQ(last<SetLive>().key, "metrics");
    EXPECT_EQ(last<SetLive>().value, "layers");
    draw();
    type("lab/live/metrics_every", "2.5");
    const size_t n_before = stage.sink.lab.size();
    click("lab/live/metrics_every/Set");
    EXPECT_EQ(stage.sink.lab.size(), n_before) << "whole steps only";
    ASSERT_TRUE(click("lab/rewind/Replay"));
    EXPECT_EQ(last<RewindRun>().step, 100);
    EXPECT_TRUE(last<RewindRun>().changes.empty());
    ASSERT_TRUE(click("lab/run/X01-0008-mhc-s4"));
    draw();
    EXPECT_NE(stage.text("lab/error").find("killed by signal 9"), std::string::npos);
    EXPECT_NE(stage.text("lab/last line").find("loss 2.211"), std::string::npos);
    ASSERT_TRUE(click("lab/control/Resume"));
    EXPECT_EQ(last<ControlRun>().what, ControlRun::Do::resume);
    ASSERT_TRUE(click("lab/control/Forget"));
    EXPECT_EQ(stage.sink.last_lab<ForgetRun>(), nullptr) << "asks first";
    draw();
    ASSERT_TRUE(click("lab/control/Delete"));
    EXPECT_EQ(last<ForgetRun>().id, "X01-0008-mhc-s4");
}

TEST_F(Lab, a_spike_leads_to_its_batch_layers_and_matrices) {
    s.lab = fake::lab();
    draw();
    const auto names = ui::widget_names("lab/events/");
    std::string spike;
    for (const std::string& name : names)
        if (stage.text(name).find("1.8 times the median") != std::string::npos) spike = name;
    ASSERT_FALSE(spike.empty());
    ASSERT_TRUE(click(spike));
    draw();
    EXPECT_NE(stage.text("lab/event/title").find("spike at step 120"), std::string::npos);
    EXPECT_EQ(stage.text("lab/event/batch/domains"), "random tokens 3 of 16 rows");
    EXPECT_TRUE(ui::is_text_shown("zqxv kwpf jjht"));
    EXPECT_EQ(stage.number("lab/event/layers/0/grad_norm"), 9.41);
    EXPECT_TRUE(ui::is_text_shown("layers.7.mlp.experts.3.w2") || ui::is_text_shown("mlp.experts.3.w2"));
    // The cursor of every plot stands on its step.
    bool is_there = false;
    for (const std::string& name : ui::widget_names("lab/plot/Loss/"))
        is_there |= name == "lab/plot/Loss/hc (3 seeds)/119";
    EXPECT_TRUE(is_there);
}

TEST_F(Lab, a_spike_leads_back_to_the_checkpoint_before_it) {
    s.lab = fake::lab();
    draw();
    const LabRun* spiky = nullptr;
    int64_t at = 0;
    for (const LabRun& r : s.lab.runs)
        for (const LabEvent& e : r.events)
            if (e.kind == "spike" && !spiky) spiky = &r, at = e.step;
    ASSERT_NE(spiky, nullptr);
    ASSERT_TRUE(click("lab/run/" + spiky->id));
    ASSERT_TRUE(click("lab/which events/Spikes"));
    draw();
    // Its line in a plot opens its record.
    ASSERT_TRUE(click("lab/plot/Loss/line/spike/" + std::to_string(at)));
    draw();
    EXPECT_NE(stage.text("lab/event/title").find("spike at step " + std::to_string(at)), std::string::npos);
    ASSERT_TRUE(click("lab/event/Replay"));
    EXPECT_EQ(last<RewindRun>().id, spiky->id);
    EXPECT_EQ(last<RewindRun>().step, 100) << "the newest checkpoint before step 120";
    draw();
    ASSERT_TRUE(click("lab/event/Change"));
    draw();
    EXPECT_EQ(stage.number("lab/rewind/step"), 100);
    type("lab/rewind/value", "0.1");
    ASSERT_TRUE(click("lab/rewind/Run"));
    EXPECT_EQ(last<RewindRun>().changes, (std::map<std::string, std::string>{{"lr", "0.1"}}));
}

TEST_F(Lab, everything_has_a_name_in_the_menu) {
    s.lab = fake::lab();
    draw();
    const auto run = [&](const std::string& title) {
        for (PanelAction& a : stage.panel("Lab").actions(s))
            if (a.title.starts_with(title)) {
                EXPECT_TRUE(a.is_enabled) << title;
                a.run(s, stage.sink);
                return;
            }
        FAIL() << "no action " << title;
    };
    run("Pause the run");
    EXPECT_EQ(last<ControlRun>().id, "X01-0006-mhc-s3");
    EXPECT_EQ(last<ControlRun>().what, ControlRun::Do::pause);
    run("Replay the run unchanged from step 100");
    EXPECT_EQ(last<RewindRun>().step, 100);
    run("Show the run's folder");
    EXPECT_EQ(last<ShowFolder>().id, "X01-0006-mhc-s3");
    run("Export the drawn runs for TensorBoard");
    EXPECT_EQ(last<ExportEvents>().ids.size(), 7u);
    run("Stop all runs");
    EXPECT_EQ(last<ControlRun>().what, ControlRun::Do::stop);
    run("Run X01");
    EXPECT_EQ(last<StartRuns>().experiment, "X01");
    run("Choose X08");
    draw();
    EXPECT_EQ(stage.number("lab/experiment/X08"), 1);
    run("Calculate X08");
    EXPECT_EQ(last<StartRuns>().experiment, "X08");
    // A run that waits since an earlier window is started by name.
    s.lab.runs.back().state = RunState::waiting, s.lab.runs.back().is_resumable = true;
    run("Start the runs that wait");
    EXPECT_EQ(last<ControlRun>().id, s.lab.runs.back().id);
    EXPECT_EQ(last<ControlRun>().what, ControlRun::Do::resume);
}

TEST_F(Lab, verdict_difference_and_replay) {
    s.lab = fake::lab();
    draw();
    ASSERT_TRUE(click("lab/tab/Verdict"));
    draw();
    EXPECT_NE(stage.text("lab/outcome").find("mixed"), std::string::npos);
    EXPECT_EQ(stage.text("lab/table/0/0/seed 1"), "550");
    EXPECT_NE(stage.text("lab/literature").find("2512.24880"), std::string::npos);
    EXPECT_FALSE(stage.is_drawn("lab/chart/Loss over the learning rate/title"));
    s.lab.verdicts["X01"].charts = {{"Loss over the learning rate", "learning rate", "nats", true, false,
                                     {{"AdamW", {0.001, 0.01}, {2, 1.5}, {1.9, 1.4}, {2.1, 1.6}}}}};
    draw();
    EXPECT_TRUE(stage.is_drawn("lab/chart/Loss over the learning rate/title")) << "of what finished runs say";
    ASSERT_TRUE(click("lab/run/X01-0007-hc-s1"));
    ASSERT_TRUE(click("lab/tab/Difference"));
    draw();
    EXPECT_NE(stage.text("lab/difference/b").find("X01-0001-hc-s1"), std::string::npos)
        << "a rewound run is compared with its parent";
    EXPECT_EQ(stage.number("lab/difference/n"), 0);
    EXPECT_NE(stage.text("lab/replay/grad_norm").find("equal bit for bit over 100 shared steps"), std::string::npos);
    EXPECT_NE(stage.text("lab/replay/loss").find("differs from step 150 on"), std::string::npos)
        << stage.text("lab/replay/loss");
}

// `vitrine train --preset mix3-t1 --run DIR/a`: drawn and steered like others, with nothing to press and nothing to judge.
TEST_F(Lab, runs_without_an_experiment_have_an_entry) {
    s.lab = fake::lab();
    LabInfo own;
    own.name = "Runs", own.title = "Runs without an experiment", own.is_collection = true;
    own.plots = {{"Loss", "step", "nats", {"loss"}, false, false}};
    s.lab.experiments.push_back(own);
    draw();
    EXPECT_FALSE(stage.is_drawn("lab/experiment/Runs")) << "there are none";
    for (const char* id : {"first", "second"}) {
        LabRun r = s.lab.runs[1];
        r.id = id, r.experiment = own.name, r.arm.clear(), r.knobs["lr"] = id;
        s.lab.runs.push_back(r);
    }
    ++s.lab.version;
    draw();
    EXPECT_TRUE(stage.is_drawn("lab/group/Your own runs"));
    ASSERT_TRUE(click("lab/experiment/Runs"));
    draw();
    EXPECT_EQ(stage.number("lab/run/first/shown"), 1);
    EXPECT_EQ(stage.number("lab/run/second/shown"), 1) << "whatever they were given";
    EXPECT_TRUE(stage.is_drawn("lab/plot/Loss/title"));
    EXPECT_FALSE(stage.is_drawn("lab/Run"));
    ASSERT_TRUE(click("lab/tab/Verdict"));
    draw();
    EXPECT_NE(stage.text("lab/verdict").find("nothing judges them"), std::string::npos);
}

TEST_F(Lab, where_only_such_runs_are_they_are_chosen) {
    s.lab = fake::lab_without_runs();
    LabInfo own;
    own.name = "Runs", own.title = "Runs without an experiment", own.is_collection = true;
    s.lab.experiments.push_back(own);
    LabRun r;
    r.id = "first", r.experiment = own.name, r.state = RunState::finished;
    s.lab.runs.push_back(r);
    draw();
    EXPECT_EQ(stage.number("lab/experiment/Runs"), 1);
}

// A run that was changed while it ran is a curve of its own, beside the band of its arm's seeds.
TEST_F(Lab, a_changed_run_is_labelled) {
    s.lab = fake::lab();
    s.lab.runs[1].changed = "lr 0.01 -> 0 at step 60";
    draw();
    EXPECT_NE(stage.text("lab/run/" + s.lab.runs[1].id).find("changed: lr 0.01 -> 0 at step 60"), std::string::npos);
}

TEST_F(Lab, what_is_calculated_has_charts_and_no_runs) {
    s.lab = fake::lab();
    draw();
    ASSERT_TRUE(click("lab/experiment/X08"));
    draw();
    EXPECT_TRUE(stage.is_drawn("lab/chart/Cache against length/title"));
    EXPECT_FALSE(stage.is_drawn("lab/seeds/3"));
    ASSERT_TRUE(click("lab/Run"));
    EXPECT_EQ(last<StartRuns>().experiment, "X08");
}

// Nothing is trained, so there is neither an event nor a difference; while it works it says at what, and can be ended.
TEST_F(Lab, what_is_measured_tells_what_it_does_and_stops) {
    s.lab = fake::lab_without_runs();
    draw();
    EXPECT_TRUE(stage.is_drawn("lab/group/The shipped model, measured"));
    ASSERT_TRUE(click("lab/experiment/X17"));
    draw();
    EXPECT_TRUE(ui::is_text_shown("Nothing was measured yet"));
    EXPECT_FALSE(stage.is_drawn("lab/tab/Difference"));
    EXPECT_FALSE(stage.is_drawn("lab/which events/Spikes"));
    ASSERT_TRUE(click("lab/Run"));
    EXPECT_EQ(last<StartRuns>().experiment, "X17");
    s.lab.apply(LabAtWork{{"X17", "X08"}});
    s.lab.apply(LabWorkLine{"reading: text 3 of 9"});
    draw();
    EXPECT_FALSE(stage.is_drawn("lab/Run"));
    EXPECT_FALSE(stage.is_drawn("lab/hint"));
    EXPECT_EQ(stage.text("lab/measuring/line"), "reading: text 3 of 9");
    ASSERT_TRUE(click("lab/measuring/Stop"));
    EXPECT_EQ(last<CancelWork>().experiment, "X17");
    ASSERT_TRUE(click("lab/experiment/X08"));
    draw();
    EXPECT_EQ(stage.text("lab/measuring"), "waits for X17");
    s.lab.apply(LabAtWork{});
    draw();
    EXPECT_TRUE(stage.is_drawn("lab/Run"));
    ASSERT_TRUE(click("lab/tab/README"));
}

TEST_F(Lab, a_hundred_long_runs_are_drawn) {
    s.lab = fake::huge_lab(100, 20000, 50);
    draw(2);
    EXPECT_EQ(stage.number("lab/runs"), 100);
    EXPECT_EQ(stage.number("lab/plot/plot 0/legend/hc (50 seeds)"), 1);
    draw(3);
    EXPECT_EQ(stage.number("lab/plot/plot 0/x_hi"), 19999);
}

TEST(GroupCurve, mean_band_and_strays) {
    LabSeries a{{1, 2, 3}, {1, 2, 3}, 11}, b{{1, 2}, {3, 6}, 12}, odd{{5, 10}, {7, 7}, 13};
    lab::GroupCurve c;
    c.update({&a, &b, &odd});
    EXPECT_EQ(c.strays(), (std::vector<size_t>{2}));
    EXPECT_EQ(c.n_seeds(), 2u);
    ui::Series s = c.series("x", 1, false);
    EXPECT_EQ(std::vector<double>(s.y.begin(), s.y.end()), (std::vector<double>{2, 4, 3}));
    EXPECT_EQ(std::vector<double>(s.band_lo.begin(), s.band_lo.end()), (std::vector<double>{1, 2, 3}));
    EXPECT_EQ(std::vector<double>(s.band_hi.begin(), s.band_hi.end()), (std::vector<double>{3, 6, 3}));
    const uint64_t revision = s.revision;
    a.step.push_back(4), a.value.push_back(5);
    c.update({&a, &b, &odd});
    EXPECT_EQ(c.series("x", 1, false).revision, revision) << "appended only";
    b.step.push_back(3), b.value.push_back(5);
    c.update({&a, &b, &odd});
    s = c.series("x", 1, false);
    EXPECT_NE(s.revision, revision) << "a mean inside changed";
    EXPECT_EQ(s.y[2], 4);
    a.revision = 99;
    a.value[0] = 5;
    c.update({&a, &b, &odd});
    EXPECT_EQ(c.series("x", 1, false).y[0], 4);
}

TEST(MinMaxPyramid, grown_one_by_one_keeps_its_first_values) {
    std::vector<double> y;
    ui::MinMaxPyramid p;
    for (int i = 0; i < 700; ++i) {
        y.push_back(1000 - i);
        p.append(y);
        ASSERT_EQ(p.query(y, 0, y.size()).max, 1000) << i;
        ASSERT_EQ(p.query(y, 0, y.size()).n, y.size()) << i;
    }
}

TEST(CompareSeries, equal_until_where) {
    const LabSeries a{{1, 2, 3, 4}, {1, 2, 3, 4}}, b{{2, 3, 5}, {2, 3.5, 9}};
    const lab::Comparison c = lab::compare_series(a, b);
    EXPECT_EQ(c.n_shared, 2);
    EXPECT_EQ(c.first_difference, 3);
    EXPECT_EQ(lab::compare_series(a, a).first_difference, -1);
}

}  // namespace
}  // namespace vitrine::viz::test
