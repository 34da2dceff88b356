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

// Where runs are listed that belong to no experiment of this program: `vitrine train --preset mix3-t1 --run FOLDER/a`.
LabInfo collection() {
    LabInfo i;
    i.name = "Runs", i.title = "Runs without an experiment", i.is_collection = true;
    i.question = "What vitrine train --run wrote into this folder: single runs, held against nothing.";
    i.plots = {{"Loss", "step", "nats", {"loss"}, false, false},
               {"Gradient norm before clipping", "step", "norm", {"grad_norm"}, false, true},
               {"Learning rate", "step", "rate", {"lr"}, false, true},
               {"Held-out loss", "step", "nats", {"eval.loss"}, false, false}};
    i.readme =
        "# Runs without an experiment\n\nRuns of `vitrine train` that name no experiment, or one that this program does not "
        "know, appear here when their folders lie in the folder of the window's runs (`vitrine --runs DIR`; it stands at the "
        "bottom of each run's controls):\n\n```\nvitrine train --preset mix3-t1 --run DIR/a --set lr=5e-3\nvitrine train --rewind "
        "DIR/a --step 100 --run DIR/b --set lr=1e-3\n```\n\nThey are drawn, paused, rewound and compared like others. Nothing "
        "judges them: without arms there is nothing to compare.\n";
    return i;
}

bool holds_a_run(const fs::path& folder) {
    std::error_code none;
    return fs::exists(folder / "request.json", none) || fs::exists(folder / run_folder::kRunJson, none);
}

}  // namespace

void RunManager::work(std::stop_token stop) {
    std::vector<LabInfo> infos = catalogue_.infos;
    infos.push_back(collection());
    push(LabListed{std::move(infos)});
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
    const RunState now = r.reader.run().state;
    const bool is_over = now == RunState::finished || now == RunState::failed || !r.problem.empty();
    if (!r.is_queued && is_over && (now != before || has_ended)) to_judge_.insert(r.reader.run().experiment);
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

// What its folder says, and what is known of its process.
LabRun RunManager::told(const Run& r) const {
    LabRun run = r.reader.run();
    leave_presets_out(run);
    const bool is_known = std::any_of(catalogue_.infos.begin(), catalogue_.infos.end(),
                                      [&](const LabInfo& i) { return i.name == run.experiment; });
    if (!is_known) {
        if (!run.arm.empty()) run.arm = run.experiment + " " + run.arm;
        run.experiment = collection().name;
    }
    if (r.is_queued) {
        run.state = RunState::waiting, run.is_resumable = false, run.error.clear();
        return run;
    }
    if (!r.child && !r.problem.empty() && run.state != RunState::finished) {
        run.error = r.problem + (run.error.empty() ? "" : "; " + run.error);
        run.state = RunState::failed, run.last_log_line = r.reader.last_line();
    }
    if (!r.child && run.state == RunState::waiting && r.is_called_off) run.state = RunState::stopped;
    run.is_resumable =
        !r.child && run.state != RunState::finished && run.state != RunState::running && run.state != RunState::paused;
    return run;
}

void RunManager::tell(Run& r) {
    LabRun run = told(r);
    if (r.is_queued && r.was_told_waiting) return;
    r.was_told_waiting = r.is_queued;
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

LabRun RunManager::with_scalars(LabRun run, Run& r, const LabInfo& info) {
    const auto take = [&](const std::string& metric) {
        if (!run.scalars.count(metric)) run.scalars[metric] = r.reader.read(metric, -1, kPointsOfVerdict);
    };
    for (const LabPlot& p : info.plots)
        for (const std::string& metric : p.metrics) take(metric);
    for (const std::string& pattern : info.judged)
        for (const std::string& metric : run.metrics)
            if (lab_names(pattern, metric)) take(metric);
    return run;
}

// Those with the knobs of the newest one that has ended; of an arm and seed that ran several times, the newest that was finished
// as it was begun, else the newest finished, else the newest.
void RunManager::judge_finished(const std::string& experiment) {
    if (!catalogue_.judge || std::none_of(catalogue_.infos.begin(), catalogue_.infos.end(),
                                          [&](const LabInfo& i) { return i.name == experiment; }))
        return;
    try {
        const auto rank = [](const LabRun& r) { return r.state != RunState::finished ? 0 : r.changed.empty() ? 2 : 1; };
        std::vector<std::pair<LabRun, Run*>> chosen;
        for (auto id = order_.rbegin(); id != order_.rend(); ++id) {
            Run& r = *runs_.at(*id);
            LabRun run = told(r);
            const bool has_ended = run.state == RunState::finished || run.state == RunState::failed;
            if (run.experiment != experiment || !has_ended || !run.parent.empty()) continue;
            if (!chosen.empty() && run.knobs != chosen[0].first.knobs) continue;
            const auto same = std::find_if(chosen.begin(), chosen.end(), [&](const auto& c) {
                return c.first.arm == run.arm && c.first.seed == run.seed;
            });
            if (same == chosen.end())
                chosen.emplace_back(std::move(run), &r);
            else if (rank(run) > rank(same->first))
                *same = {std::move(run), &r};
        }
        if (chosen.empty()) return;
        std::vector<LabRun> runs;
        for (auto c = chosen.rbegin(); c != chosen.rend(); ++c)
            runs.push_back(with_scalars(std::move(c->first), *c->second, info(experiment)));
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
