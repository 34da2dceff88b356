// Runs in folders: going on repeats the same bits, kills lose no committed row, a full disk waits, bad weights replace nothing.
#include "engine/train/run.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

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
