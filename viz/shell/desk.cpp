// The window's shared state: cursor moves and requests.
#include "viz/shell/desk.h"

#include <algorithm>

namespace vitrine::viz {

bool Desk::post(Command c) {
    const bool generates = std::holds_alternative<SendMessage>(c) || std::holds_alternative<Regenerate>(c) ||
                           std::holds_alternative<EditTurn>(c);
    if (sink.send(std::move(c))) {
        // From now on, not only once the engine begins: a second click must not send twice. Idle ends it.
        s.is_generating = s.is_generating || generates;
        return true;
    }
    say(Notice::Level::warning, "The engine is busy and its queue is full: try again in a moment.");
    return false;
}

void Desk::say(Notice::Level level, const std::string& text) {
    s.apply(Notice{level, text});
}

const TokenInfo* Desk::token(TokenRef ref) const {
    if (ref.position < 0) return nullptr;
    const auto at = static_cast<size_t>(ref.position);
    if (at < s.timeline.tokens.size() && s.timeline.tokens[at].ref == ref) return &s.timeline.tokens[at];
    if (!s.conversation) return nullptr;
    for (const Turn& t : s.conversation->path) {
        if (t.tokens.empty()) continue;
        const int64_t i = ref.position - t.tokens.front().ref.position;
        if (i >= 0 && i < static_cast<int64_t>(t.tokens.size()) && t.tokens[static_cast<size_t>(i)].ref == ref)
            return &t.tokens[static_cast<size_t>(i)];
    }
    return nullptr;
}

bool Desk::is_in_context(TokenRef ref) const {
    const auto at = static_cast<size_t>(ref.position);
    return ref.position >= 0 && at < s.timeline.tokens.size() && s.timeline.tokens[at].ref == ref;
}

int64_t Desk::cursor_index() const {
    return is_in_context(cursor.token) ? cursor.token.position : -1;
}

void Desk::select(TokenRef ref) {
    cursor.token = ref;
    cursor.is_live = false;
    cursor.entry = -1;
}

void Desk::move_token(int by) {
    const auto n = static_cast<int64_t>(s.timeline.tokens.size());
    if (n == 0) return;
    const int64_t from = cursor_index() >= 0 ? cursor_index() : n - 1;
    select(s.timeline.tokens[static_cast<size_t>(std::clamp<int64_t>(from + by, 0, n - 1))].ref);
}

void Desk::move_layer(int by) {
    if (!s.model) return;
    cursor.layer = std::clamp(cursor.layer + by, 0, std::max(0, s.model->config.n_layers() - 1));
    cursor.entry = -1;
}

// The token drawn last has not been through the model yet, so its record does not exist: the one before it is shown.
void Desk::follow_live() {
    const auto n = static_cast<int64_t>(s.timeline.tokens.size());
    if (!cursor.is_live || n == 0) return;
    for (int64_t i = n - 1; i >= std::max<int64_t>(0, n - 4); --i) {
        const TokenRef ref = s.timeline.tokens[static_cast<size_t>(i)].ref;
        if (s.trace && s.trace->get(ref.branch, ref.position)) {
            cursor.token = ref;
            return;
        }
    }
    cursor.token = s.timeline.tokens.back().ref;
}

Source Desk::source(TokenRef ref) const {
    if (ref.position < 0) return Source::none;
    const bool is_recorded = (s.conversation && s.conversation->is_recorded) || !is_in_context(ref);
    return is_recorded ? Source::recorded : Source::live;
}

bool Desk::send_draft() {
    const auto is_space = [](unsigned char c) { return c == ' ' || c == '\n' || c == '\t'; };
    if (std::all_of(draft.begin(), draft.end(), is_space) || !can_send()) return false;
    if (!post(SendMessage{draft, settings.mode, settings.sampling})) return false;
    draft.clear();
    cursor.is_live = true;
    return true;
}

void Desk::stop() {
    sink.cancel();
}

const Turn* Desk::last_turn(const char* role) const {
    if (!s.conversation) return nullptr;
    for (auto t = s.conversation->path.rbegin(); t != s.conversation->path.rend(); ++t)
        if (t->role == role) return &*t;
    return nullptr;
}

void Desk::regenerate() {
    const Turn* t = last_turn("assistant");
    if (!t || !can_send()) return;
    if (post(Regenerate{t->id, settings.mode, settings.sampling})) cursor.is_live = true;
}

}  // namespace vitrine::viz
