// A rank's part of a batch.
#pragma once
#include "engine/train/data/data.h"

namespace vitrine {

// Neighbouring whole sequences, cut where the tokens come nearest to equal shares; each rank gets at least one. The shares of
// all ranks in order are the batch. Error(bad_input) when it has fewer sequences than there are ranks.
TrainBatch share_of(const TrainBatch& batch, int rank, int size);
// Positions that a loss is a mean over.
int64_t n_counted(std::span<const int32_t> targets);

}  // namespace vitrine
