// A walk over the records of a timeline, a bounded number of tokens a frame, so that counters over a million tokens
// grow with the conversation instead of being recomputed.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

#include "engine/telemetry/chat.h"
#include "engine/telemetry/trace.h"

namespace vitrine::viz {

class TimelineWalk {
  public:
    using Visit = std::function<void(int64_t index, const TokenInfo& token, const TokenRecord& record)>;
    // Visits the tokens that came since the last call, oldest first, as far as `budget` reaches: a recorded token costs
    // `cost`, one that was not recorded 1. Calls `reset` first when what was visited is no longer a prefix of
    // `timeline` (other branch, cut tail). Stops at a token whose record is still to come. Returns whether tokens are
    // left to visit now.
    bool advance(const Timeline& timeline, const Trace* trace, int64_t budget, int64_t cost,
                 const std::function<void()>& reset, const Visit& visit);
    void restart() { is_started_ = false; }

    int64_t n_visited() const { return next_; }  // tokens passed, recorded or not
    int64_t n_recorded() const { return n_recorded_; }

  private:
    bool is_prefix(const Timeline& timeline) const;
    bool is_still_to_come(const Timeline& timeline, const Trace& trace) const;
    bool is_started_ = false;
    int64_t next_ = 0, n_recorded_ = 0;
    TokenRef first_, last_;
    int32_t last_id_ = -1;
};

}  // namespace vitrine::viz
