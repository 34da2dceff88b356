// Behaves like `vitrine train --run DIR --control`, without a model: a run's folder whose numbers are a formula of
// (seed, step, lr).
//
// Knobs: steps, ms (a step takes), crash_at (killed by itself), fail_at (says why and ends with 1).
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/sqlite.h"
#include "engine/base/error.h"
#include "engine/base/json.h"
#include "engine/base/reader.h"
#include "engine/telemetry/lab.h"
#include "engine/telemetry/run_control.h"
#include "engine/telemetry/run_folder.h"

namespace vitrine {
namespace {

struct Asked {
    std::string run, experiment, arm, rewind;
    int64_t seed = 1, step = 0;
    bool resumes = false;
    std::map<std::string, std::string> knobs;
    double number(const char* key, double otherwise) const {
        const auto it = knobs.find(key);
        return it == knobs.end() ? otherwise : std::stod(it->second);
    }
};

Asked parse(int argc, char** argv) {
    Asked a;
    for (int i = 2; i < argc; ++i) {
        const std::string word = argv[i];
        const auto next = [&] { return std::string(argv[++i]); };
        if (word == "--run") a.run = next();
        if (word == "--experiment") a.experiment = next();
        if (word == "--arm") a.arm = next();
        if (word == "--seed") a.seed = std::stoll(next());
        if (word == "--rewind") a.rewind = next();
        if (word == "--step") a.step = std::stoll(next());
        if (word == "--resume") a.resumes = true;
        if (word == "--set" || word == "--knob") {
            const std::string pair = next();
            a.knobs[pair.substr(0, pair.find('='))] = pair.substr(pair.find('=') + 1);
        }
    }
    return a;
}

class Writer {
  public:
    explicit Writer(const std::string& folder) : folder_(folder), db_(folder + "/" + run_folder::kMetrics) {
        lock_ = open((folder + "/" + run_folder::kLock).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (flock(lock_, LOCK_EX | LOCK_NB) != 0) throw Error(ErrorKind::io, folder + ": another process runs it");
        db_.run("PRAGMA journal_mode=WAL");
        db_.run(run_folder::kRunSchema);
    }
    void state(const std::string& key, const std::string& value) {
        sql::Statement s(db_, "INSERT OR REPLACE INTO state VALUES(?, ?)");
        s.bind(1, key).bind(2, value).run();
    }
    void scalar(int64_t step, const std::string& name, double v) {
        sql::Statement(db_, "INSERT OR IGNORE INTO names(name) VALUES(?)").bind(1, name).run();
        sql::Statement s(db_, "INSERT OR REPLACE INTO scalars SELECT id, ?, ? FROM names WHERE name = ?");
        s.bind(1, step).bind(2, v).bind(3, name).run();
    }
    void event(int64_t step, const char* kind, const std::string& text, const std::string& detail = "") {
        sql::Statement s(db_, "INSERT OR IGNORE INTO events(step, kind, text, detail) VALUES(?, ?, ?, ?)");
        s.bind(1, step).bind(2, kind).bind(3, text).bind(4, detail).run();
    }
    void checkpoint(int64_t step) {
        const std::string at = folder_ + "/" + run_folder::kCheckpoints + "/" + std::to_string(step);
        std::filesystem::create_directories(at);
        write_file_atomic(at + "/" + run_folder::kManifest, "{}");
    }
    int64_t last_checkpoint() const {
        int64_t best = 0;
        std::error_code none;
        for (const auto& e : std::filesystem::directory_iterator(folder_ + "/" + run_folder::kCheckpoints, none))
            best = std::max<int64_t>(best, std::stoll(e.path().filename().string()));
        return best;
    }
    sql::Database& db() { return db_; }

  private:
    std::string folder_;
    int lock_ = -1;
    sql::Database db_;
};

// The next line of the input, when there is one within `ms`; "stop" at its end.
std::optional<std::string> line_within(int ms) {
    static std::string buffer;
    for (;;) {
        if (const size_t end = buffer.find('\n'); end != std::string::npos) {
            std::string line = buffer.substr(0, end);
            buffer.erase(0, end + 1);
            return line;
        }
        pollfd p{0, POLLIN, 0};
        if (poll(&p, 1, ms) <= 0) return {};
        char bytes[256];
        const ssize_t n = read(0, bytes, sizeof bytes);
        if (n <= 0) return "stop";
        buffer.append(bytes, static_cast<size_t>(n));
    }
}

void describe(const Asked& a, int64_t n_steps) {
    Json j = Json::object(), knobs = Json::object(), config = Json::object();
    for (const auto& [key, value] : a.knobs) knobs.set(key, value);
    config.set("lr", a.number("lr", 0.01));
    config.set("arm", a.arm);
    j.set("version", run_folder::kVersion);
    j.set("experiment", a.experiment);
    j.set("arm", a.arm);
    j.set("seed", a.seed);
    j.set("n_steps", n_steps);
    j.set("knobs", knobs);
    j.set("config", config);
    write_file_atomic(a.run + "/" + run_folder::kRunJson, j.dump(2));
}

int run(Asked a) {
    const Json* parent = nullptr;
    Json read;
    if (a.resumes || !a.rewind.empty()) {
        read = Json::parse(read_file((a.resumes ? a.run : a.rewind) + "/" + run_folder::kRunJson, 1 << 20), "run.json");
        parent = &read;
        a.experiment = read.at("experiment").as_string(), a.arm = read.at("arm").as_string(),
        a.seed = read.at("seed").as_int();
        for (const auto& [key, value] : read.at("knobs").members()) a.knobs.try_emplace(key, value.as_string());
        if (a.resumes) a.knobs["crash_at"] = "-1";
    }
    const auto n_steps = static_cast<int64_t>(a.number("steps", 20));
    Writer w(a.run);
    if (!parent || !a.resumes) describe(a, n_steps);
    if (!a.resumes) w.checkpoint(a.step);
    w.state("state", "running");
    double lr = a.number("lr", 0.01);
    bool is_paused = false, stops = false;
    int64_t once = 0;
    for (int64_t step = a.resumes ? w.last_checkpoint() : a.step; step < n_steps && !stops;) {
        while (const auto line = line_within(is_paused ? 50 : static_cast<int>(a.number("ms", 1)))) {
            const RunControl c = parse_run_control(*line);
            using Do = RunControl::Do;
            if (c.what == Do::pause) is_paused = true;
            if (c.what == Do::resume) is_paused = false;
            if (c.what == Do::step) once = 1;
            if (c.what == Do::checkpoint) w.checkpoint(step);
            if (c.what == Do::set) lr = c.value.as_double(), w.event(step, run_folder::kChange, "lr -> " + std::to_string(lr));
            w.state("state", is_paused ? "paused" : "running");
            if (c.what == Do::stop) stops = true;
            if (stops || once) break;
        }
        if (stops || (is_paused && !once)) continue;
        once = 0;
        ++step;
        sql::Transaction t(w.db());
        w.scalar(step, "loss", std::exp(-lr * static_cast<double>(step)) + 0.001 * static_cast<double>(a.seed));
        w.scalar(step, "gain", a.arm == "hc" ? std::exp(0.3 * static_cast<double>(step)) : 1.01);
        w.scalar(step, run_folder::kTokensPerSecond, 1000);
        if (step == 7)
            w.event(
                step, run_folder::kSpike, "loss 3 is 4x the median",
                R"({"batch": {"step": 7, "domains": "bad"}, "layers": [{"layer": 2, "grad_norm": 9.5}], "matrices": []})");
        w.state("step", std::to_string(step));
        t.commit();
        if (step % 10 == 0) w.checkpoint(step), w.event(step, run_folder::kCheckpoint, "checkpoint");
        if (step == static_cast<int64_t>(a.number("crash_at", -1))) {
            std::fprintf(stderr, "the last words before step %lld\n", static_cast<long long>(step + 1));
            raise(SIGKILL);
        }
        if (step == static_cast<int64_t>(a.number("fail_at", -1))) {
            w.state("state", "failed"), w.state("error", "loss is NaN");
            return 1;
        }
    }
    w.state("state", stops ? "stopped" : "finished");
    return 0;
}

}  // namespace
}  // namespace vitrine

int main(int argc, char** argv) {
    try {
        return vitrine::run(vitrine::parse(argc, argv));
    } catch (const std::exception& e) {
        std::fprintf(stderr, "%s\n", e.what());
        return 1;
    }
}
