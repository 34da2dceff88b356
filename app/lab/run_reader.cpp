// Reads a run's folder while its process writes it.
#include "app/lab/run_reader.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <utility>

#include "engine/base/sqlite.h"
#include "engine/base/json.h"
#include "engine/base/reader.h"
#include "engine/telemetry/run_folder.h"

namespace vitrine {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxJson = 4 << 20, kLogTail = 16 << 10;
constexpr const char* kRequest = "request.json";
constexpr const char* kConsole = "console.txt";

std::map<std::string, std::string> texts_of(const Json* j) {
    std::map<std::string, std::string> out;
    if (j && j->is_object())
        for (const auto& [key, value] : j->members()) out[key] = value.is_string() ? value.as_string() : value.dump();
    return out;
}
Json json_of(const std::map<std::string, std::string>& texts) {
    Json j = Json::object();
    for (const auto& [key, value] : texts) j.set(key, value);
    return j;
}
std::string text_at(const Json& j, const char* key) {
    const Json* v = j.find(key);
    return v && v->is_string() ? v->as_string() : std::string();
}
int64_t integer_at(const Json& j, const char* key, int64_t otherwise) {
    const Json* v = j.find(key);
    return v && v->is_integer() ? v->as_int() : otherwise;
}

// Somebody runs it: the lock can't be had. A folder without the file was never run.
bool is_locked(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    const bool is_free = flock(fd, LOCK_SH | LOCK_NB) == 0;
    close(fd);
    return !is_free;
}

// A record lock on its first byte: it waits for room on a full disk, where it could not write so.
bool waits_for_room(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    struct flock first_byte {};
    first_byte.l_type = F_RDLCK, first_byte.l_whence = SEEK_SET, first_byte.l_len = 1;
    const bool is_held = fcntl(fd, F_OFD_GETLK, &first_byte) == 0 && first_byte.l_type != F_UNLCK;
    close(fd);
    return is_held;
}

// The last line that says something, of the end of a file.
std::string last_line_of(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return "";
    std::string tail(kLogTail, '\0');
    const off_t size = lseek(fd, 0, SEEK_END), from = std::max<off_t>(0, size - static_cast<off_t>(kLogTail));
    const ssize_t n = pread(fd, tail.data(), tail.size(), from);
    close(fd);
    tail.resize(n > 0 ? static_cast<size_t>(n) : 0);
    while (!tail.empty() && (tail.back() == '\n' || tail.back() == '\r' || tail.back() == ' ')) tail.pop_back();
    const size_t begin = tail.rfind('\n');
    return tail.substr(begin == std::string::npos ? 0 : begin + 1, 500);
}

RunState state_named(const std::string& name) {
    for (int i = 0; i <= static_cast<int>(RunState::failed); ++i)
        if (name == run_state_name(static_cast<RunState>(i))) return static_cast<RunState>(i);
    return RunState::waiting;
}

// Scalars and events don't count: they have their own ways.
bool is_same(const LabRun& a, const LabRun& b) {
    return a.step == b.step && a.state == b.state && a.is_resumable == b.is_resumable && a.error == b.error &&
           a.n_steps == b.n_steps && a.metrics.size() == b.metrics.size() && a.config_json == b.config_json &&
           a.checkpoints == b.checkpoints && a.tokens_per_s == b.tokens_per_s && a.arm == b.arm && a.changed == b.changed &&
           a.last_log_line == b.last_log_line;
}

}  // namespace

void write_request(const std::string& folder, const RunRequest& r) {
    Json j = Json::object();
    j.set("experiment", r.experiment);
    j.set("arm", r.arm);
    j.set("seed", r.seed);
    j.set("knobs", json_of(r.knobs));
    if (!r.parent.empty()) {
        Json parent = Json::object();
        parent.set("id", r.parent);
        parent.set("step", r.parent_step);
        j.set("parent", parent);
        j.set("changes", json_of(r.changes));
    }
    write_file_atomic(folder + "/" + kRequest, j.dump(2) + "\n");
}

// The connection is closed before the statements' database would be reopened.
struct RunReader::Database {
    explicit Database(const std::string& path) : db(path, sql::Database::Access::read) {}
    sql::Database db;
};

RunReader::RunReader(std::string folder) : folder_(std::move(folder)) {
    run_.folder = folder_;
    run_.id = fs::path(folder_).filename().string();
}
RunReader::~RunReader() = default;

void RunReader::read_description() {
    std::error_code ignored;
    if (!has_request_ && fs::exists(folder_ + "/" + kRequest, ignored)) {
        const Json j = Json::parse(read_file(folder_ + "/" + kRequest, kMaxJson), kRequest, {kMaxJson});
        request_ = {text_at(j, "experiment"),
                    text_at(j, "arm"),
                    integer_at(j, "seed", 1),
                    texts_of(j.find("knobs")),
                    "",
                    0,
                    {}};
        if (const Json* parent = j.find("parent"); parent && parent->is_object()) {
            request_.parent = text_at(*parent, "id"), request_.parent_step = integer_at(*parent, "step", 0);
            request_.changes = texts_of(j.find("changes"));
        }
        run_.experiment = request_.experiment, run_.arm = request_.arm, run_.seed = request_.seed,
        run_.knobs = request_.knobs;
        run_.parent = request_.parent, run_.parent_step = request_.parent_step;
        has_request_ = true;
    }
    if (has_description_ || !fs::exists(folder_ + "/" + run_folder::kRunJson, ignored)) return;
    const Json j =
        Json::parse(read_file(folder_ + "/" + run_folder::kRunJson, kMaxJson), run_folder::kRunJson, {kMaxJson});
    if (const int64_t version = integer_at(j, "version", 0); version != run_folder::kVersion)
        throw Error(ErrorKind::bad_input, std::string(run_folder::kRunJson) + ": version " + std::to_string(version) +
                                              ", this program reads " + std::to_string(run_folder::kVersion));
    if (const std::string e = text_at(j, "experiment"); !e.empty()) run_.experiment = e;
    if (const std::string a = text_at(j, "arm"); !a.empty()) run_.arm = a;
    run_.seed = integer_at(j, "seed", run_.seed), run_.n_steps = integer_at(j, "n_steps", 0);
    if (auto knobs = texts_of(j.find("knobs")); !knobs.empty()) run_.knobs = std::move(knobs);
    if (const Json* config = j.find("config")) run_.config_json = config->dump();
    if (const Json* parent = j.find("parent"); parent && parent->is_object())
        run_.parent = text_at(*parent, "id"), run_.parent_step = integer_at(*parent, "step", 0);
    has_description_ = true;
}

void RunReader::read_names() {
    sql::Statement s(db_->db, "SELECT id, name FROM names WHERE id > ? ORDER BY id");
    int64_t last = 0;
    for (const auto& [name, id] : names_) last = std::max(last, id);
    s.bind(1, last);
    while (s.step()) {
        std::string name = s.text(1);
        names_[name] = s.integer(0);
        run_.metrics.push_back(std::move(name));
    }
}

void RunReader::read_events() {
    sql::Statement s(db_->db, "SELECT id, step, kind, text, detail FROM events WHERE id > ? ORDER BY id LIMIT 5000");
    s.bind(1, last_event_);
    while (s.step()) {
        last_event_ = s.integer(0);
        new_events_.push_back({s.integer(1), s.text(2), s.text(3), s.text(4)});
        const LabEvent& e = new_events_.back();
        if (run_.changed.empty() && e.kind == run_folder::kChange) run_.changed = e.text + " at step " + std::to_string(e.step);
    }
}

void RunReader::read_state() {
    sql::Statement s(db_->db, "SELECT key, value FROM state");
    int64_t step = run_.step, rollbacks = 0;
    run_.error.clear();
    while (s.step()) {
        const std::string key = s.text(0), value = s.text(1);
        if (key == "state") run_.state = state_named(value);
        if (key == "error") run_.error = value;
        if (key == "step") std::from_chars(value.data(), value.data() + value.size(), step);
        if (key == "n_steps") std::from_chars(value.data(), value.data() + value.size(), run_.n_steps);
        if (key == "rollbacks") std::from_chars(value.data(), value.data() + value.size(), rollbacks);
    }
    if (step < run_.step || rollbacks != rollbacks_) ++generation_;  // between two looks it may have come further than before
    run_.step = step, rollbacks_ = rollbacks;
    const LabSeries speed = read(run_folder::kTokensPerSecond, static_cast<double>(step) - 2, 2);
    if (!speed.value.empty()) run_.tokens_per_s = speed.value.back();
}

void RunReader::read_checkpoints() {
    run_.checkpoints.clear();
    std::error_code failed;
    for (const auto& entry : fs::directory_iterator(folder_ + "/" + run_folder::kCheckpoints, failed)) {
        const std::string name = entry.path().filename().string();
        int64_t step = 0;
        const auto [end, problem] = std::from_chars(name.data(), name.data() + name.size(), step);
        std::error_code ignored;
        if (problem == std::errc() && end == name.data() + name.size() &&
            fs::exists(entry.path() / run_folder::kManifest, ignored))
            run_.checkpoints.push_back(step);
    }
    std::sort(run_.checkpoints.begin(), run_.checkpoints.end());
}

void RunReader::read_metrics() {
    const std::string path = folder_ + "/" + run_folder::kMetrics;
    std::error_code ignored;
    if (!db_ && !fs::exists(path, ignored)) return;
    if (!db_) db_ = std::make_unique<Database>(path);
    if (db_->db.number("SELECT count(*) FROM sqlite_master WHERE name IN ('names','scalars','events','state')") < 4)
        return;
    read_names();
    read_events();
    read_state();
}

std::string RunReader::last_line() const {
    const std::string said = last_line_of(folder_ + "/" + kConsole);
    return said.empty() ? last_line_of(folder_ + "/" + run_folder::kLog) : said;
}

bool RunReader::look() {
    const LabRun before = run_;
    // The lock first: a process that ends between the two looks has written its last state by then.
    const bool is_held = is_locked(folder_ + "/" + run_folder::kLock);
    try {
        read_description();
        read_metrics();
        read_checkpoints();
    } catch (const Error& e) {
        if (is_held) return false;  // read it again when it is whole
        run_.state = RunState::failed, run_.error = e.what();
        db_.reset();
    }
    const bool says_it_runs = run_.state == RunState::running || run_.state == RunState::paused;
    if (!is_held && says_it_runs) {
        run_.state = RunState::failed;
        run_.error = "the process ended without saying why, after step " + std::to_string(run_.step);
    }
    if (is_held && says_it_runs && waits_for_room(folder_ + "/" + run_folder::kLock))
        run_.error = "the disk is full: it waits for room, and goes on by itself when there is some";
    if (run_.state == RunState::failed) run_.last_log_line = last_line();
    run_.is_resumable = !is_held && run_.state != RunState::finished && run_.state != RunState::waiting;
    return !new_events_.empty() || !is_same(before, run_);
}

std::vector<LabEvent> RunReader::take_new_events() {
    return std::exchange(new_events_, {});
}

LabSeries RunReader::read(const std::string& metric, double after_step, int64_t limit) {
    LabSeries out;
    const auto it = names_.find(metric);
    if (!db_ || it == names_.end()) return out;
    sql::Statement s(db_->db, "SELECT step, value FROM scalars WHERE name = ? AND step > ? ORDER BY step LIMIT ?");
    s.bind(1, it->second).bind(2, after_step).bind(3, limit);
    while (s.step()) {
        out.step.push_back(static_cast<double>(s.integer(0)));
        out.value.push_back(s.is_null(1) ? std::numeric_limits<double>::quiet_NaN() : s.real(1));
    }
    return out;
}

}  // namespace vitrine
