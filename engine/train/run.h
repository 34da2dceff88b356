// A training run in its folder: what `vitrine train --run` and the lab's children drive, step by step.
//
// Owner: the thread that constructs it. To pause, don't call step(). Rows are committed before step() returns; checkpoints
// follow the configuration's rhythm. After kill -9, resume() goes on from the newest checkpoint and repeats the rows after it
// bit for bit, live changes at their steps included; a row that comes out differently is logged and told as an alarm. A rollback
// takes its rows and checkpoints back.
#pragma once
#include <functional>

#include "engine/train/checkpoint.h"
#include "engine/train/measured.h"
#include "engine/train/run_folder.h"

namespace vitrine {

struct RunOptions {
    int n_threads = 1;
    int gpu = kCpu;             // or the number of an NVIDIA GPU
    Communicator* ranks = nullptr;  // several: the run is rank 0's, the others join its trainer (trainer.h); else one process
    // The disk is full: called with a message again and again until there is room (it waits a moment itself); false gives up with
    // DiskFull. Empty: half a second each time until the stop token is set.
    std::function<bool(const std::string&)> on_disk_full;
    // Before each write of rows or of a checkpoint. A test throws DiskFull from it.
    std::function<void()> before_write;
};

class TrainingRun {
  public:
    // A new folder, with a checkpoint of step 0. `texts`: files of the model that travel with its checkpoints. The description's
    // changes happen again at their steps.
    static std::unique_ptr<TrainingRun> start(const std::string& folder, const ModelConfig& model, ModelWeights weights,
                                      const TrainConfig& config, const RunDescription& description, const ModelTexts& texts,
                                      const RunOptions& options);
    static std::unique_ptr<TrainingRun> resume(const std::string& folder, const RunOptions& options);
    // A new run in `folder` that leaves `parent` at its checkpoint of `step`; `changes`: "key=value" of its configuration. What was
    // changed live in the parent after that checkpoint happens again, but for these keys. A description that names a parent
    // already is kept: a run that leaves another at its beginning repeats it.
    static std::unique_ptr<TrainingRun> rewind(const std::string& parent, int64_t step, const std::string& folder,
                                       const std::vector<std::string>& changes, RunDescription description,
                                       const RunOptions& options);

    StepReport step(std::stop_token stop = {});   // stopped: the event says why, and is recorded
    bool is_done() const { return trainer_->is_done(); }
    void change(const std::string& key, const Json& value);  // live; recorded with the next step
    void checkpoint(std::stop_token stop = {});              // now
    // What a reader of the folder sees: "running", "paused", "finished", "stopped", "failed" with its reason.
    void set_state(const std::string& state, const std::string& error = "");
    void note(const std::string& kind, const std::string& text);
    // After DiskFull: the state "stopped" as far as the disk takes it, in place of the checkpoint that did not fit. Never waits.
    void stop_without_room(const std::string& why);
    Trainer& trainer() { return *trainer_; }
    RunFolder& folder() { return folder_; }

  private:
    TrainingRun(const std::string& folder, std::unique_ptr<Trainer> trainer, ModelTexts texts, const RunOptions& options);
    void begin(const std::vector<RecordedChange>& changes);
    void with_room(const std::function<void()>& write, std::stop_token stop);
    void commit(RunFolder::Commit c, std::stop_token stop);
    void compare_with_recorded(const StepReport& r);
    void go_back_to_here(std::stop_token stop);
    void prune();

    RunFolder folder_;
    std::unique_ptr<Trainer> trainer_;
    ModelTexts texts_;
    RunOptions options_;
    ChangesAhead ahead_;                      // recorded ones, after going on or in a repeat
    std::vector<int64_t> dropped_;            // events of those that won't happen
    int64_t leaves_rows_from_ = -1;           // changed before rows that were recorded: those are of another future
    std::vector<TrainEvent> unwritten_;
    int64_t last_checkpoint_ = -1, begins_at_ = 0, written_step_ = 0;
};

}  // namespace vitrine
