// Reports on their way to the UI: bounded, never blocking the producer, woken once per batch.
#pragma once
#include <deque>
#include <functional>
#include <mutex>
#include <vector>

#include "engine/telemetry/command.h"

namespace vitrine {

// A report that says the same as one still waiting replaces it (progress, meters, cache, times, lists) or is joined to
// it (tokens of the same turn), so a UI that stands still costs no text. What is left is bounded; what does not fit is
// counted.
class ReportQueue {
  public:
    explicit ReportQueue(std::function<void()> wake, size_t max_reports = 1024)
        : wake_(std::move(wake)), max_reports_(max_reports) {}

    void push(Update update);    // any thread
    std::vector<Update> take();  // UI thread: everything, in order. An overflow since the last call ends as a Notice.
    int64_t n_dropped() const;

  private:
    bool join_locked(Update& update);
    std::function<void()> wake_;
    size_t max_reports_;
    mutable std::mutex mutex_;
    std::deque<Update> queue_;
    int64_t n_dropped_ = 0, n_told_ = 0;
};

}  // namespace vitrine
