// Runs in folders: going on repeats the same bits, kills lose no committed row, a full disk waits, bad weights replace nothing.
#include "engine/train/run.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <tuple>

#include "engine/base/disk_full.h"
#include "engine/base/log.h"
#include "engine/base/sqlite.h"
#include "engine/model/config.h"
#include "engine/telemetry/run_folder.h"
#include "tests/support/temp_folder.h"
#include "tests/train/small_model.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;
using Rows = std::map<std::pair<int64_t, std::string>, double>;

std::unique_ptr<TrainingRun> start(const std::string& folder, const TrainConfig& c, const RunOptions& options = {}) {
    const ModelConfig m = test::small_model();
    return TrainingRun::start(folder, m, fresh_weights(m, c), c, {}, {}, options);
}

std::vector<std::string> events_of(const std::string& folder) {
    std::vector<std::string> all;
    sql::Database db(folder + "/" + run_folder::kMetrics);
    sql::Statement s(db, "SELECT step, kind, text FROM events ORDER BY step, kind, text");
    while (s.step()) all.push_back(std::to_string(s.integer(0)) + " " + s.text(1) + " " + s.text(2));
    return all;
}
// All scalars but those that measure time.
Rows rows_of(const std::string& folder) {
    Rows rows;
    sql::Database db(folder + "/" + run_folder::kMetrics);
    sql::Statement s(db, "SELECT step, name, value FROM (SELECT scalars.step, names.name AS name, value FROM scalars "
                         "JOIN names ON names.id = scalars.name)");
    while (s.step())
        if (s.text(1) != run_folder::kTokensPerSecond) rows[{s.integer(0), s.text(1)}] = s.real(2);
    return rows;
}
int64_t n_events(const std::string& folder, const std::string& kind) {
    sql::Database db(folder + "/" + run_folder::kMetrics);
    sql::Statement s(db, "SELECT count(*) FROM events WHERE kind = ? AND text LIKE ?");
    s.bind(1, kind).bind(2, kind == run_folder::kAlarm ? "%not the same build%" : "%");
    s.step();
    return s.integer(0);
}

TrainConfig recipe(const char* which) {
    TrainConfig c = test::small_training();
    ConfigFields f = fields(c);
    for (std::string_view rest = which; !rest.empty();) {
        const size_t end = std::min(rest.find(' '), rest.size());
        f.set(std::string(rest.substr(0, end)));
        rest.remove_prefix(std::min(rest.size(), end + 1));
    }
    return c;
}

TEST(Run, forty_steps_are_twenty_and_twenty_bit_for_bit) {
    for (const char* which : {"optimizer=adamw eval_every=10", "optimizer=muon", "dtype=f64 steps=24",
                              "anticipatory=always anticipatory_delta=4 lr=3e-2", "schedule=cosine recompute=true",
                              "metrics=all metrics_every=4 steps=56 clip=0.7 anticipatory=random anticipatory_delta=4"}) {
        test::TempFolder folder;
        const TrainConfig c = recipe(which);
        const auto straight = start(folder.file("straight"), c);
        while (!straight->is_done()) straight->step();
        {
            const auto first = start(folder.file("cut"), c);
            for (int i = 0; i < 17; ++i) first->step();  // 7 after the last checkpoint
        }
        const auto second = TrainingRun::resume(folder.file("cut"), {.n_threads = 2});
        EXPECT_EQ(second->trainer().next_step(), 10) << which;
        while (!second->is_done()) second->step();
        EXPECT_EQ(test::bits_of(straight->trainer()), test::bits_of(second->trainer())) << which;
        const Rows a = rows_of(folder.file("straight")), b = rows_of(folder.file("cut"));
        EXPECT_GT(a.size(), 400u);
        EXPECT_EQ(a, b) << which;
        EXPECT_EQ(events_of(folder.file("straight")), events_of(folder.file("cut"))) << which;
        EXPECT_EQ(n_events(folder.file("cut"), run_folder::kAlarm), 0) << which;
    }
}

TEST(Run, live_changes_happen_again_at_their_steps) {
    test::TempFolder folder;
    const TrainConfig c = test::small_training();
    auto drive = [&](TrainingRun& run, int64_t until) {
        while (run.trainer().next_step() < until) {
            if (run.trainer().next_step() == 13) run.change("lr", 0.02);
            run.step();
        }
    };
    const auto straight = start(folder.file("straight"), c);
    drive(*straight, 40);
    {
        const auto first = start(folder.file("cut"), c);
        drive(*first, 17);
    }
    const auto second = TrainingRun::resume(folder.file("cut"), {});
    while (!second->is_done()) second->step();  // nobody changes it again
    EXPECT_EQ(second->trainer().config().lr, 0.02);
    EXPECT_EQ(rows_of(folder.file("straight")), rows_of(folder.file("cut")));
    EXPECT_EQ(n_events(folder.file("cut"), run_folder::kChange), 1);
}

// Steps to the end, with changes at the steps of a list.
using Changes = std::vector<std::tuple<int64_t, std::string, Json>>;
void finish(TrainingRun& run, const Changes& changes = {}) {
    while (!run.is_done()) {
        for (const auto& [step, key, value] : changes)
            if (step == run.trainer().next_step()) run.change(key, value);
        run.step();
    }
    run.set_state("finished");
}

TEST(Run, a_repeat_makes_the_live_changes_again) {
    const test::TempFolder folder;
    const TrainConfig c = test::small_training();
    const ModelConfig m = test::small_model();
    const auto first = start(folder.file("first"), c);
    finish(*first, {{0, "beta1", 0.8}, {13, "lr", 0.02}, {20, "metrics", "layers"}, {21, "lr", 0.01}, {30, "steps", 48}});
    EXPECT_EQ(first->trainer().next_step(), 48);
    RunDescription d;
    d.changes = recorded_changes(folder.file("first"));
    ASSERT_EQ(d.changes.size(), 5u);
    {
        const auto cut = TrainingRun::start(folder.file("again"), m, fresh_weights(m, c), c, d, {}, {});
        for (int i = 0; i < 17; ++i) cut->step();
    }
    const auto again = TrainingRun::resume(folder.file("again"), {});
    finish(*again);
    EXPECT_EQ(test::bits_of(first->trainer()), test::bits_of(again->trainer()));
    EXPECT_EQ(rows_of(folder.file("first")), rows_of(folder.file("again")));
    EXPECT_EQ(events_of(folder.file("first")), events_of(folder.file("again")));
}

TEST(Run, what_is_replayed_from_a_checkpoint_changes_as_its_parent_did) {
    const test::TempFolder folder;
    const TrainConfig c = test::small_training();
    const auto parent = start(folder.file("parent"), c);
    finish(*parent, {{13, "lr", 0.02}, {31, "clip", 0.5}, {33, "lr", 0.001}});
    const auto same = TrainingRun::rewind(folder.file("parent"), 30, folder.file("same"), {}, {}, {});
    finish(*same);
    EXPECT_EQ(test::bits_of(parent->trainer()), test::bits_of(same->trainer()));
    EXPECT_EQ(n_events(folder.file("same"), run_folder::kChange), 2);
    // A repeat of that run, from its own first checkpoint.
    RunDescription d;
    d.parent = "parent", d.parent_step = 30;
    const auto again = TrainingRun::rewind(folder.file("same"), 30, folder.file("again"), {}, d, {});
    finish(*again);
    EXPECT_EQ(test::bits_of(parent->trainer()), test::bits_of(again->trainer()));
    EXPECT_EQ(rows_of(folder.file("same")), rows_of(folder.file("again")));
    // What is asked for holds to the end, the other changes are the parent's.
    const auto other = TrainingRun::rewind(folder.file("parent"), 30, folder.file("other"), {"lr=0.005"}, {}, {});
    finish(*other);
    EXPECT_EQ(other->trainer().config().lr, 0.005);
    EXPECT_EQ(other->trainer().config().clip, 0.5);
}

TEST(Run, a_change_takes_the_place_of_those_ahead) {
    const test::TempFolder folder;
    const TrainConfig c = test::small_training();
    {
        const auto run = start(folder.file("run"), c);
        while (run->trainer().next_step() < 17) {
            if (run->trainer().next_step() == 13) run->change("lr", 0.02);
            run->step();
        }
    }
    {
        const auto run = TrainingRun::resume(folder.file("run"), {});
        run->step();
        run->change("lr", 0.004);
        for (int i = 0; i < 4; ++i) run->step();  // to step 15, without a checkpoint
        EXPECT_EQ(run->trainer().config().lr, 0.004);
    }
    const auto run = TrainingRun::resume(folder.file("run"), {});
    finish(*run);
    EXPECT_EQ(run->trainer().config().lr, 0.004) << "what was taken back does not come again";
    EXPECT_EQ(n_events(folder.file("run"), run_folder::kChange), 1);
    EXPECT_EQ(n_events(folder.file("run"), run_folder::kAlarm), 0) << "rows differ because they were asked to";
}

TEST(Run, one_that_was_killed_before_its_first_checkpoint_is_started_again) {
    const test::TempFolder folder;
    const TrainConfig c = test::small_training();
    const auto abandon = [&] {
        RunFolder::describe(folder.file("run"), {}, c, test::small_model());
        RunFolder half(folder.file("run"));
        half.commit({0, {}, {}, {{"state", "running"}}});
        fs::create_directories(checkpoint_folder(folder.file("run"), 0));
        std::ofstream(checkpoint_folder(folder.file("run"), 0) + "/model.safetensors") << "half";
    };
    abandon();
    EXPECT_THROW(TrainingRun::resume(folder.file("run"), {}), Error);
    abandon();  // and again
    start(folder.file("run"), c)->step();
    EXPECT_EQ(checkpoint_steps(folder.file("run")), (std::vector<int64_t>{0}));
    EXPECT_EQ(TrainingRun::resume(folder.file("run"), {})->trainer().next_step(), 0);
    fs::remove_all(folder.file("run") + "/checkpoints");
    EXPECT_THROW(start(folder.file("run"), c), Error) << "rows that somebody made are not thrown away";
}

// Random tokens at step 30 are a spike, which leads back to between 22 and 26.
TrainConfig with_rollback() {
    TrainConfig c = test::small_training();
    c.steps = 48, c.lr = 1e-2, c.batch = 4, c.spike_window = 10, c.rollback_steps = 4, c.checkpoint_every = 5;
    c.noise_step = 30, c.noise_batches = 1;
    c.anticipatory = AnticipatoryMode::triggered, c.anticipatory_delta = 3, c.anticipatory_steps = 8;
    return c;
}

TEST(Run, a_rollback_takes_rows_and_checkpoints_back) {
    const test::TempFolder folder;
    const auto run = start(folder.file("run"), with_rollback());
    StepReport r;
    while (r.status != StepReport::Status::rolled_back) {
        ASSERT_FALSE(run->is_done());
        r = run->step();
    }
    const int64_t to = run->trainer().next_step();
    ASSERT_EQ(r.step, 30);
    EXPECT_LT(rows_of(folder.file("run")).rbegin()->first.first, to) << "rows of a future that did not happen";
    EXPECT_EQ(checkpoint_steps(folder.file("run")).back(), to);
    sql::Database db(folder.file("run") + "/" + run_folder::kMetrics);
    sql::Statement s(db, "SELECT detail FROM events WHERE kind = 'rollback'");
    ASSERT_TRUE(s.step());
    const Json detail = Json::parse(s.text(0), "rollback");
    EXPECT_EQ(detail.at("to").as_int(), to);
    EXPECT_EQ(detail.at("scalars").at("loss").as_double(), r.loss) << "the spike itself is kept";
}

TEST(Run, a_rollback_is_cut_and_repeated_bit_for_bit) {
    const test::TempFolder folder;
    const TrainConfig c = with_rollback();
    // In the second pass over a step, and before the spike: each happens where it happened.
    const auto drive = [](TrainingRun& run, int until) {
        for (int i = 0; i < until && !run.is_done(); ++i) {
            const bool is_second = run.trainer().n_rollbacks() == 1;
            if (run.trainer().next_step() == 28) run.change("lr", is_second ? 0.004 : 0.012);
            if (run.trainer().next_step() == 45) run.change("clip", 0.7);
            run.step();
        }
    };
    const auto straight = start(folder.file("straight"), c);
    drive(*straight, 1000);
    EXPECT_EQ(straight->trainer().n_rollbacks(), 1);
    EXPECT_EQ(straight->trainer().config().lr, 0.004);
    straight->set_state("finished");
    for (const int cut_after : {12, 29, 31, 33, 36, 44}) {  // steps that were made; the rollback is the 31st
        const std::string path = folder.file("cut" + std::to_string(cut_after));
        {
            const auto first = start(path, c);
            drive(*first, cut_after);
            if (cut_after == 33) first->checkpoint();  // as a stop does
        }
        const auto second = TrainingRun::resume(path, {});
        EXPECT_EQ(second->trainer().n_rollbacks(), cut_after > 30) << cut_after;
        drive(*second, 1000);
        EXPECT_EQ(test::bits_of(straight->trainer()), test::bits_of(second->trainer())) << cut_after;
        EXPECT_EQ(rows_of(folder.file("straight")), rows_of(path)) << cut_after;
        EXPECT_EQ(n_events(path, run_folder::kAlarm), 0) << cut_after;
    }
    RunDescription d;
    d.changes = recorded_changes(folder.file("straight"));
    EXPECT_EQ(d.changes.size(), 3u);
    const ModelConfig m = test::small_model();
    const auto again = TrainingRun::start(folder.file("again"), m, fresh_weights(m, c), c, d, {}, {});
    finish(*again);
    EXPECT_EQ(test::bits_of(straight->trainer()), test::bits_of(again->trainer()));
    EXPECT_EQ(rows_of(folder.file("straight")), rows_of(folder.file("again")));
    // Left at a checkpoint after the rollback.
    const auto left = TrainingRun::rewind(folder.file("straight"), 40, folder.file("left"), {}, {}, {});
    finish(*left);
    EXPECT_EQ(test::bits_of(straight->trainer()), test::bits_of(left->trainer()));
}

// Back to the very beginning, whose checkpoint stays as it was: the spike comes again.
TEST(Run, a_rollback_to_the_beginning_is_gone_on_from) {
    const test::TempFolder folder;
    TrainConfig c = with_rollback();
    c.rollback_steps = 20, c.noise_step = 12, c.steps = 24, c.anticipatory_steps = 6;
    const auto straight = start(folder.file("straight"), c);
    finish(*straight);
    ASSERT_EQ(straight->trainer().n_rollbacks(), 1);
    {
        const auto first = start(folder.file("cut"), c);
        for (int i = 0; i < 16; ++i) first->step();  // three after the rollback
    }
    EXPECT_EQ(checkpoint_steps(folder.file("cut")), (std::vector<int64_t>{0}));
    const auto second = TrainingRun::resume(folder.file("cut"), {});
    finish(*second);
    EXPECT_EQ(test::bits_of(straight->trainer()), test::bits_of(second->trainer()));
    EXPECT_EQ(rows_of(folder.file("straight")), rows_of(folder.file("cut")));
    EXPECT_EQ(n_events(folder.file("cut"), run_folder::kAlarm), 0);
}

TEST(Run, a_different_row_is_an_alarm) {
    test::TempFolder folder;
    {
        const auto run = start(folder.file("run"), test::small_training());
        for (int i = 0; i < 3; ++i) run->step();
        sql::Database db(folder.file("run") + "/" + run_folder::kMetrics);
        db.run("UPDATE scalars SET value = value + 1 WHERE step = 1 AND name = (SELECT id FROM names WHERE name = 'loss')");
    }
    set_log_sink([](LogLevel, const std::string&) {});
    const auto again = TrainingRun::resume(folder.file("run"), {});
    for (int i = 0; i < 3; ++i) again->step();
    set_log_sink(nullptr);
    EXPECT_EQ(n_events(folder.file("run"), run_folder::kAlarm), 1);
}

// A process of its own that is killed without warning, again and again, until the run is done.
TEST(Run, kill_9_loses_no_committed_row) {
    test::TempFolder folder;
    const std::string path = folder.file("run");
    TrainConfig c = test::small_training();
    c.checkpoint_every = 5;
    { start(path, c); }
    Rows before;
    int n_kills = 0;
    for (int round = 0; round < 60; ++round) {
        const pid_t child = fork();
        if (child == 0) {
            set_log_sink([](LogLevel, const std::string&) {});
            try {
                const auto run = TrainingRun::resume(path, {});
                while (!run->is_done()) run->step();
                run->set_state("finished");
            } catch (...) {
                _exit(1);
            }
            _exit(0);
        }
        usleep(static_cast<useconds_t>(30000 + 37000 * (round % 9)));
        kill(child, SIGKILL);
        int status = 0;
        waitpid(child, &status, 0);
        const Rows now = rows_of(path);
        for (const auto& [key, value] : before) {
            const auto at = now.find(key);
            ASSERT_TRUE(at != now.end()) << "step " << key.first << " " << key.second << " was lost";
            ASSERT_EQ(at->second, value);
        }
        before = now;
        if (WIFEXITED(status)) {
            ASSERT_EQ(WEXITSTATUS(status), 0);
            break;
        }
        ++n_kills;
    }
    const auto rest = TrainingRun::resume(path, {});  // if the machine was too slow for the child to finish
    while (!rest->is_done()) rest->step();
    const auto straight = start(folder.file("straight"), c);
    while (!straight->is_done()) straight->step();
    EXPECT_EQ(rows_of(folder.file("straight")), rows_of(path));
    EXPECT_EQ(n_events(path, run_folder::kAlarm), 0);
    EXPECT_GT(n_kills, 0);
}

TEST(Run, a_full_disk_waits_and_goes_on) {
    test::TempFolder folder;
    const TrainConfig c = test::small_training();
    int n_full = 0, n_asked = 0;
    RunOptions options;
    options.before_write = [&] {
        if (n_full > 0) --n_full, throw DiskFull("no room");
    };
    options.on_disk_full = [&](const std::string& message) {
        EXPECT_NE(message.find("no room"), std::string::npos);
        return ++n_asked < 100;
    };
    set_log_sink([](LogLevel, const std::string&) {});
    const auto run = start(folder.file("full"), c, options);
    while (!run->is_done()) {
        if (run->trainer().next_step() == 9) n_full = 5;  // rows of step 9, then its checkpoint
        if (run->trainer().next_step() == 21) n_full = 1;
        run->step();
    }
    EXPECT_EQ(n_asked, 6);
    const auto straight = start(folder.file("straight"), c);
    while (!straight->is_done()) straight->step();
    EXPECT_EQ(rows_of(folder.file("straight")), rows_of(folder.file("full")));
    n_full = 1000, n_asked = 99;
    EXPECT_THROW(run->set_state("finished"), DiskFull) << "nobody waits any more";
    set_log_sink(nullptr);
    n_full = 0;
    run->set_state("finished");
    int n_waits = 0;
    for (const std::string& e : events_of(folder.file("full")))
        n_waits += e.find("control the disk was full: waited") != std::string::npos;
    EXPECT_EQ(n_waits, 2);
}

// Asked to stop while it waits: stopped, and nothing of the step that did not fit counts.
TEST(Run, a_full_disk_is_left_in_order) {
    test::TempFolder folder;
    const TrainConfig c = test::small_training();
    bool is_full = false, gives_up = false, told = false;
    RunOptions options;
    const std::string path = folder.file("run");
    options.before_write = [&] {
        if (is_full) throw DiskFull("no room");
    };
    options.on_disk_full = [&](const std::string&) {
        const int lock = open((path + "/" + run_folder::kLock).c_str(), O_RDONLY);
        struct flock first_byte {};
        first_byte.l_type = F_RDLCK, first_byte.l_whence = SEEK_SET, first_byte.l_len = 1;
        told = fcntl(lock, F_OFD_GETLK, &first_byte) == 0 && first_byte.l_type == F_WRLCK;
        close(lock);
        if (gives_up) is_full = false;  // somebody else's file went in between: the state fits
        return false;
    };
    set_log_sink([](LogLevel, const std::string&) {});
    for (const bool fits : {true, false}) {
        gives_up = fits, is_full = false;
        fs::remove_all(path);
        {
            const auto run = start(path, c, options);
            for (int i = 0; i < 12; ++i) run->step();
            is_full = true;
            EXPECT_THROW(run->step(), DiskFull);
            EXPECT_TRUE(told) << "the waiting is seen from outside";
            run->stop_without_room("no room");
        }
        is_full = false;
        sql::Database db(path + "/" + run_folder::kMetrics);
        sql::Statement s(db, "SELECT value FROM state WHERE key = 'state'");
        ASSERT_TRUE(s.step());
        EXPECT_EQ(s.text(0), fits ? "stopped" : "running");
        EXPECT_EQ(rows_of(path).rbegin()->first.first, 11);
        const auto rest = TrainingRun::resume(path, {});
        finish(*rest);
        const auto straight = start(folder.file(fits ? "straight" : "straight2"), c);
        finish(*straight);
        EXPECT_EQ(test::bits_of(straight->trainer()), test::bits_of(rest->trainer()));
        EXPECT_EQ(rows_of(folder.file(fits ? "straight" : "straight2")), rows_of(path));
    }
    set_log_sink(nullptr);
}

TEST(Run, one_process_writes_a_folder_and_a_run_is_not_overwritten) {
    test::TempFolder folder;
    const auto run = start(folder.file("run"), test::small_training());
    EXPECT_THROW(TrainingRun::resume(folder.file("run"), {}), Error);
    EXPECT_THROW(start(folder.file("run"), test::small_training()), Error);
    EXPECT_THROW(TrainingRun::resume(folder.file("nothing"), {}), Error);
}

TEST(Run, bad_weights_never_replace_a_good_checkpoint) {
    test::TempFolder folder;
    const auto run = start(folder.file("run"), test::small_training());
    for (int i = 0; i < 12; ++i) run->step();
    run->trainer().masters().leaves()[5].param->master.f32()[0] = NAN;
    EXPECT_THROW(run->checkpoint(), Error);
    const StepReport r = run->step();
    EXPECT_EQ(r.status, StepReport::Status::stopped);
    EXPECT_EQ(n_events(folder.file("run"), run_folder::kSkipped), 1);
    EXPECT_EQ(checkpoint_steps(folder.file("run")), (std::vector<int64_t>{0, 10}));
    EXPECT_EQ(read_checkpoint(checkpoint_folder(folder.file("run"), 10), 1).trainer->first_bad_weight(), "");
}

TEST(Run, checkpoints_are_models_and_old_ones_go) {
    test::TempFolder folder;
    TrainConfig c = test::small_training();
    c.checkpoint_every = 5, c.keep_checkpoints = 2;
    const auto run = start(folder.file("run"), c);
    while (!run->is_done()) run->step();
    EXPECT_EQ(checkpoint_steps(folder.file("run")), (std::vector<int64_t>{0, 35, 40}));
    const std::string last = checkpoint_folder(folder.file("run"), 40);
    const ModelConfig m = read_config(last).config;
    const ModelWeights w = load_weights(last, m);
    EXPECT_TRUE(w.warnings.empty()) << w.warnings[0];
    EXPECT_EQ(w.mtp.size(), 1u);
    EXPECT_EQ(w.embed.value(17), run->trainer().weights().embed.value(17));
    fs::remove(last + "/" + run_folder::kManifest);
    EXPECT_EQ(checkpoint_steps(folder.file("run")).back(), 35) << "without its manifest it does not count";
    std::ofstream(checkpoint_folder(folder.file("run"), 35) + "/state.safetensors", std::ios::app) << "x";
    EXPECT_THROW(read_checkpoint(checkpoint_folder(folder.file("run"), 35), 1), Error) << "a file of another size";
}

TEST(Run, data_that_changed_since_are_refused) {
    const test::TempFolder folder;
    const auto write = [&](const char* ids) { std::ofstream(folder.file("ids.json")) << ids; };
    write("[1, 2, 3, 4, 5, 6, 7, 8]");
    TrainConfig c = test::small_training();
    c.data = "tokens", c.tokens = folder.file("ids.json"), c.steps = 20;
    auto run = start(folder.file("run"), c);
    while (run->trainer().next_step() < 10) run->step();
    run->checkpoint();
    run.reset();
    EXPECT_NO_THROW(TrainingRun::resume(folder.file("run"), {}));
    write("[1, 2, 3, 4, 5, 6, 7, 9]");
    try {
        TrainingRun::resume(folder.file("run"), {});
        FAIL() << "expected an error";
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("not the one that this run was trained with"), std::string::npos) << e.what();
    }
    write("[1, 2, 3, 4, 5, 6, 7, 8]");
    std::ofstream(folder.file("other.json")) << "[8, 7, 6, 5]";  // asked for by name: a change like any other
    EXPECT_NO_THROW(TrainingRun::rewind(folder.file("run"), 10, folder.file("other"),
                                        {"tokens=" + folder.file("other.json")}, {}, {}));
}

TEST(Run, a_rewound_run_leaves_its_parent_at_a_checkpoint) {
    test::TempFolder folder;
    const TrainConfig c = test::small_training();
    const auto parent = start(folder.file("parent"), c);
    while (!parent->is_done()) parent->step();
    const auto same = TrainingRun::rewind(folder.file("parent"), 30, folder.file("same"), {}, {}, {});
    while (!same->is_done()) same->step();
    EXPECT_EQ(test::bits_of(parent->trainer()), test::bits_of(same->trainer()));
    const auto other = TrainingRun::rewind(folder.file("parent"), 30, folder.file("other"), {"lr=0.1", "clip=0"}, {}, {});
    EXPECT_EQ(other->trainer().next_step(), 30);
    while (!other->is_done()) other->step();
    EXPECT_NE(test::bits_of(parent->trainer()), test::bits_of(other->trainer()));
    EXPECT_THROW(TrainingRun::rewind(folder.file("parent"), 31, folder.file("no"), {}, {}, {}), Error);
}

}  // namespace
}  // namespace vitrine
