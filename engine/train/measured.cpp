// A step with what a run tells of it besides.
#include "engine/train/measured.h"

#include <chrono>
#include <cmath>
#include <utility>

#include "engine/telemetry/run_folder.h"
#include "engine/train/alarms.h"

namespace vitrine {

StepReport measured_step(Trainer& trainer, std::stop_token stop,
                         const std::function<double(int64_t step, const std::string& name)>& before) {
    const auto start = std::chrono::steady_clock::now();
    StepReport r = trainer.step(stop);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (r.status != StepReport::Status::done) return r;
    r.scalars.push_back({run_folder::kTokensPerSecond, static_cast<double>(r.n_tokens) / seconds});
    const TrainConfig& c = trainer.config();
    if (c.eval_every > 0 && trainer.next_step() % c.eval_every == 0)
        for (const Scalar& s : trainer.evaluate()) r.scalars.push_back(s);
    for (TrainEvent& e : alarms_of(r, c.metrics_every, before)) r.events.push_back(std::move(e));
    return r;
}

void RecentRows::add(const StepReport& r) {
    constexpr size_t kKept = 300;  // alarms look 200 steps back, and one measurement
    rows_.erase(rows_.lower_bound(r.step), rows_.end());  // made for the second time, after a rollback
    if (r.status == StepReport::Status::rolled_back) return;
    for (const Scalar& s : r.scalars) rows_[r.step][s.name] = s.value;
    if (rows_.size() > kKept) rows_.erase(rows_.begin());
}

double RecentRows::scalar(int64_t step, const std::string& name) const {
    const auto row = rows_.find(step);
    if (row == rows_.end()) return NAN;
    const auto at = row->second.find(name);
    return at == row->second.end() ? NAN : at->second;
}

ChangesAhead::ChangesAhead(std::vector<RecordedChange> all, const Trainer& trainer) {
    const std::pair here(trainer.n_rollbacks(), trainer.next_step());
    for (RecordedChange& c : all)
        if (std::pair(c.rollbacks, c.step) >= here) ahead_.push_back(std::move(c));
    // One that was made after going on from a checkpoint may come before one that was made earlier.
    std::stable_sort(ahead_.begin(), ahead_.end(), [](const RecordedChange& a, const RecordedChange& b) {
        return std::pair(a.rollbacks, a.step) < std::pair(b.rollbacks, b.step);
    });
}

void ChangesAhead::apply(Trainer& trainer) {
    const std::pair here(trainer.n_rollbacks(), trainer.next_step());
    size_t n = 0;
    for (; n < ahead_.size() && std::pair(ahead_[n].rollbacks, ahead_[n].step) <= here; ++n)
        trainer.change(ahead_[n].key, ahead_[n].value);
    ahead_.erase(ahead_.begin(), ahead_.begin() + static_cast<std::ptrdiff_t>(n));
}

std::vector<int64_t> ChangesAhead::drop(const std::string& key) {
    std::vector<int64_t> ids;
    std::erase_if(ahead_, [&](const RecordedChange& c) {
        if (c.key == key) ids.push_back(c.id);
        return c.key == key;
    });
    return ids;
}

}  // namespace vitrine
