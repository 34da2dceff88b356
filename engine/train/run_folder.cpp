// The writing side of a run's folder.
#include "engine/train/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <thread>

#include "engine/base/reader.h"
#include "engine/base/sqlite.h"
#include "engine/base/version.h"
#include "engine/model/config.h"
#include "engine/telemetry/run_folder.h"
#include "engine/train/checkpoint.h"

namespace vitrine {
namespace fs = std::filesystem;
namespace {

// Held by the process that runs it, as a descriptor. Readers look by taking it for a moment, so one failure means nothing.
int take_lock(const std::string& folder) {
    const std::string lock = folder + "/" + run_folder::kLock;
    const int fd = open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) throw Error(ErrorKind::io, escaped(lock, 512) + ": " + std::strerror(errno));
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; ++i) {
        if (i < 20) {
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
            continue;
        }
        close(fd);
        throw Error(ErrorKind::bad_input, escaped(folder, 512) + ": another process runs it");
    }
    return fd;
}

bool has_rows(const std::string& folder) {
    const std::string file = folder + "/" + run_folder::kMetrics;
    std::error_code failed;
    if (!fs::exists(file, failed)) return false;
    sql::Database db(file);  // for writing: what lies in the WAL after a kill is taken in
    return db.number("SELECT count(*) FROM sqlite_master WHERE name = 'scalars'") > 0 &&
           db.number("SELECT EXISTS(SELECT 1 FROM scalars)") > 0;
}

// A run that was killed before its first checkpoint has nothing to go on from: what is left of it makes room for another start.
void clear_unborn(const std::string& folder) {
    if (!checkpoint_steps(folder).empty() || has_rows(folder))
        throw Error(ErrorKind::bad_input,
                    escaped(folder, 512) + ": holds a run already; go on with --resume, or choose another folder");
    std::error_code ignored;
    for (const char* end : {"", "-wal", "-shm"}) fs::remove(folder + "/" + run_folder::kMetrics + end, ignored);
    fs::remove_all(folder + "/" + run_folder::kCheckpoints, ignored);
}

}  // namespace

std::vector<RecordedChange> recorded_changes(const std::string& folder) {
    std::vector<RecordedChange> all;
    const std::string file = folder + "/" + run_folder::kMetrics;
    std::error_code failed;
    if (!fs::exists(file, failed)) return all;
    sql::Database db(file, sql::Database::Access::read);
    if (db.number("SELECT count(*) FROM sqlite_master WHERE name = 'events'") == 0) return all;
    sql::Statement s(db, "SELECT id, step, text, detail FROM events WHERE kind = ? ORDER BY id");
    s.bind(1, run_folder::kChange);
    while (s.step()) {
        const Json d = Json::parse(s.text(3), file + ": a change");
        const Json* rollbacks = d.find("rollbacks");  // older runs did not tell
        all.push_back({s.integer(1), rollbacks ? rollbacks->as_int() : 0, d.at("key").as_string(), d.at("value"), s.text(2),
                       s.text(3), s.integer(0)});
    }
    return all;
}

struct RunFolder::Impl {
    int lock = -1, log = -1;
    std::unique_ptr<sql::Database> db;
    std::map<std::string, int64_t> names;
    ~Impl() {
        db.reset();
        if (log >= 0) close(log);
        if (lock >= 0) close(lock);
    }
    int64_t id_of(const std::string& name) {
        const auto [at, is_new] = names.try_emplace(name, 0);
        if (!is_new && at->second) return at->second;
        sql::Statement(*db, "INSERT OR IGNORE INTO names(name) VALUES(?)").bind(1, name).run();
        sql::Statement s(*db, "SELECT id FROM names WHERE name = ?");
        s.bind(1, name);
        s.step();
        return at->second = s.integer(0);
    }
};

void RunFolder::describe(const std::string& folder, const RunDescription& d, const TrainConfig& config, const ModelConfig& model) {
    std::error_code failed;
    fs::create_directories(folder, failed);
    if (failed) throw Error(ErrorKind::io, escaped(folder, 512) + ": can't be created: " + failed.message());
    const std::string file = folder + "/" + run_folder::kRunJson;
    struct Lock {
        int fd;
        ~Lock() { close(fd); }
    } const lock{take_lock(folder)};
    if (fs::exists(file, failed)) clear_unborn(folder);
    Json j = Json::object(), knobs = Json::object(), resolved = Json::object(), command = Json::array();
    for (const auto& [key, value] : d.knobs) knobs.set(key, value);
    for (const std::string& w : d.command) command.push(w);
    resolved.set("train", to_json(config));
    resolved.set("model", Json::parse(config_to_json(model), "the model's config"));
    j.set("version", run_folder::kVersion), j.set("experiment", d.experiment), j.set("arm", d.arm);
    j.set("seed", config.seed), j.set("n_steps", config.steps);
    j.set("knobs", std::move(knobs)), j.set("config", std::move(resolved));
    j.set("revision", revision()), j.set("command", std::move(command));
    if (!d.parent.empty()) {
        Json parent = Json::object();
        parent.set("id", d.parent), parent.set("step", d.parent_step);
        j.set("parent", std::move(parent));
    }
    if (!d.from.empty()) {
        Json from = Json::object();
        from.set("weights", d.from), from.set("fingerprint", d.fingerprint);
        j.set("from", std::move(from));
    }
    write_file_atomic(file, j.dump(1) + "\n");
}

RunFolder::RunFolder(const std::string& folder) : path_(folder), impl_(std::make_unique<Impl>()) {
    std::error_code failed;
    if (!fs::exists(folder + "/" + run_folder::kRunJson, failed))
        throw Error(ErrorKind::bad_input, escaped(folder, 512) + ": holds no run (no " + run_folder::kRunJson + ")");
    impl_->lock = take_lock(folder);
    impl_->log = open((folder + "/" + run_folder::kLog).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    impl_->db = std::make_unique<sql::Database>(folder + "/" + run_folder::kMetrics);
    impl_->db->run("PRAGMA journal_mode=WAL");
    impl_->db->run("PRAGMA synchronous=NORMAL");  // survives kill -9; make_durable() adds the loss of power
    impl_->db->run(run_folder::kRunSchema);
}

RunFolder::~RunFolder() = default;

void RunFolder::commit(const Commit& c) {
    sql::Database& db = *impl_->db;
    try {
        sql::Transaction all(db);
        if (c.drop_rows_from >= 0) sql::Statement(db, "DELETE FROM scalars WHERE step >= ?").bind(1, c.drop_rows_from).run();
        for (const int64_t id : c.drop_events) sql::Statement(db, "DELETE FROM events WHERE id = ?").bind(1, id).run();
        sql::Statement row(db, "INSERT OR REPLACE INTO scalars(name, step, value) VALUES(?, ?, ?)");
        for (const Scalar& s : c.scalars) {
            row.bind(1, impl_->id_of(s.name)).bind(2, c.step);
            std::isfinite(s.value) ? row.bind(3, s.value) : row.bind_null(3);
            row.run();
        }
        sql::Statement event(db, "INSERT OR IGNORE INTO events(step, kind, text, detail) VALUES(?, ?, ?, ?)");
        // The same change once more, at the same step, comes after those between.
        sql::Statement change(db, "INSERT OR REPLACE INTO events(step, kind, text, detail) VALUES(?, ?, ?, ?)");
        for (const TrainEvent& e : c.events) {
            sql::Statement& one = e.kind == run_folder::kChange ? change : event;
            one.bind(1, e.step).bind(2, e.kind).bind(3, e.text).bind(4, e.detail).run();
        }
        sql::Statement state(db, "INSERT OR REPLACE INTO state(key, value) VALUES(?, ?)");
        for (const auto& [key, value] : c.state) state.bind(1, key).bind(2, value).run();
        all.commit();
    } catch (...) {
        impl_->names.clear();  // what the transaction named is gone with it
        throw;
    }
}

void RunFolder::make_durable() { impl_->db->run("PRAGMA wal_checkpoint(FULL)"); }

void RunFolder::log(const std::string& line) {
    const std::string text = line + "\n";
    if (impl_->log >= 0 && write(impl_->log, text.data(), text.size()) < 0) return;  // nobody to tell
}

void RunFolder::set_waits_for_room(bool waits) {
    struct flock first_byte {};
    first_byte.l_type = waits ? F_WRLCK : F_UNLCK, first_byte.l_whence = SEEK_SET, first_byte.l_len = 1;
    fcntl(impl_->lock, F_OFD_SETLK, &first_byte);  // where it can't be had, the message on stderr is all there is
}

double RunFolder::scalar(int64_t step, const std::string& name, double otherwise) {
    sql::Statement s(*impl_->db, "SELECT value FROM scalars WHERE step = ? AND name = (SELECT id FROM names WHERE name = ?)");
    s.bind(1, step).bind(2, name);
    return s.step() && !s.is_null(0) ? s.real(0) : otherwise;
}

std::string RunFolder::state(const std::string& key) {
    sql::Statement s(*impl_->db, "SELECT value FROM state WHERE key = ?");
    s.bind(1, key);
    return s.step() ? s.text(0) : "";
}

}  // namespace vitrine
