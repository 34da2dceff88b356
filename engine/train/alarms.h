// Alarms: which scalar crossed which line, and by how much it moved. Thresholds: docs/TRAINING.md.
#pragma once
#include <functional>
#include <vector>

#include "engine/train/trainer.h"

namespace vitrine {

// One event per scalar that is beyond its line now and has not been for 20 steps, in which it came well back; per scalar that has
// doubled within 50 steps, lies far above its own median, or has not moved for long. `before` looks a scalar up in an earlier
// row (NaN when there is none), so that a run that was gone on from tells the same alarms.
std::vector<TrainEvent> alarms_of(const StepReport& r, int64_t metrics_every,
                                  const std::function<double(int64_t step, const std::string& name)>& before);

}  // namespace vitrine
