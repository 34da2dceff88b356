// Reports on their way to the UI.
#include "app/report_queue.h"

#include <iterator>

namespace vitrine {
namespace {

bool is_latest_wins(const Update& u) {
    return std::holds_alternative<Progress>(u) || std::holds_alternative<Meters>(u) ||
           std::holds_alternative<CacheChanged>(u) || std::holds_alternative<ComparisonChanged>(u) ||
           std::holds_alternative<OpTimesChanged>(u) ||
           std::holds_alternative<ConversationsListed>(u);
}

}  // namespace

bool ReportQueue::join_locked(Update& update) {
    if (auto* tokens = std::get_if<TokensAppended>(&update)) {
        if (queue_.empty()) return false;
        auto* last = std::get_if<TokensAppended>(&queue_.back());
        if (!last || last->turn != tokens->turn) return false;
        last->tokens.insert(last->tokens.end(), std::make_move_iterator(tokens->tokens.begin()),
                            std::make_move_iterator(tokens->tokens.end()));
        last->reasoning_delta += tokens->reasoning_delta;
        last->content_delta += tokens->content_delta;
        return true;
    }
    if (!is_latest_wins(update)) return false;
    for (auto it = queue_.rbegin(); it != queue_.rend(); ++it) {
        if (it->index() == update.index()) {
            *it = std::move(update);
            return true;
        }
        // Not past the edges of a piece of work: its progress must not show up in the one before.
        if (std::holds_alternative<TimelineStarted>(*it) || std::holds_alternative<Finished>(*it) ||
            std::holds_alternative<ModelLoaded>(*it))
            return false;
    }
    return false;
}

void ReportQueue::push(Update update) {
    bool was_empty;
    {
        const std::lock_guard lock(mutex_);
        was_empty = queue_.empty();
        // Tokens after tokens are joined, so that they stay next to each other: whatever comes between is replaced in
        // place.
        if (!join_locked(update)) {
            if (queue_.size() >= max_reports_)
                ++n_dropped_;
            else
                queue_.push_back(std::move(update));
        }
    }
    if (was_empty && wake_) wake_();
}

std::vector<Update> ReportQueue::take() {
    std::deque<Update> taken;
    int64_t n_new;
    {
        const std::lock_guard lock(mutex_);
        taken.swap(queue_);
        n_new = n_dropped_ - n_told_;
        n_told_ = n_dropped_;
    }
    std::vector<Update> out(std::make_move_iterator(taken.begin()), std::make_move_iterator(taken.end()));
    if (n_new > 0)
        out.push_back(
            Notice{Notice::Level::warning,
                   std::to_string(n_new) + " reports of the engine were dropped: the window did not keep up."});
    return out;
}

int64_t ReportQueue::n_dropped() const {
    const std::lock_guard lock(mutex_);
    return n_dropped_;
}

}  // namespace vitrine
