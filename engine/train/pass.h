// One forward pass of a training step, for the trainer's own files.
#pragma once
#include <vector>

#include "engine/ops/cross_entropy/cross_entropy.h"
#include "engine/train/trainer.h"

namespace vitrine {

// Counts of a batch that is spread over ranks.
struct Trainer::Whole {
    WholeBatch batch;
    int64_t n_next = 0, n_second = 0;  // counted positions
};

// What the tape's nodes refer to stays here until backward is over.
struct Trainer::Pass {
    const Whole* whole = nullptr;  // nullptr: the batch is all of it
    TrainingStep asked;
    DelayedScales delayed;  // with fp8_activation_scale=delayed
    std::vector<Segment> segments;
    std::vector<int32_t> following, second_targets;
    CrossEntropy next, second;
    double total = 0;
};

}  // namespace vitrine
