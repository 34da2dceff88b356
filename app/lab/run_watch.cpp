// Runs of the lab: what their folders say, told to the window.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>

#include "app/lab/run_manager.h"
#include "engine/base/error.h"
#include "engine/telemetry/run_folder.h"

namespace vitrine {
namespace fs = std::filesystem;
namespace {

constexpr auto kWhileRunning = std::chrono::milliseconds(100), kOtherwise = std::chrono::milliseconds(2000);
constexpr int64_t kPointsAtOnce = 20000, kPointsOfVerdict = 1 << 20;

fs::file_time_type made_at(const fs::path& folder) {
    std::error_code none;
    for (const char* name : {"request.json", run_folder::kRunJson})
        if (const auto t = fs::last_write_time(folder / name, none); !none) return t;
    return {};
}

bool holds_a_run(const fs::path& folder) {
    std::error_code none;
    return fs::exists(folder / "request.json", none) || fs::exists(folder / run_folder::kRunJson, none);
}

}  // namespace

void RunManager::work(std::stop_token stop) {
    push(LabListed{catalogue_.infos});
    auto pause = std::chrono::milliseconds(0);
    while (!stop.stop_requested()) {
        std::deque<LabCommand> commands;
        {
            std::unique_lock lock(mutex_);
            condition_.wait_for(lock, stop, pause, [&] { return !commands_.empty(); });
            commands.swap(commands_);
        }
        find_folders();
        for (LabCommand& c : commands) run_command(c);
        start_waiting();
        analyse_next();
        for (const std::string& id : std::vector<std::string>(order_)) look(*runs_.at(id));
        for (const std::string& experiment : std::exchange(to_judge_, {})) judge_finished(experiment);
        const bool is_running = is_anything_running() || !to_analyse_.empty();
        pause = is_running ? kWhileRunning : kOtherwise;
        const std::lock_guard lock(mutex_);
        is_busy_ = is_running || !commands_.empty();
    }
    analysis_.request_stop();
    stop_all();
    if (analysis_.joinable()) analysis_.join();
}

// Runs that lie in the folder and are not known yet, oldest first.
void RunManager::find_folders() {
    std::vector<fs::path> found;
    std::error_code failed;
    for (const auto& entry : fs::directory_iterator(options_.folder, failed))
        if (!runs_.count(entry.path().filename().string()) && holds_a_run(entry.path())) found.push_back(entry.path());
    std::sort(found.begin(), found.end(),
              [](const fs::path& a, const fs::path& b) { return std::pair(made_at(a), a) < std::pair(made_at(b), b); });
    for (const fs::path& p : found) {
        const std::string id = p.filename().string();
        // Numbers go on after the highest one that was ever used here.
        const size_t dash = id.find('-');
        if (dash != std::string::npos) serial_ = std::max<int64_t>(serial_, std::atoll(id.c_str() + dash + 1));
        add(id);
    }
}

bool RunManager::is_anything_running() {
    return std::any_of(runs_.begin(), runs_.end(), [](const auto& r) {
        const RunState s = r.second->reader.run().state;
        return r.second->is_queued || r.second->child || s == RunState::running || s == RunState::paused;
    });
}

void RunManager::start_waiting() {
    int n_running = 0;
    for (const auto& [id, run] : runs_) n_running += run->child != nullptr;
    for (const std::string& id : order_) {
        Run& r = *runs_.at(id);
        if (!r.is_queued || r.child || n_running >= n_at_once_) continue;
        r.reader.look();  // the request
        start(r);
        ++n_running;
    }
}

void RunManager::look(Run& r) {
    if (!has_room()) return;  // the window stands still: what is new waits in the folder
    const RunState before = r.reader.run().state;
    if (before == RunState::finished && r.was_told && !r.child) {  // nothing comes any more
        tell_points(r);
        return;
    }
    const bool has_ended = r.child && !r.child->is_running();
    const bool is_changed = r.reader.look();
    if (has_ended) {
        if (const std::string how = r.child->how_it_ended(); !how.empty()) r.problem = how;
        r.child.reset();
    }
    if (is_changed || has_ended || !r.was_told || r.is_queued) tell(r);
    if (r.reader.run().state == RunState::finished && before != RunState::finished)
        to_judge_.insert(r.reader.run().experiment);
    if (r.reader.generation() != r.generation) r.generation = r.reader.generation(), r.read_to.clear();
    tell_points(r);
}

// The same knobs read the same, whoever wrote them.
void RunManager::leave_presets_out(LabRun& run) const {
    for (const LabInfo& i : catalogue_.infos)
        if (i.name == run.experiment)
            for (const LabKnob& k : i.knobs)
                if (const auto it = run.knobs.find(k.key); it != run.knobs.end() && it->second == k.value)
                    run.knobs.erase(it);
}

void RunManager::tell(Run& r) {
    LabRun run = r.reader.run();
    leave_presets_out(run);
    if (r.is_queued) {
        run.state = RunState::waiting, run.is_resumable = false, run.error.clear();
        if (r.was_told_waiting) return;
        r.was_told_waiting = true;
    } else {
        r.was_told_waiting = false;
        if (!r.child && !r.problem.empty() && run.state != RunState::finished) {
            run.error = r.problem + (run.error.empty() ? "" : "; " + run.error);
            run.state = RunState::failed, run.last_log_line = r.reader.last_line();
        }
        if (!r.child && run.state == RunState::waiting && r.is_called_off) run.state = RunState::stopped;
        run.is_resumable = !r.child && run.state != RunState::finished && run.state != RunState::running &&
                           run.state != RunState::paused;
    }
    const std::string id = run.id;
    push(LabRunChanged{std::move(run)});
    if (std::vector<LabEvent> events = r.reader.take_new_events(); !events.empty())
        push(LabEventsAdded{id, std::move(events), !r.was_told});
    r.was_told = true;
}

void RunManager::tell_points(Run& r) {
    const std::string& id = r.reader.run().id;
    if (!watched_runs_.count(id)) return;
    for (const std::string& metric : watched_) {
        const auto told = r.read_to.find(metric);
        const bool is_from_start = told == r.read_to.end();
        try {
            LabSeries s = r.reader.read(metric, is_from_start ? -1 : told->second, kPointsAtOnce);
            if (s.step.empty()) continue;
            r.read_to[metric] = s.step.back();
            push(LabPointsAdded{id, metric, std::move(s.step), std::move(s.value), is_from_start});
        } catch (const Error&) {
            return;  // its next look says what is wrong with the file
        }
    }
}

LabRun RunManager::with_scalars(Run& r, const LabInfo& info) {
    LabRun run = r.reader.run();
    leave_presets_out(run);
    for (const LabPlot& p : info.plots)
        for (const std::string& metric : p.metrics)
            if (!run.scalars.count(metric)) run.scalars[metric] = r.reader.read(metric, -1, kPointsOfVerdict);
    return run;
}

// Those with the knobs of the newest finished one; of an arm and seed that ran twice, the newer.
void RunManager::judge_finished(const std::string& experiment) {
    if (!catalogue_.judge || std::none_of(catalogue_.infos.begin(), catalogue_.infos.end(),
                                          [&](const LabInfo& i) { return i.name == experiment; }))
        return;
    try {
        std::vector<LabRun> runs;
        std::set<std::pair<std::string, int64_t>> seen;
        const LabInfo& about = info(experiment);
        for (auto id = order_.rbegin(); id != order_.rend(); ++id) {
            Run& r = *runs_.at(*id);
            LabRun run = r.reader.run();
            leave_presets_out(run);
            const bool fits = run.experiment == experiment && run.state == RunState::finished && run.parent.empty() &&
                              (runs.empty() || run.knobs == runs[0].knobs);
            if (fits && seen.insert({run.arm, run.seed}).second) runs.push_back(with_scalars(r, about));
        }
        if (runs.empty()) return;
        std::reverse(runs.begin(), runs.end());
        push(LabVerdictMade{experiment, catalogue_.judge(experiment, runs)});
    } catch (const Error& e) {
        push(LabProblem{experiment + " could not be judged: " + e.what()});
    }
}

// Runs write a checkpoint and end; those that don't in time are killed, which their folders survive.
void RunManager::stop_all() {
    for (auto& [id, run] : runs_)
        if (run->child) run->child->say("stop"), run->child->close_input();
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(options_.stop_seconds);
    for (auto& [id, run] : runs_) {
        if (!run->child) continue;
        run->child->wait(std::chrono::duration<double>(until - std::chrono::steady_clock::now()).count());
        run->child->kill();
        run->child->wait(1);
    }
}

}  // namespace vitrine
