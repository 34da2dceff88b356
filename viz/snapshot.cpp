// How each report of the engine changes the snapshot.
#include "viz/snapshot.h"

#include <algorithm>

namespace vitrine::viz {
namespace {

constexpr size_t kMaxNotices = 50;

struct Applier {
    Snapshot& s;

    void operator()(ModelLoaded&& u) const {
        const bool is_other = !s.model || !u.info || s.model->folder != u.info->folder;
        s.model = std::move(u.info);
        s.knows_curriculum = u.knows_curriculum;
        s.is_loading = false;
        s.progress = {};
        if (is_other) s.histograms.clear(), s.times = {}, s.meters = {}, s.cache = {};
        s.comparison = nullptr;  // made with other weights, numerics or another device
    }
    void operator()(ConversationChanged&& u) const {
        const bool is_other = !s.conversation || !u.conversation || s.conversation->id != u.conversation->id;
        s.conversation = std::move(u.conversation);
        if (is_other && !s.is_generating) s.timeline = {}, s.cache = {}, ++s.timeline_version;
    }
    void operator()(ConversationsListed&& u) const { s.conversations = std::move(u.list); }
    void operator()(TimelineStarted&& u) const {
        if (u.timeline) s.timeline = *u.timeline;
        ++s.timeline_version;
        s.is_generating = true;
        s.live_turn = 0;
        s.live_reasoning.clear();
        s.live_content.clear();
        s.live_tokens.clear();
    }
    void operator()(TokensAppended&& u) const {
        s.is_generating = true;
        s.live_turn = u.turn;
        s.progress = {};
        s.live_reasoning += u.reasoning_delta;
        s.live_content += u.content_delta;
        s.timeline.tokens.insert(s.timeline.tokens.end(), u.tokens.begin(), u.tokens.end());
        s.live_tokens.insert(s.live_tokens.end(), std::make_move_iterator(u.tokens.begin()),
                             std::make_move_iterator(u.tokens.end()));
    }
    void operator()(Progress&& u) const { s.progress = std::move(u); }
    void operator()(Finished&& u) const {
        end_of_work();
        s.meters.tokens_per_s = u.stats.tokens_per_s;
    }
    void operator()(ComparisonChanged&& u) const { s.comparison = std::move(u.comparison); }
    void operator()(CacheChanged&& u) const { s.cache = std::move(u.report); }
    void operator()(OpTimesChanged&& u) const { s.times = std::move(u); }
    void operator()(Meters&& u) const { s.meters = u; }
    void operator()(HistogramMade&& u) const { s.histograms[u.histogram.name] = std::move(u.histogram); }
    void operator()(RecordReady&&) const {}
    void operator()(Notice&& u) const {
        s.notices.push_back({std::move(u), s.time});
        while (s.notices.size() > kMaxNotices) s.notices.pop_front();
    }
    void operator()(Idle&&) const { end_of_work(); }
    void operator()(LabUpdate&& u) const {
        if (auto* problem = std::get_if<LabProblem>(&u))
            (*this)(Notice{problem->is_error ? Notice::Level::error : Notice::Level::info, std::move(problem->text)});
        s.lab.apply(std::move(u));
    }

    void end_of_work() const {
        s.is_generating = s.is_loading = s.is_comparing = false;
        s.progress = {};
        s.live_reasoning.clear();
        s.live_content.clear();
        s.live_tokens.clear();
        s.live_turn = 0;
    }
};

}  // namespace

const Turn* answer_of(const Snapshot& s, TokenRef token) {
    if (!s.conversation || token.position < 0) return nullptr;
    for (const Turn& t : s.conversation->path) {
        if (t.role != "assistant") continue;
        if (!t.tokens.empty() && t.tokens.front().ref.branch == token.branch && token.position <= t.tokens.back().ref.position)
            return &t;
    }
    if (s.conversation->path.empty()) return nullptr;
    const Turn& last = s.conversation->path.back();  // it grows: its tokens are in the timeline
    return last.role == "assistant" && !last.is_complete && token.branch == s.timeline.branch ? &last : nullptr;
}

std::string other_model(const Snapshot& s, TokenRef token) {
    const Turn* t = answer_of(s, token);
    return t && s.model && t->model != s.model->folder ? t->model : std::string();
}

void Snapshot::apply(Update update) {
    std::visit([this](auto&& u) { Applier{*this}(std::move(u)); }, std::move(update));
    ++version;
}

}  // namespace vitrine::viz
