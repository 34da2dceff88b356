// The window's shared state: cursor moves and requests.
#include "viz/shell/desk.h"

#include <algorithm>

namespace vitrine::viz {

namespace {

bool is_blank(const std::string& text) {
    return text.find_first_not_of(" \n\t") == std::string::npos;
}

// What takes `c` back; no commands: it can't be.
UndoStep inverse_of(const Command& c, const Snapshot& s) {
    const Conversation* shown = s.conversation.get();
    const auto sibling = [&](int64_t turn, const char* what) -> UndoStep {
        if (shown)
            for (const Turn& t : shown->path)
                if (t.id == turn) return {what, {SelectSibling{turn, t.sibling}}, s.time};
        return {};
    };
    if (const auto* x = std::get_if<SelectSibling>(&c)) return sibling(x->turn, "Switched to another branch");
    if (const auto* x = std::get_if<EditTurn>(&c)) return sibling(x->turn, "Edited a message");
    if (const auto* x = std::get_if<Regenerate>(&c)) return sibling(x->turn, "Asked for another answer");
    if (const auto* x = std::get_if<RenameConversation>(&c))
        for (const ConversationSummary& i : s.conversations)
            if (i.id == x->id)
                return {"Renamed \xE2\x80\x9C" + i.title + "\xE2\x80\x9D", {RenameConversation{i.id, i.title}}, s.time};
    const auto* opened = std::get_if<OpenConversation>(&c);
    if (shown && !shown->path.empty() &&
        (std::holds_alternative<NewConversation>(c) || (opened && opened->id != shown->id)))
        return {"Left \xE2\x80\x9C" + shown->title + "\xE2\x80\x9D", {OpenConversation{shown->id}}, s.time};
    return {};
}

}  // namespace

bool Desk::can_undo() const {
    return !undo_steps.empty() && (undo_steps.back().commands.empty() || can_send());
}

void Desk::undo() {
    if (!can_undo()) return;
    const UndoStep step = std::move(undo_steps.back());
    undo_steps.pop_back();
    if (step.commands.empty()) deleted = 0;
    for (const Command& c : step.commands)
        if (!sink.send(c))
            say(Notice::Level::warning, "The engine is busy and its queue is full: try again in a moment.");
}

void Desk::send_held_back(bool is_now) {
    if (!deleted) return;
    const auto held = [](const UndoStep& u) { return u.commands.empty(); };
    const auto it = std::find_if(undo_steps.begin(), undo_steps.end(), held);
    if (!is_now && it != undo_steps.end() && s.time - it->time < kUndoSeconds) return;
    if (!sink.send(DeleteConversation{deleted})) return;  // the queue is full: in the next frame
    std::erase_if(s.conversations, [&](const ConversationSummary& c) { return c.id == deleted; });  // until the next list comes
    deleted = 0;
    std::erase_if(undo_steps, held);
}

bool Desk::post(Command c) {
    if (const auto* x = std::get_if<DeleteConversation>(&c)) {
        send_held_back(true);
        std::string title;
        for (const ConversationSummary& i : s.conversations)
            if (i.id == x->id) title = i.title;
        const bool is_shown = s.conversation && s.conversation->id == x->id;
        if (is_shown && !sink.send(NewConversation{s.conversation->system})) return false;
        deleted = x->id;
        undo_steps.push_back({"Deleted \xE2\x80\x9C" + title + "\xE2\x80\x9D", {}, s.time, panel});
        return true;
    }
    UndoStep back = inverse_of(c, s);
    const bool generates = std::holds_alternative<SendMessage>(c) || std::holds_alternative<Regenerate>(c) ||
                           std::holds_alternative<EditTurn>(c);
    const bool compares = std::holds_alternative<CompareModes>(c);
    if (sink.send(std::move(c))) {
        // From now on, not only once the engine begins: a second click must not send twice. Idle ends it.
        s.is_generating = s.is_generating || generates;
        s.is_comparing = s.is_comparing || compares;
        back.panel = panel;
        if (!back.commands.empty()) undo_steps.push_back(std::move(back));
        if (undo_steps.size() > kMaxUndo) undo_steps.erase(undo_steps.begin());
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
    bool is_recorded = (s.conversation && s.conversation->is_recorded) || !is_in_context(ref);
    // Its record was made with other numerics than what is loaded now has.
    if (const Turn* t = answer_of(s, ref); t && s.model && !t->numerics.empty())
        is_recorded = is_recorded || t->numerics != numerics_name(s.model->numerics);
    return is_recorded ? Source::recorded : Source::live;
}

bool Desk::send_draft() {
    if (is_blank(draft) || !can_send()) return false;
    if (!post(SendMessage{draft, settings.mode, settings.sampling})) return false;
    draft.clear();
    cursor.is_live = true;
    return true;
}

bool Desk::can_compare() const {
    return can_send() && (!is_blank(draft) || last_turn("user"));
}

bool Desk::compare() {
    if (!can_compare()) return false;
    const bool is_typed = !is_blank(draft);
    if (!post(CompareModes{is_typed ? 0 : last_turn("user")->id, is_typed ? draft : "", settings.sampling})) return false;
    if (is_typed) draft.clear();
    for (size_t i = 0; i < panels.size(); ++i)
        if (std::string_view(panels[i]->name()) == "Modes") panel = static_cast<int>(i);
    return true;
}

bool Desk::open_model(const std::string& folder) {
    if (!post(LoadModel{folder})) return false;
    s.is_loading = is_opening = true;
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
