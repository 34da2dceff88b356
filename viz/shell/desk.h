// What the parts of the window's frame share: the snapshot, the way to ask for things, the cursor, what is open.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "viz/fonts.h"
#include "viz/panel.h"
#include "viz/shell/settings.h"
#include "viz/snapshot.h"

namespace vitrine::viz {

enum class Overlay { none, palette, find, conversations, prompt, sampling, settings, open_folder, notices, keys };

// A step back: what it takes back, in words, and the request that does it.
struct UndoStep {
    std::string what;
    std::vector<Command> commands;  // empty: a deletion that was held back
    double time = 0;                // [s] when the step forward was made
    int panel = 0;                  // the view it was made at: in the next one the offer would be in the way
};

struct Desk {
    static constexpr double kUndoSeconds = 8;  // that the offer stays on the screen, and a deletion is held back
    static constexpr size_t kMaxUndo = 50;
    Snapshot& s;
    CommandSink& sink;
    Settings& settings;
    Fonts& fonts;

    Cursor cursor;
    TokenRef shown;  // the token that views show: hovered, else selected
    std::vector<std::unique_ptr<Panel>> panels;
    int panel = 0;
    Overlay overlay = Overlay::none;  // at most one; opened here, drawn by its owner
    bool is_overlay_new = false;      // opened in this frame
    std::string wanted_setting;       // that gets the keyboard when its dialog is drawn
    bool is_presenter = false;
    bool wants_quit = false, wants_input_focus = false, wants_screenshot = false;
    std::string draft;        // what is typed in the composer
    int64_t edited_turn = 0;  // 0: none
    std::string edit_text;
    double frame_ms = 0;  // smoothed, of building and drawing
    uint64_t resident_bytes = 0;
    std::string export_folder;  // where exports go by default
    bool is_opening = false;    // a model that was asked for here; it is a recent one once it is open

    void open(Overlay o) { overlay = o, is_overlay_new = true; }
    void close() { overlay = Overlay::none; }
    // Tells the user when the queue is full. What can be taken back is noted: switching and making branches (edit,
    // regenerate), renaming, leaving a conversation. A deletion is held back for kUndoSeconds, then sent.
    bool post(Command c);
    std::vector<UndoStep> undo_steps;
    int64_t deleted = 0;  // the conversation whose deletion is held back; 0: none
    bool can_undo() const;
    void undo();
    void send_held_back(bool is_now);  // once a frame, and at the end
    void say(Notice::Level level, const std::string& text);

    // The token behind a reference: of the timeline, else of a shown turn; nullptr when it is neither.
    const TokenInfo* token(TokenRef ref) const;
    bool is_in_context(TokenRef ref) const;
    int64_t cursor_index() const;  // in the timeline; -1 when the cursor is not in it
    void select(TokenRef ref);     // ends live following
    void move_token(int by);
    void move_layer(int by);
    void follow_live();  // puts the cursor on the newest token that has a record
    Source source(TokenRef ref) const;

    bool can_send() const { return s.model && !s.is_generating && !s.is_comparing && !s.is_loading && !s.model->is_gpu_lost; }
    bool is_gpu_lost() const { return s.model && s.model->is_gpu_lost && !s.is_loading; }
    bool send_draft();  // false: nothing to send
    // What is typed, in the three modes; nothing typed: the last question again. False: there is neither. Shows the view.
    bool can_compare() const;
    bool compare();
    bool can_stop() const { return s.is_generating || s.is_comparing || s.is_loading; }
    bool open_model(const std::string& folder);  // or a file in it
    void stop();  // what the engine does: an answer, the opening of a model
    const Turn* last_turn(const char* role) const;
    void regenerate();
};

}  // namespace vitrine::viz
