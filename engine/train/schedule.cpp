// What changes over the steps of a run by itself.
#include "engine/train/schedule.h"

#include <algorithm>
#include <cmath>

namespace vitrine {
namespace {

int64_t first_decaying(const TrainConfig& c) {
    if (c.schedule == ScheduleKind::constant) return c.steps;
    const bool is_all = c.schedule == ScheduleKind::cosine && c.decay_steps == 0;
    return is_all ? c.warmup_steps : std::max(c.warmup_steps, c.steps - c.decay_steps);
}

}  // namespace

bool is_decaying(const TrainConfig& c, int64_t step) {
    return c.schedule != ScheduleKind::constant && step >= first_decaying(c);
}

double learning_rate(const TrainConfig& c, int64_t step) {
    if (step < c.warmup_steps) return c.lr * static_cast<double>(step + 1) / static_cast<double>(c.warmup_steps);
    if (!is_decaying(c, step)) return c.lr;
    const int64_t first = first_decaying(c);
    const double done =
        std::min(1.0, static_cast<double>(step - first + 1) / static_cast<double>(std::max<int64_t>(1, c.steps - first)));
    const double left = c.schedule == ScheduleKind::wsd ? 1 - done : 0.5 * (1 + std::cos(3.14159265358979323846 * done));
    return c.lr * (c.min_lr_ratio + (1 - c.min_lr_ratio) * left);
}

double mtp_weight(const TrainConfig& c, int64_t step) { return is_decaying(c, step) ? c.mtp_weight_in_decay : c.mtp_weight; }

IndexerPhase indexer_phase(const TrainConfig& c, int64_t step) {
    if (c.indexer == IndexerMode::dense) return IndexerPhase::dense;
    if (c.indexer == IndexerMode::warm_up) return IndexerPhase::warm_up;
    if (c.indexer == IndexerMode::sparse) return IndexerPhase::sparse;
    if (step < c.indexer_dense_steps) return IndexerPhase::dense;
    return step < c.indexer_dense_steps + c.indexer_warmup_steps ? IndexerPhase::warm_up : IndexerPhase::sparse;
}

}  // namespace vitrine
