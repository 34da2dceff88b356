// A walk over the records of a timeline, a bounded number of tokens a frame.
#include "viz/readings/walk.h"

namespace vitrine::viz {

bool TimelineWalk::is_prefix(const Timeline& timeline) const {
    if (!is_started_) return false;
    if (next_ == 0) return true;
    const auto n = static_cast<int64_t>(timeline.tokens.size());
    return next_ <= n && timeline.tokens[0].ref == first_ && timeline.tokens[next_ - 1].ref == last_ &&
           timeline.tokens[next_ - 1].id == last_id_;
}

// Records are written in order and the oldest fall out first. So a hole is a token that fell out when a later one is
// there, and one that is still to come otherwise. Looking at growing distances and at the end finds a later one.
bool TimelineWalk::is_still_to_come(const Timeline& timeline, const Trace& trace) const {
    const auto n = static_cast<int64_t>(timeline.tokens.size());
    const auto has = [&](int64_t i) {
        return trace.get(timeline.tokens[i].ref.branch, timeline.tokens[i].ref.position);
    };
    for (int64_t i = n - 1; i > next_ && i >= n - 4; --i)
        if (has(i)) return false;
    for (int64_t step = 1; next_ + step < n; step *= 2)
        if (has(next_ + step)) return false;
    return true;
}

bool TimelineWalk::advance(const Timeline& timeline, const Trace* trace, int64_t budget, int64_t cost,
                           const std::function<void()>& reset, const Visit& visit) {
    if (!is_prefix(timeline)) {
        reset();
        is_started_ = true;
        next_ = n_recorded_ = 0;
    }
    const auto n = static_cast<int64_t>(timeline.tokens.size());
    if (!trace) return false;
    bool is_hole_known = false;  // one probe of the future settles all holes until the next record
    while (next_ < n && budget > 0) {
        const TokenInfo& token = timeline.tokens[next_];
        const auto record = trace->get(token.ref.branch, token.ref.position);
        if (record) {
            visit(next_, token, *record);
            ++n_recorded_;
            budget -= cost;
            is_hole_known = false;
        } else {
            if (!is_hole_known && is_still_to_come(timeline, *trace)) return false;
            is_hole_known = true;
            --budget;
        }
        if (next_ == 0) first_ = token.ref;
        last_ = token.ref;
        last_id_ = token.id;
        ++next_;
    }
    return next_ < n;
}

}  // namespace vitrine::viz
