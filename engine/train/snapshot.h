// The trainer's state as bytes: for rolling back in memory, and for checkpoints. Private to trainer*.cpp.
#pragma once
#include "engine/train/trainer.h"

namespace vitrine {

struct Trainer::Snapshot {
    int64_t step = 0;
    std::vector<std::vector<std::byte>> arrays;  // as weight_arrays() lists them
    Json counters;
};

// What a step leaves to say where a spike came from, by leaf.
struct Trainer::Norms {
    std::vector<double> gradient_squares;
    std::vector<UpdateSums> updates;
};

}  // namespace vitrine
