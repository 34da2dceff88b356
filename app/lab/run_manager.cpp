// Runs of the lab: what is asked of them.
#include "app/lab/run_manager.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>

#include "app/lab/tensorboard.h"
#include "app/lab/train_words.h"
#include "app/paths.h"
#include "engine/base/error.h"
#include "engine/telemetry/run_control.h"
#include "engine/telemetry/run_folder.h"

namespace vitrine {
namespace fs = std::filesystem;
namespace {

// Part of a folder's name: letters, digits, '_' and '.', the rest as '-'.
std::string as_name(const std::string& text) {
    std::string out;
    for (const char c : text.substr(0, 40)) {
        const bool is_plain =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
        out += is_plain ? c : '-';
    }
    return out.empty() || out[0] == '.' ? "run" + out : out;
}

}  // namespace

RunManager::RunManager(RunManagerOptions options, LabCatalogue catalogue, std::function<void()> wake)
    : options_(std::move(options)), catalogue_(std::move(catalogue)), wake_(std::move(wake)) {
    make_folder(options_.folder);
    n_at_once_ = options_.n_at_once;
    thread_ = std::jthread([this](std::stop_token stop) { work(stop); });
}

RunManager::~RunManager() {
    thread_.request_stop();
    condition_.notify_all();
    thread_.join();
}

bool RunManager::send(LabCommand c) {
    {
        const std::lock_guard lock(mutex_);
        if (commands_.size() >= kMaxCommands) return false;
        commands_.push_back(std::move(c));
        is_busy_ = true;
    }
    condition_.notify_all();
    return true;
}

std::vector<LabUpdate> RunManager::take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(updates_, {});
}

void RunManager::push(LabUpdate u) {
    bool is_first = false;
    {
        const std::lock_guard lock(mutex_);
        is_first = updates_.empty();
        updates_.push_back(std::move(u));
    }
    if (is_first && wake_) wake_();
}

bool RunManager::has_room() {
    const std::lock_guard lock(mutex_);
    return updates_.size() < kMaxUpdates;
}

void RunManager::run_command(LabCommand& c) {
    try {
        std::visit([this](auto& command) { handle(command); }, c);
    } catch (const std::exception& e) {
        push(LabProblem{e.what()});
    }
}

const LabInfo& RunManager::info(const std::string& experiment) const {
    std::vector<std::string> names;
    for (const LabInfo& i : catalogue_.infos) {
        if (i.name == experiment) return i;
        names.push_back(i.name);
    }
    const std::string near = nearest_name(experiment, names);
    throw Error(ErrorKind::bad_input,
                "there is no experiment " + escaped(experiment) + (near.empty() ? "" : "; did you mean " + near + "?"));
}

RunManager::Run& RunManager::need(const std::string& id) {
    const auto it = runs_.find(id);
    if (it == runs_.end()) throw Error(ErrorKind::bad_input, "there is no run " + escaped(id));
    return *it->second;
}

RunManager::Run& RunManager::add(const std::string& id) {
    auto& run = runs_[id];
    run = std::make_unique<Run>(options_.folder + "/" + id);
    order_.push_back(id);
    return *run;
}

std::string RunManager::new_id(const std::string& experiment, const std::string& arm, int64_t seed) {
    char number[24];
    std::snprintf(number, sizeof number, "%04lld", static_cast<long long>(++serial_));
    return as_name(experiment.empty() ? "run" : experiment) + "-" + number + "-" + as_name(arm) + "-s" +
           std::to_string(seed);
}

void RunManager::handle(StartRuns& c) {
    info(c.experiment);
    const std::vector<std::string> arms = catalogue_.arms(c.experiment, c.knobs);
    if (arms.empty()) {
        to_analyse_.push_back(std::move(c));
        tell_work();
        return;
    }
    // Seeds outside, arms inside: the first comparison is there as early as it can be.
    for (int64_t seed = c.first_seed; seed < c.first_seed + c.n_seeds; ++seed)
        for (const std::string& arm : arms) {
            const std::string id = new_id(c.experiment, arm, seed);
            make_folder(options_.folder + "/" + id);
            write_request(options_.folder + "/" + id, {c.experiment, arm, seed, c.knobs, "", 0, {}});
            add(id).is_queued = true;
        }
}

void RunManager::tell_work() {
    std::vector<std::string> names;
    for (const StartRuns& c : to_analyse_) names.push_back(c.experiment);
    push(LabAtWork{std::move(names)});
}

// One at a time: each takes all cores. What it does is told at most ten times a second.
void RunManager::analyse_next() {
    if (is_analysing_) return;
    if (analysis_.joinable()) analysis_.join(), to_analyse_.pop_front(), tell_work();
    if (to_analyse_.empty()) return;
    is_analysing_ = true;
    analysis_ = std::jthread([this, c = to_analyse_.front()](std::stop_token stop) {
        using Clock = std::chrono::steady_clock;
        const auto tell = [this, next = Clock::time_point{}](const std::string& line) mutable {
            if (const auto now = Clock::now(); now >= next)
                push(LabWorkLine{line}), next = now + std::chrono::milliseconds(100);
        };
        try {
            push(LabVerdictMade{c.experiment, catalogue_.analyse(c.experiment, c.knobs, tell, stop)});
        } catch (const std::exception& e) {
            if (!stop.stop_requested()) push(LabProblem{e.what()});
        }
        is_analysing_ = false;
    });
}

// The one that is under way leaves the queue when its thread has ended.
void RunManager::handle(CancelWork& c) {
    const bool is_first =
        !to_analyse_.empty() && to_analyse_.front().experiment == c.experiment && analysis_.joinable();
    if (is_first) analysis_.request_stop();
    const auto same = [&](const StartRuns& r) { return r.experiment == c.experiment; };
    const auto waiting = to_analyse_.begin() + (to_analyse_.empty() || !analysis_.joinable() ? 0 : 1);
    to_analyse_.erase(std::remove_if(waiting, to_analyse_.end(), same), to_analyse_.end());
    tell_work();
}

void RunManager::handle(RewindRun& c) {
    Run& from = need(c.id);
    const LabRun& r = from.reader.run();
    if (std::find(r.checkpoints.begin(), r.checkpoints.end(), c.step) == r.checkpoints.end())
        throw Error(ErrorKind::bad_input, c.id + " has no checkpoint of step " + std::to_string(c.step));
    const std::string id = new_id(r.experiment, r.arm, r.seed);
    make_folder(options_.folder + "/" + id);
    write_request(options_.folder + "/" + id, {r.experiment, r.arm, r.seed, r.knobs, c.id, c.step, c.changes});
    add(id).is_queued = true;
}

void RunManager::tell_child(Run& r, const std::string& line) {
    if (!r.child || !r.child->say(line))
        throw Error(ErrorKind::bad_input,
                    r.reader.run().id + ": \"" + line + "\" was not taken: " +
                        (r.child && r.child->is_running() ? "the run doesn't listen" : "it is not running here"));
}

void RunManager::handle(ControlRun& c) {
    using Do = ControlRun::Do;
    Run& r = need(c.id);
    const bool has_child = r.child && r.child->is_running();
    if (c.what == Do::resume && !has_child) {
        if (r.reader.run().state == RunState::finished)
            throw Error(ErrorKind::bad_input, c.id + " is finished: rewind it to a checkpoint instead");
        // One that was killed before its first checkpoint is started again, as it was asked for here.
        r.resumes = !r.reader.run().checkpoints.empty() || r.reader.request().experiment.empty();
        r.is_queued = true, r.is_called_off = false;
        return;
    }
    if (c.what == Do::stop && !has_child && (r.is_queued || r.reader.run().state == RunState::waiting)) {
        r.is_queued = false, r.is_called_off = true, r.was_told = false;
        return;
    }
    tell_child(r, run_control_line({static_cast<RunControl::Do>(static_cast<int>(c.what)), "", "", {}}));
}

void RunManager::handle(SetLive& c) {
    const RunControl checked = parse_run_control("set " + c.key + " " + c.value);
    tell_child(need(c.id), run_control_line(checked));
}

void RunManager::handle(ForgetRun& c) {
    Run& r = need(c.id);
    const RunState state = r.reader.run().state;
    if ((r.child && r.child->is_running()) || state == RunState::running || state == RunState::paused)
        throw Error(ErrorKind::bad_input, c.id + " is running: stop it first");
    const std::string folder = r.reader.run().folder, experiment = r.reader.run().experiment;
    runs_.erase(c.id);
    std::erase(order_, c.id);
    std::error_code failed;
    fs::remove_all(folder, failed);
    if (failed) throw Error(ErrorKind::io, escaped(folder, 512) + ": " + failed.message());
    push(LabRunGone{c.id});
    to_judge_.insert(experiment);
}

// Points that are no longer drawn are given back, so that the window holds what it shows and no more.
void RunManager::handle(WatchScalars& c) {
    watched_runs_ = {c.ids.begin(), c.ids.end()};
    watched_ = {c.metrics.begin(), c.metrics.end()};
    for (auto& [id, run] : runs_)
        std::erase_if(run->read_to, [&, &id = id](const auto& metric) {
            if (watched_runs_.count(id) && watched_.count(metric.first)) return false;
            push(LabPointsAdded{id, metric.first, {}, {}, true});
            return true;
        });
}

void RunManager::handle(ExportEvents& c) {
    const std::string to = c.folder.empty() ? options_.folder + "/../tensorboard" : c.folder;
    for (const std::string& id : c.ids) {
        RunReader& reader = need(id).reader;
        const std::string folder = to + "/" + id;
        make_folder(folder);
        EventFile file(folder, id);
        for (const std::string& metric : reader.run().metrics) {
            const LabSeries all = reader.read(metric, -1, 1 << 24);
            for (size_t i = 0; i < all.step.size(); ++i)
                file.scalar(static_cast<int64_t>(all.step[i]), metric, static_cast<float>(all.value[i]));
        }
        file.close();
    }
    push(LabProblem{"Events of " + std::to_string(c.ids.size()) + " runs for tensorboard --logdir " +
                        fs::path(to).lexically_normal().string(),
                    false});
}

void RunManager::handle(ShowFolder& c) {
    const std::string folder = c.id.empty() ? options_.folder : need(c.id).reader.run().folder;
    try {
        shown_ = std::make_unique<Child>(std::vector<std::string>{options_.file_manager, folder}, "/dev/null");
    } catch (const Error& e) {
        throw Error(ErrorKind::io, "the folder " + escaped(folder, 512) + " can't be shown: " + e.what());
    }
}

void RunManager::handle(RunsAtOnce& c) {
    if (c.n < 1 || c.n > 64) throw Error(ErrorKind::bad_input, "runs at once: expected 1 to 64");
    n_at_once_ = c.n;
}

void RunManager::start(Run& r) {
    r.is_queued = false;
    try {
        const std::vector<std::string> words = train_words(options_.program, options_.folder, r.reader.run().folder,
                                                           r.reader.request(), r.resumes, options_.extra);
        r.child = std::make_unique<Child>(words, r.reader.run().folder + "/console.txt");
        r.problem.clear();
    } catch (const Error& e) {
        r.problem = e.what();
    }
}

}  // namespace vitrine
