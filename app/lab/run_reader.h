// Reads one run's folder (engine/telemetry/run_folder.h) while another process writes it: what is new since the last
// look.
//
// Nothing in the folder is trusted: a damaged file becomes the run's error. Not thread-safe: the run manager's thread.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/telemetry/lab.h"

namespace vitrine {

// What a run was asked to be; stands in the folder as request.json before its process has written anything.
struct RunRequest {
    std::string experiment, arm;
    int64_t seed = 1;
    std::map<std::string, std::string> knobs;
    std::string parent;  // rewound: the id of the run it left at parent_step
    int64_t parent_step = 0;
    std::map<std::string, std::string> changes;  // what is different from then on
};
void write_request(const std::string& folder, const RunRequest& r);  // Error(io)

class RunReader {
  public:
    explicit RunReader(std::string folder);
    ~RunReader();
    RunReader(const RunReader&) = delete;
    RunReader& operator=(const RunReader&) = delete;

    // Looks again; true when anything but scalars changed. `run().state` is what the files say, with `failed` when they
    // say that it runs and nobody holds the lock.
    bool look();
    const LabRun& run() const { return run_; }
    const RunRequest& request() const { return request_; }
    std::vector<LabEvent> take_new_events();
    std::string last_line() const;  // of what the process said

    // Rows of `metric` after `after_step`, at most `limit`, ascending. Empty: there are none.
    LabSeries read(const std::string& metric, double after_step, int64_t limit);
    // Grows when rows before the end may have changed: the process went on from a checkpoint.
    int64_t generation() const { return generation_; }

  private:
    struct Database;
    void read_description();
    void read_metrics();
    void read_names();
    void read_events();
    void read_checkpoints();
    void read_state();
    const std::string folder_;
    LabRun run_;
    RunRequest request_;
    bool has_description_ = false, has_request_ = false;
    std::map<std::string, int64_t> names_;
    std::vector<LabEvent> new_events_;
    int64_t last_event_ = 0, generation_ = 0, rollbacks_ = 0;
    std::unique_ptr<Database> db_;
};

}  // namespace vitrine
