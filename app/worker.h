// The engine's thread: takes commands from a bounded queue, runs them one at a time and reports. The one catch block of
// the window.
//
// send, cancel, set_watch, take_reports and the read-only members may be called by the UI thread (or any one thread) at
// any time and never wait for the engine or a disk. Everything else happens on the worker's thread. A failed command
// becomes a Notice; the program runs on with what it had: a model that can't be loaded leaves the old one in place.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "app/archive.h"
#include "app/report_queue.h"
#include "engine/engine.h"

namespace vitrine {

class Dialogue;
class WatchingMeter;

struct WorkerOptions {
    EngineOptions engine;
    std::string store_path;                   // empty: nothing is saved
    ProbeSet always_watched = base_probes();  // recorded for every token, whatever view is open
    size_t trace_bytes = size_t{256} << 20;
    bool measures_watching = true;  // alternating short spans while the engine is idle
    std::function<void()> on_token;  // of an answer. A test throws from it what a lost GPU does
};

class Worker : public CommandSink {
  public:
    static constexpr size_t kMaxCommands = 64;

    // `wake` is called (from other threads) when reports are waiting.
    Worker(WorkerOptions options, std::function<void()> wake);
    ~Worker() override;  // stops what runs, saves what is unsaved, joins

    bool send(Command c) override;
    void cancel() override;
    void set_watch(ProbeSet probes) override;  // besides always_watched
    std::vector<Update> take_reports() { return reports_.take(); }
    std::shared_ptr<Trace> trace() const { return trace_; }
    bool is_busy() const { return is_busy_.load(); }  // a command runs or waits

  private:
    struct Tokens;  // what was generated and not reported yet
    void run(std::stop_token stop);
    void run_command(Command& c);
    void gpu_was_lost(const std::string& why);
    bool idle_work();  // one short piece; false: nothing left to do

    void handle(LoadModel& c);
    void handle(SetNumerics& c);
    void handle(SetDevice& c);
    void handle(NewConversation& c);
    void handle(OpenConversation& c);
    void handle(DeleteConversation& c);
    void handle(RenameConversation& c);
    void handle(ListConversations& c);
    void handle(SetSystemPrompt& c);
    void handle(SendMessage& c);
    void handle(Regenerate& c);
    void handle(EditTurn& c);
    void handle(CompareModes& c);
    void handle(SelectSibling& c);
    void handle(RecomputeToken& c);
    void handle(ExportConversation& c);
    void handle(MakeHistogram& c);
    void handle(SaveNow& c);

    Dialogue& need_dialogue();  // Error(bad_input) when no model is loaded
    void answer(int64_t asked, Mode mode, const Sampling& sampling);
    void flush(Tokens& tokens);
    void start_conversation(const std::string& system);
    void publish_conversation();
    void publish_recorded_timeline();
    void report_cache();
    void report_after_answer(const TurnStats& stats);
    void save_turns(const std::vector<int64_t>& turns);
    void save_all();
    void refresh_list();
    void report_model();
    void notice(Notice::Level level, const std::string& text) { reports_.push(Notice{level, text}); }
    void apply_watch();

    const WorkerOptions options_;
    ReportQueue reports_;
    std::shared_ptr<Trace> trace_;
    std::unique_ptr<Archive> archive_;

    // The engine's thread.
    std::shared_ptr<Engine> engine_;
    bool knows_curriculum_ = false;
    std::unique_ptr<Dialogue> dialogue_;
    std::unique_ptr<WatchingMeter> watching_;  // a measurement in progress
    ProbeSet measured_for_ = 0;                // the set that the last measurement was of
    double watching_cost_percent_ = -1, tokens_per_s_ = 0;
    std::map<uint64_t, int64_t> saved_;  // by branch: tokens below are stored, with their records
    int64_t n_files_ = 0;                // of the archive, when all was saved last

    // Shared, each for moments only.
    mutable std::mutex mutex_;
    std::condition_variable_any wake_;
    std::deque<Command> commands_;
    std::stop_source running_;      // stops the command that runs
    bool is_next_stopped_ = false;  // stop was asked for while this command waited
    std::string search_;            // what the list of conversations was last asked for
    std::mutex watch_mutex_;        // guards `watched_` and the engine's watch against swapping the engine
    ProbeSet watched_ = 0;
    Watch* watch_ = nullptr;
    std::atomic<bool> is_busy_{false};
    std::jthread thread_;  // last: it uses the rest
};

}  // namespace vitrine
