// The writing side of a run's folder (engine/telemetry/run_folder.h says what lies in it).
//
// Owner: the thread that trains. One process at a time: the lock file is held from construction to destruction. WAL: a row
// that was committed survives kill -9; a checkpoint is made durable together with the rows before it.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/json.h"
#include "engine/train/trainer.h"

namespace vitrine {

// A live change as its run's folder tells it. It happened before the step of that number was made for the (rollbacks + 1)th time.
struct RecordedChange {
    int64_t step = 0, rollbacks = 0;
    std::string key;
    Json value;
    std::string text, detail;        // of its event
    int64_t id = 0;                  // of its event
};
// In their order; none when there are no rows. Error(io), DamagedStore.
std::vector<RecordedChange> recorded_changes(const std::string& folder);

struct RunDescription {              // run.json
    std::string experiment, arm;
    std::map<std::string, std::string> knobs;
    std::vector<std::string> command;
    std::string parent;              // folder name of the run it left, at parent_step
    int64_t parent_step = 0;
    std::string from = {}, fingerprint = {};  // weights that it began with: a folder and what fingerprint_of_weights() says of it
    std::vector<RecordedChange> changes = {};  // of the run that this one repeats: they happen again
};

class RunFolder {
  public:
    // Makes the folder and run.json. Error(bad_input) when there is a run already: one that was killed before its first checkpoint
    // and has made no row is none, and what is left of it goes.
    static void describe(const std::string& folder, const RunDescription& d, const TrainConfig& config, const ModelConfig& model);
    // Opens what is there. Error(bad_input): no run, or another process runs it.
    explicit RunFolder(const std::string& folder);
    ~RunFolder();
    RunFolder(const RunFolder&) = delete;
    RunFolder& operator=(const RunFolder&) = delete;

    // One transaction: scalars at `step`, events, and what "state" says. DiskFull: nothing of it was kept.
    struct Commit {
        int64_t step = 0;
        std::vector<Scalar> scalars;
        std::vector<TrainEvent> events;
        std::map<std::string, std::string> state;
        int64_t drop_rows_from = -1;       // rolled back: the rows from this step on never happened
        std::vector<int64_t> drop_events = {};  // changes that lay ahead and will not happen
    };
    void commit(const Commit& c);
    void make_durable();                        // everything committed is on the disk
    void log(const std::string& line);          // never fails: a log that can't be written is lost
    // Tells readers that the run waits for room, or no longer does. Needs no room itself, and ends with the process.
    void set_waits_for_room(bool waits);
    double scalar(int64_t step, const std::string& name, double otherwise);
    std::string state(const std::string& key);
    const std::string& path() const { return path_; }

  private:
    struct Impl;
    std::string path_;
    std::unique_ptr<Impl> impl_;
};

}  // namespace vitrine
