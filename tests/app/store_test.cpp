// Conversations survive kill -9, damage, newer versions and folders that can't be written.
#include "app/store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "app/archive.h"
#include "engine/base/sqlite.h"
#include "engine/base/reader.h"
#include "engine/base/rng.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {
namespace fs = std::filesystem;

std::shared_ptr<const TokenRecord> record_of(int token) {
    RecordBuilder b;
    b.begin(1);
    const std::vector<float> scores = {0.5f, static_cast<float>(token), -1.25f};
    const std::vector<int32_t> chosen = {token, 2};
    b.put(0, kRouterScores, 3, scores.data(), 1, 3);
    b.put(0, kRouterIndices, 3, chosen.data(), 1, 2);
    return b.finish(0);
}

// One exchange: a user's turn and an answer of n tokens on one branch.
SaveJob exchange(int64_t conversation, int64_t first_turn, uint64_t branch, int n, const std::string& text) {
    SaveJob job;
    job.conversation = conversation;
    job.title = "a title";
    job.model = "/models/x";
    job.branches.push_back({branch, 0, 0});
    StoredTurn user, answer;
    user.node.turn.id = first_turn;
    user.node.turn.parent = first_turn - 1;
    user.node.turn.role = "user";
    user.node.turn.content = text;
    answer.node.turn.id = first_turn + 1;
    answer.node.turn.parent = first_turn;
    answer.node.turn.role = "assistant";
    answer.node.turn.mode = Mode::high;
    answer.node.turn.sampling.seed = ~uint64_t{0};
    answer.node.turn.sampling.stop = {"\n\n", "终"};
    answer.node.turn.stats.stop_reason = "length";
    answer.node.turn.stats.tokens_per_s = 123.5;
    answer.node.context = {
        branch, 1, n, 0, "prompt", "a new conversation", {{"BOS", 0, 1, 0}, {"user", 1, n, first_turn}}};
    job.turns = {user, answer};
    for (int p = 0; p < n; ++p) {
        TokenInfo t;
        t.id = 100 + p;
        t.phase = p ? Phase::answer : Phase::prompt;
        t.ref = {branch, p};
        t.probability = 0.25f;
        t.text = p == 1 ? std::string("a\0b", 3) : "\\xE4";
        job.tokens.push_back({branch, t, record_of(p)});
    }
    return job;
}

TEST(Store, RoundTripKeepsEverything) {
    const test::TempFolder folder;
    const std::string path = folder.file("c.sqlite");
    {
        Store s(path);
        EXPECT_EQ(s.save({exchange(7, 1, 11, 4, "héllo 100%")}), 0);
    }
    Store s(path);
    const LoadedConversation c = s.load(7);
    EXPECT_EQ(c.model, "/models/x");
    EXPECT_TRUE(c.tree.is_recorded);
    ASSERT_EQ(c.tree.path(), (std::vector<int64_t>{1, 2}));
    const auto& answer = c.tree.at(2);
    EXPECT_EQ(answer.turn.mode, Mode::high);
    EXPECT_EQ(answer.turn.sampling.seed, ~uint64_t{0});
    EXPECT_EQ(answer.turn.sampling.stop, (std::vector<std::string>{"\n\n", "终"}));
    EXPECT_EQ(answer.turn.stats.tokens_per_s, 123.5);
    const Timeline t = c.tree.timeline(2);
    ASSERT_EQ(t.tokens.size(), 4u);
    EXPECT_EQ(t.tokens[1].text, std::string("a\0b", 3));
    EXPECT_EQ(t.tokens[3].ref, (TokenRef{11, 3}));
    EXPECT_EQ(t.segments[1].turn, 1);
    ASSERT_EQ(c.records.size(), 4u);
    EXPECT_EQ(c.records[2].record->floats(kRouterScores, 3)[1], 2.0f);
    EXPECT_EQ(c.records[2].record->ints(kRouterIndices, 3)[0], 2);
    EXPECT_THROW(s.load(8), Error);
}

TEST(Store, ListsSearchesRenamesDeletes) {
    const test::TempFolder folder;
    Store s(folder.file("c.sqlite"));
    s.save({exchange(1, 1, 11, 2, "about Whales"), exchange(2, 1, 12, 2, "100% of_it"),
            exchange(3, 1, 13, 2, "1000 of it")});
    EXPECT_EQ(s.list("").size(), 3u);
    ASSERT_EQ(s.list("whale").size(), 1u);
    EXPECT_EQ(s.list("whale")[0].id, 1);
    EXPECT_EQ(s.list("whale")[0].n_turns, 2);
    // % and _ are text, not patterns.
    ASSERT_EQ(s.list("100%").size(), 1u);
    ASSERT_EQ(s.list("of_it").size(), 1u);
    s.rename(1, "Sea");
    EXPECT_EQ(s.list("sea")[0].title, "Sea");
    s.remove(1);
    EXPECT_TRUE(s.list("whale").empty());
    EXPECT_THROW(s.load(1), Error);
}

TEST(Store, NewerVersionIsRefusedWithBothNumbersAndLeftAlone) {
    const test::TempFolder folder;
    const std::string path = folder.file("c.sqlite");
    { Store s(path); }
    {
        sql::Database db(path);
        db.run("PRAGMA user_version=9");
    }
    try {
        Store s(path);
        FAIL() << "opened a newer format";
    } catch (const DamagedStore&) {
        FAIL() << "a newer format is not damage";
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("version 9 found, up to 1 supported"), std::string::npos) << e.what();
    }
    EXPECT_TRUE(fs::exists(path));
}

struct Reports {
    std::mutex mutex;
    std::vector<Notice> notices;
    std::function<void(Update)> sink() {
        return [this](Update u) {
            const std::lock_guard lock(mutex);
            if (auto* n = std::get_if<Notice>(&u)) notices.push_back(*n);
        };
    }
    std::string all() {
        const std::lock_guard lock(mutex);
        std::string s;
        for (const Notice& n : notices) s += n.text + "\n";
        return s;
    }
};

TEST(Archive, SomebodyElsesFileIsKeptAside) {
    const test::TempFolder folder;
    const std::string path = folder.file("c.sqlite");
    std::ofstream(path)
        << "this is no database at all, but a note that is longer than a header of SQLite would be ......";
    Reports reports;
    {
        Archive a(path, reports.sink());
        a.save(exchange(7, 1, 11, 2, "hi"));
    }
    EXPECT_TRUE(fs::exists(path + ".bad"));
    EXPECT_NE(reports.all().find(path + ".bad"), std::string::npos) << reports.all();
    EXPECT_EQ(Store(path).list("").size(), 1u);
}

TEST(Archive, FolderThatCannotBeWrittenIsToldAndTheProgramRunsOn) {
    const test::TempFolder folder;
    // A file where the folder should be fails for every user, root too (a 0555 folder does not stop root).
    std::ofstream(folder.file("taken")) << "x";
    Reports reports;
    Archive a(folder.file("taken") + "/vitrine/c.sqlite", reports.sink());
    a.save(exchange(7, 1, 11, 2, "hi"));
    a.flush();
    EXPECT_NE(reports.all().find("Conversations are not saved"), std::string::npos) << reports.all();
    EXPECT_THROW(a.load(7), Error);
}

TEST(Archive, MutatedFilesNeverCrash) {
    const test::TempFolder folder;
    const std::string good = folder.file("good.sqlite");
    {
        Store s(good);
        s.save({exchange(7, 1, 11, 3, "hello")});
    }
    const std::string bytes = read_file(good, 1 << 20);
    const CounterRng rng(1, fnv1a64("store mutants"));
    int n_opened = 0, n_kept_aside = 0, n_refused = 0;
    const std::string path = folder.file("m.sqlite");
    for (int i = 0; i < 300; ++i) {
        std::string m = bytes;
        if (i % 10 == 0) m.resize(rng.bits(i * 16) % m.size());
        for (int k = 0; k < 1 + i % 4 && !m.empty(); ++k)
            // Half of the damage goes to the header and the schema.
            m[rng.bits(i * 16 + 2 * k) % (k % 2 ? m.size() : std::min<size_t>(m.size(), 4096))] ^=
                static_cast<char>(1 + rng.bits(i * 16 + 2 * k + 1) % 255);
        std::ofstream(path, std::ios::binary) << m;
        try {
            Store s(path);
            s.list("hello");
            s.load(7);
            ++n_opened;
        } catch (const DamagedStore&) {
            ++n_kept_aside;
        } catch (const Error&) {
            ++n_refused;
        }
        for (const char* tail : {"", "-wal", "-shm"}) fs::remove(path + tail);
    }
    EXPECT_EQ(n_opened + n_kept_aside + n_refused, 300);
    EXPECT_GT(n_opened, 0);  // damage in unused bytes
    EXPECT_GT(n_kept_aside, 0);
}

// The child saves exchange after exchange and writes its number to a pipe only after save() returned. Killed at any
// moment, every number that came through must be there, whole.
TEST(Store, KillNineLosesNothingThatWasAcknowledged) {
    const CounterRng rng(20, fnv1a64("kill"));
    int n_acknowledged = 0;
    for (int trial = 0; trial < 25; ++trial) {
        const test::TempFolder folder;
        const std::string path = folder.file("c.sqlite");
        int pipe_ends[2];
        ASSERT_EQ(pipe(pipe_ends), 0);
        const pid_t child = fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            close(pipe_ends[0]);
            try {
                Store s(path);
                for (int32_t i = 0;; ++i) {
                    s.save({exchange(7, 1 + 2 * i, 100 + i, 5, "message " + std::to_string(i))});
                    if (write(pipe_ends[1], &i, sizeof i) != sizeof i) _exit(1);
                }
            } catch (...) {
                _exit(2);
            }
        }
        close(pipe_ends[1]);
        int32_t last = -1, i;
        const int32_t until = static_cast<int32_t>(rng.bits(2 * trial) % 12);
        while (last < until && read(pipe_ends[0], &i, sizeof i) == sizeof i) last = i;
        usleep(rng.bits(2 * trial + 1) % 8000);  // into the middle of the next one
        kill(child, SIGKILL);
        while (read(pipe_ends[0], &i, sizeof i) == sizeof i) last = i;
        close(pipe_ends[0]);
        int status = 0;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself, status " << status;

        Store s(path);
        const LoadedConversation c = s.load(7);
        const auto n_turns = static_cast<int32_t>(c.tree.nodes().size());
        EXPECT_GE(n_turns, 2 * (last + 1));
        EXPECT_LE(n_turns, 2 * (last + 2));  // at most the one that was being written
        EXPECT_EQ(c.records.size(), static_cast<size_t>(5 * n_turns / 2));
        for (int32_t k = 0; k <= last; ++k) EXPECT_EQ(c.tree.timeline(2 + 2 * k).tokens.size(), 5u);
        n_acknowledged += last + 1;
    }
    EXPECT_GT(n_acknowledged, 25);
}

}  // namespace
}  // namespace vitrine
