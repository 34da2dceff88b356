// What changes over the steps of a run by itself: learning rate, MTP weight, what the indexer does (v4-spec 10.1, 10.3).
#pragma once
#include "engine/base/config/training_config.h"
#include "engine/ops/training.h"

namespace vitrine {

// Of step (from 0). Warm-up: lr (step+1)/warmup. cosine: half a cosine from lr to lr min_lr_ratio over the last decay_steps (0:
// all after the warm-up); wsd: linear over the last decay_steps. The run's last step has lr min_lr_ratio.
double learning_rate(const TrainConfig& c, int64_t step);
bool is_decaying(const TrainConfig& c, int64_t step);
double mtp_weight(const TrainConfig& c, int64_t step);
IndexerPhase indexer_phase(const TrainConfig& c, int64_t step);

}  // namespace vitrine
