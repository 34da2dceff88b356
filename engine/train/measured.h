// A step with what a run tells of it besides: its speed, losses on held-out batches when they are due, alarms.
#pragma once
#include <functional>
#include <map>
#include <string>

#include "engine/train/run_folder.h"
#include "engine/train/trainer.h"

namespace vitrine {

// `before` looks a scalar up in an earlier row (alarms.h). A stop that comes during an evaluation waits for its end: the step is
// made, and its row has to be whole.
StepReport measured_step(Trainer& trainer, std::stop_token stop,
                         const std::function<double(int64_t step, const std::string& name)>& before);

// The rows of the last steps, for a run that writes none.
class RecentRows {
  public:
    void add(const StepReport& r);  // a rollback takes back what it takes back
    double scalar(int64_t step, const std::string& name) const;  // NaN when there is none

  private:
    std::map<int64_t, std::map<std::string, double>> rows_;
};

// Live changes of a recorded run that lie ahead of a trainer, which makes them when it gets there.
class ChangesAhead {
  public:
    ChangesAhead() = default;
    // Of `all`, in the order of their steps, those that come after the step and the rollbacks that the trainer has behind it.
    ChangesAhead(std::vector<RecordedChange> all, const Trainer& trainer);
    void apply(Trainer& trainer);
    std::vector<int64_t> drop(const std::string& key);  // those of a key that was changed otherwise: ids of their events
    const std::vector<RecordedChange>& all() const { return ahead_; }

  private:
    std::vector<RecordedChange> ahead_;
};

}  // namespace vitrine
