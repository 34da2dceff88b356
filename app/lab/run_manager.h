// Runs of the lab: starts them as child processes, steers them, and tells the window what their folders say.
//
// send() and take() are the UI thread's and never wait for a disk or a process; everything else happens on the
// manager's thread, which looks at the folders ten times a second while something runs and every two seconds otherwise
// (runs that were started elsewhere appear too). Points are read for what is watched only. When the window closes, runs
// are asked to stop: they write a checkpoint and can be resumed. Those that waited wait still in the next window, held
// until they are resumed: nothing computes that nobody asked for there. What needs no run is
// calculated on a thread of its own.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "app/lab/catalogue.h"
#include "app/lab/child.h"
#include "app/lab/run_reader.h"

namespace vitrine {

struct RunManagerOptions {
    std::string folder;              // of the runs, one below it each; made when it is missing
    std::string program;             // that has `train`
    std::vector<std::string> extra;  // words after those that say which run: tests
    int n_at_once = 1;
    double stop_seconds = 5;  // that runs get to stop when the window closes
    std::string file_manager = "/usr/bin/xdg-open";  // shows a folder
};

class RunManager {
  public:
    static constexpr size_t kMaxCommands = 256, kMaxUpdates = 4096;

    RunManager(RunManagerOptions options, LabCatalogue catalogue, std::function<void()> wake);
    ~RunManager();
    RunManager(const RunManager&) = delete;
    RunManager& operator=(const RunManager&) = delete;

    bool send(LabCommand c);                          // false: the queue is full
    std::vector<LabUpdate> take();                    // what changed since
    bool is_busy() const { return is_busy_.load(); }  // a run runs or waits

  private:
    struct Run {
        explicit Run(const std::string& folder) : reader(folder) {}
        RunReader reader;
        std::unique_ptr<Child> child;
        bool is_queued = false, is_called_off = false, resumes = false, was_told = false, was_told_waiting = false;
        std::string problem;  // why its process could not be started
        int64_t generation = 0;
        std::map<std::string, double> read_to;  // of watched scalars: the last step that was told
    };
    void work(std::stop_token stop);
    void run_command(LabCommand& c);
    void handle(StartRuns& c);
    void handle(ControlRun& c);
    void handle(SetLive& c);
    void handle(RewindRun& c);
    void handle(ForgetRun& c);
    void handle(WatchScalars& c);
    void handle(ExportEvents& c);
    void handle(RunsAtOnce& c);
    void handle(ShowFolder& c);
    void handle(CancelWork& c);

    Run& need(const std::string& id);
    Run& add(const std::string& id);
    std::string new_id(const std::string& experiment, const std::string& arm, int64_t seed);
    void tell_child(Run& r, const std::string& line);
    void find_folders();
    void start_waiting();
    void analyse_next();
    void tell_work();
    void start(Run& r);
    void look(Run& r);
    void tell(Run& r);
    void tell_points(Run& r);
    void judge_finished(const std::string& experiment);
    LabRun told(const Run& r) const;
    LabRun with_scalars(LabRun run, Run& r, const LabInfo& info);
    void leave_presets_out(LabRun& run) const;
    const LabInfo& info(const std::string& experiment) const;
    void push(LabUpdate u);
    bool has_room();
    bool is_anything_running();
    void stop_all();

    const RunManagerOptions options_;
    const LabCatalogue catalogue_;
    std::function<void()> wake_;
    // The manager's thread.
    std::map<std::string, std::unique_ptr<Run>> runs_;
    std::vector<std::string> order_;  // oldest first
    std::set<std::string> watched_runs_, watched_;
    std::set<std::string> to_judge_;
    std::unique_ptr<Child> shown_;  // the file manager that was started last
    int n_at_once_ = 1;
    int64_t serial_ = 0;
    std::deque<StartRuns> to_analyse_;  // what needs no run, one after the other; the first is under way
    // Shared, each for moments only.
    std::mutex mutex_;
    std::condition_variable_any condition_;
    std::deque<LabCommand> commands_;
    std::vector<LabUpdate> updates_;
    std::atomic<bool> is_busy_{false}, is_analysing_{false};
    // Last: they use the rest. The second one starts and ends the first.
    std::jthread analysis_, thread_;
};

}  // namespace vitrine
