// The run manager against processes that behave like the trainer: queue, control, crash and resume, rewind, verdicts,
// export.
#include "app/lab/run_manager.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <thread>

#include "engine/base/error.h"
#include "engine/base/reader.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {

LabCatalogue catalogue() {
    LabCatalogue c;
    LabInfo x;
    x.name = "X01";
    x.plots = {{"gain", "step", "gain", {"gain", "loss"}, false, true}};
    LabInfo analytic;
    analytic.name = "X02";
    c.infos = {x, analytic};
    c.arms = [](const std::string& e, const LabKnobs&) {
        return e == "X01" ? std::vector<std::string>{"hc", "mhc"} : std::vector<std::string>{};
    };
    c.analyse = [](const std::string&, const LabKnobs& knobs, const LabCatalogue::Tell& tell, std::stop_token stop) {
        LabVerdict v;
        tell("the first of two");
        while (knobs.contains("long") && !stop.stop_requested())
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        if (knobs.contains("long")) throw Error(ErrorKind::cancelled, "cancelled");
        v.sentence = "calculated";
        return v;
    };
    c.judge = [](const std::string&, const std::vector<LabRun>& runs) {
        LabVerdict v;
        for (const LabRun& r : runs) {
            const LabSeries& gain = r.scalars.at("gain");
            v.sentence += r.arm + std::to_string(r.seed) + ":" + std::to_string(gain.value.size()) +
                          (r.state == RunState::failed ? " failed at " + std::to_string(r.step) : "") +
                          (r.changed.empty() ? "" : " changed") + " ";
        }
        return v;
    };
    return c;
}

class Manager : public ::testing::Test {
  protected:
    void SetUp() override { open(); }
    void open(int n_at_once = 2) {
        m_.reset();
        snapshot_ = {};
        m_ = std::make_unique<RunManager>(RunManagerOptions{folder_.path() + "/runs", FAKE_TRAINER, {}, n_at_once, 5.0},
                                          catalogue(), [] {});
    }
    void take() {
        for (LabUpdate& u : m_->take()) {
            if (const auto* p = std::get_if<LabProblem>(&u); p && p->is_error) problems_ += p->text + "\n";
            snapshot_.apply(std::move(u));
        }
    }
    // Takes what comes until `is_so`; false after 20 s.
    template <class F>
    bool until(F is_so) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (std::chrono::steady_clock::now() < end) {
            take();
            if (is_so()) return true;
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        return false;
    }
    bool until_state(size_t i, RunState s) {
        return until([&] { return snapshot_.runs.size() > i && snapshot_.runs[i].state == s; });
    }
    void start(LabKnobs knobs, int n_seeds = 1) { m_->send(StartRuns{"X01", std::move(knobs), n_seeds, 1}); }
    void control(size_t i, ControlRun::Do what) { m_->send(ControlRun{snapshot_.runs[i].id, what}); }
    void watch() {
        std::vector<std::string> ids;
        for (const LabRun& r : snapshot_.runs) ids.push_back(r.id);
        m_->send(WatchScalars{ids, {"loss", "gain"}});
    }
    const LabSeries& loss(size_t i) { return snapshot_.runs[i].scalars["loss"]; }

    test::TempFolder folder_;
    std::unique_ptr<RunManager> m_;
    LabSnapshot snapshot_;
    std::string problems_;
};

TEST_F(Manager, runs_each_arm_and_seed_and_judges_them) {
    start({{"steps", "12"}}, 2);
    ASSERT_TRUE(until([&] {
        return snapshot_.runs.size() == 4 && snapshot_.verdicts["X01"].sentence == "hc1:12 mhc1:12 hc2:12 mhc2:12 ";
    })) << snapshot_.verdicts["X01"].sentence
        << problems_;
    for (const LabRun& r : snapshot_.runs) {
        EXPECT_EQ(r.state, RunState::finished) << r.error << r.last_log_line;
        EXPECT_EQ(r.step, 12);
        EXPECT_EQ(r.n_steps, 12);
        EXPECT_EQ(r.tokens_per_s, 1000);
        EXPECT_EQ(r.checkpoints, (std::vector<int64_t>{0, 10}));
        EXPECT_EQ(r.knobs.at("steps"), "12");
        EXPECT_FALSE(r.is_resumable);
        EXPECT_TRUE(r.scalars.empty()) << "nothing is watched";
        ASSERT_EQ(r.events.size(), 2u);
        EXPECT_EQ(r.events[0].kind, "spike");
        EXPECT_NE(r.events[0].detail.find("\"grad_norm\""), std::string::npos);
    }
    watch();
    ASSERT_TRUE(until([&] { return loss(3).value.size() == 12; }));
    EXPECT_DOUBLE_EQ(loss(3).value[1], std::exp(-0.01 * 2) + 0.002);
    m_->send(WatchScalars{{}, {}});
    ASSERT_TRUE(until([&] { return loss(3).value.empty(); }));
    // All of it is found again.
    open();
    ASSERT_TRUE(until([&] { return snapshot_.runs.size() == 4 && !snapshot_.verdicts["X01"].sentence.empty(); }));
    EXPECT_EQ(snapshot_.runs[3].arm, "mhc");
    EXPECT_EQ(snapshot_.runs[3].seed, 2);
    EXPECT_EQ(snapshot_.runs[3].events.size(), 2u);
    EXPECT_EQ(problems_, "");
}

TEST_F(Manager, at_most_n_at_once_and_the_rest_waits) {
    open(1);
    start({{"steps", "100000"}});
    ASSERT_TRUE(until_state(0, RunState::running));
    ASSERT_TRUE(until_state(1, RunState::waiting));
    control(0, ControlRun::Do::stop);
    ASSERT_TRUE(until_state(0, RunState::stopped));
    EXPECT_TRUE(until_state(1, RunState::running));
    control(1, ControlRun::Do::stop);
    ASSERT_TRUE(until_state(1, RunState::stopped));
    EXPECT_TRUE(snapshot_.runs[1].is_resumable);
}

TEST_F(Manager, runs_that_wait_survive_the_window_and_are_held) {
    open(1);
    start({{"steps", "100000"}}, 2);
    ASSERT_TRUE(until_state(0, RunState::running) && until_state(3, RunState::waiting));
    EXPECT_FALSE(snapshot_.runs[3].is_resumable) << "it has its turn without being asked";
    open(1);
    ASSERT_TRUE(until_state(0, RunState::stopped) && until_state(3, RunState::waiting));
    EXPECT_TRUE(snapshot_.runs[3].is_resumable);
    EXPECT_EQ(snapshot_.runs[3].knobs.at("steps"), "100000");
    control(1, ControlRun::Do::stop);  // called off
    ASSERT_TRUE(until_state(1, RunState::stopped));
    control(3, ControlRun::Do::resume);
    ASSERT_TRUE(until_state(3, RunState::running));
    EXPECT_EQ(snapshot_.runs[2].state, RunState::waiting) << "nobody asked for it in this window";
    control(3, ControlRun::Do::stop);
    ASSERT_TRUE(until_state(3, RunState::stopped));
    EXPECT_EQ(problems_, "");
}

TEST_F(Manager, a_folder_that_can_not_be_shown_is_told) {
    m_.reset();
    m_ = std::make_unique<RunManager>(RunManagerOptions{folder_.path() + "/runs", FAKE_TRAINER, {}, 1, 5.0, "/nowhere/opener"},
                                      catalogue(), [] {});
    m_->send(ShowFolder{});
    ASSERT_TRUE(until([&] { return problems_.find("/nowhere/opener") != std::string::npos; })) << problems_;
}

TEST_F(Manager, pause_step_set_and_resume_act_in_the_middle) {
    start({{"steps", "100000"}, {"ms", "2"}});
    ASSERT_TRUE(until([&] { return snapshot_.runs.size() == 2 && snapshot_.runs[0].step > 3; }));
    watch();
    control(0, ControlRun::Do::pause);
    ASSERT_TRUE(until_state(0, RunState::paused));
    const int64_t at = snapshot_.runs[0].step;
    control(0, ControlRun::Do::step);
    ASSERT_TRUE(until([&] { return snapshot_.runs[0].step == at + 1; }));
    m_->send(SetLive{snapshot_.runs[0].id, "lr", "0.5"});
    control(0, ControlRun::Do::step);
    ASSERT_TRUE(until([&] { return loss(0).step.size() == static_cast<size_t>(at + 2); }));
    EXPECT_DOUBLE_EQ(loss(0).value.back(), std::exp(-0.5 * static_cast<double>(at + 2)) + 0.001);
    const auto is_change = [](const LabEvent& e) { return e.kind == "change"; };
    EXPECT_TRUE(until([&] {
        const auto& events = snapshot_.runs[0].events;
        return std::any_of(events.begin(), events.end(), is_change);
    }));
    control(0, ControlRun::Do::resume);
    ASSERT_TRUE(until([&] { return snapshot_.runs[0].step > at + 5; }));
    m_->send(SetLive{snapshot_.runs[0].id, "lr", "500"});
    ASSERT_TRUE(until([&] { return problems_.find("number in [0, 100]") != std::string::npos; })) << problems_;
    // Closing the window asks runs to stop; they can be resumed later.
    m_.reset();
    open();
    ASSERT_TRUE(until_state(0, RunState::stopped));
    EXPECT_TRUE(snapshot_.runs[0].is_resumable);
}

TEST_F(Manager, a_killed_run_says_its_last_words_and_goes_on_from_its_checkpoint) {
    start({{"steps", "40"}, {"crash_at", "17"}});
    ASSERT_TRUE(until_state(0, RunState::failed) && until_state(1, RunState::failed));
    const LabRun& r = snapshot_.runs[0];
    EXPECT_NE(r.error.find("killed by signal 9"), std::string::npos) << r.error;
    EXPECT_NE(r.error.find("step 17"), std::string::npos) << r.error;
    EXPECT_EQ(r.last_log_line, "the last words before step 18");
    EXPECT_EQ(r.step, 17);
    EXPECT_TRUE(r.is_resumable);
    watch();
    ASSERT_TRUE(until([&] { return loss(0).step.size() == 17; }));
    control(0, ControlRun::Do::resume);
    ASSERT_TRUE(until_state(0, RunState::finished)) << snapshot_.runs[0].error;
    ASSERT_TRUE(until([&] { return loss(0).step.size() == 40; }));
    for (size_t i = 0; i < 40; ++i) EXPECT_EQ(loss(0).step[i], static_cast<double>(i + 1));
    EXPECT_EQ(snapshot_.runs[0].error, "");
}

TEST_F(Manager, a_run_that_fails_tells_its_own_reason) {
    start({{"fail_at", "3"}});
    ASSERT_TRUE(until_state(0, RunState::failed));
    EXPECT_TRUE(until([&] { return snapshot_.runs[0].error.find("loss is NaN") != std::string::npos; }));
}

TEST_F(Manager, failed_and_changed_runs_are_told_to_the_judgement) {
    open(1);
    start({{"fail_at", "3"}});
    ASSERT_TRUE(until([&] { return snapshot_.verdicts["X01"].sentence == "hc1:3 failed at 3 mhc1:3 failed at 3 "; }))
        << snapshot_.verdicts["X01"].sentence;
    start({{"steps", "40"}, {"ms", "5"}});
    ASSERT_TRUE(until([&] { return snapshot_.runs.size() == 4 && snapshot_.runs[2].step > 1; }));
    m_->send(SetLive{snapshot_.runs[2].id, "lr", "0.5"});
    ASSERT_TRUE(until([&] { return snapshot_.verdicts["X01"].sentence == "hc1:40 changed mhc1:40 "; }))
        << snapshot_.verdicts["X01"].sentence << problems_;
    EXPECT_NE(snapshot_.runs[2].changed.find("lr -> 0.5"), std::string::npos) << snapshot_.runs[2].changed;
    EXPECT_EQ(snapshot_.runs[3].changed, "");
}

// Runs that belong to no experiment, or to one that is not known here, are listed together.
TEST_F(Manager, runs_without_an_experiment_are_listed) {
    start({{"steps", "5"}});
    ASSERT_TRUE(until_state(0, RunState::finished));
    const std::string from = snapshot_.runs[0].folder;
    for (const auto& [name, experiment] : {std::pair{"plain", ""}, std::pair{"foreign", "X99"}}) {
        const std::string to = folder_.path() + "/runs/" + name;
        std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
        std::filesystem::remove(to + "/request.json");
        std::string text = read_file(to + "/run.json", 1 << 20);
        const std::string was = "\"experiment\": \"X01\"";
        text.replace(text.find(was), was.size(), std::string("\"experiment\": \"") + experiment + "\"");
        write_file_atomic(to + "/run.json", text);
    }
    ASSERT_TRUE(until([&] { return snapshot_.find("plain") && snapshot_.find("foreign"); }));
    const LabInfo* where = nullptr;
    for (const LabInfo& i : snapshot_.experiments)
        if (i.is_collection) where = &i;
    ASSERT_NE(where, nullptr);
    EXPECT_EQ(snapshot_.find("plain")->experiment, where->name);
    EXPECT_EQ(snapshot_.find("foreign")->experiment, where->name);
    EXPECT_EQ(snapshot_.find("foreign")->arm, "X99 hc");
    m_->send(WatchScalars{{"plain"}, where->plots[0].metrics});
    ASSERT_TRUE(until([&] { return snapshot_.find("plain")->scalars["loss"].value.size() == 5; }));
    m_->send(StartRuns{where->name, {}, 1, 1});
    ASSERT_TRUE(until([&] { return problems_.find("there is no experiment") != std::string::npos; })) << problems_;
}

TEST_F(Manager, rewinding_starts_a_new_run_from_a_checkpoint) {
    start({{"steps", "20"}});
    ASSERT_TRUE(until_state(0, RunState::finished) && until_state(1, RunState::finished));
    const std::string id = snapshot_.runs[0].id;
    m_->send(RewindRun{id, 10, {{"lr", "0.5"}}});
    ASSERT_TRUE(until_state(2, RunState::finished)) << problems_;
    EXPECT_EQ(snapshot_.runs[2].parent, id);
    EXPECT_EQ(snapshot_.runs[2].parent_step, 10);
    EXPECT_EQ(snapshot_.runs[2].knobs.at("lr"), "0.5");
    watch();
    ASSERT_TRUE(until([&] { return loss(2).step.size() == 10; }));
    EXPECT_EQ(loss(2).step[0], 11);
    EXPECT_DOUBLE_EQ(loss(2).value[0], std::exp(-0.5 * 11) + 0.001);
    m_->send(RewindRun{id, 11, {}});
    ASSERT_TRUE(until([&] { return problems_.find("no checkpoint of step 11") != std::string::npos; }));
    m_->send(ForgetRun{id});
    ASSERT_TRUE(until([&] { return snapshot_.runs.size() == 2; }));
    EXPECT_FALSE(std::filesystem::exists(folder_.path() + "/runs/" + id));
}

TEST_F(Manager, what_needs_no_run_is_calculated_and_wrong_words_are_told) {
    m_->send(StartRuns{"X02", {}, 1, 1});
    ASSERT_TRUE(until([&] { return snapshot_.verdicts["X02"].sentence == "calculated"; }));
    m_->send(StartRuns{"X03", {}, 1, 1});
    ASSERT_TRUE(until([&] { return problems_.find("no experiment X03") != std::string::npos; })) << problems_;
    m_->send(ControlRun{"../x", ControlRun::Do::stop});
    ASSERT_TRUE(until([&] { return problems_.find("no run ../x") != std::string::npos; })) << problems_;
    EXPECT_TRUE(snapshot_.runs.empty());
}

TEST_F(Manager, a_long_calculation_holds_nothing_up_and_ends_with_the_window) {
    m_->send(StartRuns{"X02", {{"long", ""}}, 1, 1});
    m_->send(StartRuns{"X02", {}, 1, 1});
    start({{"steps", "5"}});
    ASSERT_TRUE(until_state(0, RunState::finished));
    EXPECT_TRUE(m_->is_busy());
    EXPECT_EQ(snapshot_.verdicts["X02"].sentence, "") << "one at a time";
    m_.reset();  // asks it to stop; it would never end by itself
}

TEST_F(Manager, a_calculation_says_what_it_does_and_can_be_called_off) {
    m_->send(StartRuns{"X02", {{"long", ""}}, 1, 1});
    m_->send(StartRuns{"X02", {{"long", ""}}, 1, 1});
    ASSERT_TRUE(until([&] { return snapshot_.at_work.size() == 2 && snapshot_.work_line == "the first of two"; }));
    m_->send(CancelWork{"X02"});
    ASSERT_TRUE(until([&] { return snapshot_.at_work.empty() && !m_->is_busy(); }));
    EXPECT_EQ(snapshot_.work_line, "");
    EXPECT_EQ(snapshot_.verdicts["X02"].sentence, "");
    EXPECT_EQ(problems_, "") << "asked for is no problem";
    m_->send(StartRuns{"X02", {}, 1, 1});
    ASSERT_TRUE(until([&] { return snapshot_.verdicts["X02"].sentence == "calculated"; }));
}

TEST_F(Manager, exports_events_for_tensorboard) {
    start({{"steps", "5"}});
    ASSERT_TRUE(until_state(0, RunState::finished));
    m_->send(ExportEvents{{snapshot_.runs[0].id}, folder_.path() + "/tb"});
    // 5 steps of 3 scalars, and the first record.
    EXPECT_TRUE(until([&] {
        std::error_code none;
        for (const auto& e : std::filesystem::directory_iterator(folder_.path() + "/tb/" + snapshot_.runs[0].id, none))
            if (e.file_size() > 15 * 40) return true;
        return false;
    })) << problems_;
}

TEST_F(Manager, a_damaged_folder_is_a_failed_run) {
    const std::string broken = folder_.path() + "/runs/broken";
    std::filesystem::create_directories(broken);
    std::FILE* f = std::fopen((broken + "/run.json").c_str(), "w");
    std::fputs("{\"version\": 1, ", f);
    std::fclose(f);
    ASSERT_TRUE(until_state(0, RunState::failed));
    EXPECT_NE(snapshot_.runs[0].error.find("run.json"), std::string::npos) << snapshot_.runs[0].error;
}

}  // namespace
}  // namespace vitrine
