// The table of actions.
#include "viz/shell/actions.h"

#include <algorithm>
#include <cstring>

#include "viz/widgets/registry.h"

namespace vitrine::viz {
namespace {

std::string key_name(Key k) {
#define X(n, code) \
    if (k == Key::k##n) return #n;
    VITRINE_KEYS(X)
#undef X
    return "?";
}

Shortcut keys(Key k, int mods = kNoMod, bool works_in_text = false, bool repeats = false) {
    return {k, mods, true, works_in_text || (mods & kCtrl) != 0, repeats};
}

void add_file(std::vector<Action>& a, Desk& d) {
    a.push_back({"chat.new", "New chat", "File", keys(Key::kN, kCtrl), [&d] {
                     d.post(NewConversation{d.s.conversation ? d.s.conversation->system : ""});
                     d.wants_input_focus = true;
                 }});
    a.push_back({"chat.list", "Conversations\xE2\x80\xA6", "File", keys(Key::kH, kCtrl),
                 [&d] { d.open(Overlay::conversations); }});
    a.push_back({"model.open", "Open model folder\xE2\x80\xA6", "File", keys(Key::kO, kCtrl),
                 [&d] { d.open(Overlay::open_folder); }});
    const auto has_chat = [&d] { return d.s.conversation && !d.s.conversation->path.empty(); };
    const auto path = [&d](const char* extension) {
        return d.export_folder + "/conversation-" + std::to_string(d.s.conversation ? d.s.conversation->id : 0) +
               extension;
    };
    a.push_back({"export.markdown",
                 "Export as Markdown",
                 "File",
                 keys(Key::kE, kCtrl),
                 [&d, path] {
                     d.post(ExportConversation{path(".md"), false});
                 },
                 has_chat,
                 {},
                 true});
    a.push_back({"export.json", "Export as JSON", "File", keys(Key::kE, kCtrl | kShift),
                 [&d, path] {
                     d.post(ExportConversation{path(".json"), true});
                 },
                 has_chat});
    a.push_back({"screenshot", "Save a picture of the window", "File", keys(Key::kF12, kNoMod, true),
                 [&d] { d.wants_screenshot = true; }});
    a.push_back({"settings",
                 "Settings\xE2\x80\xA6",
                 "File",
                 keys(Key::kComma, kCtrl),
                 [&d] { d.open(Overlay::settings); },
                 {},
                 {},
                 true});
    a.push_back({"quit", "Quit", "File", keys(Key::kQ, kCtrl), [&d] { d.wants_quit = true; }});
}

void add_chat(std::vector<Action>& a, Desk& d) {
    // Not in a text field: the composer has Ctrl+Enter for itself, and the field's own copy of the text would be sent
    // again.
    Shortcut send = keys(Key::kEnter, kCtrl);
    send.works_in_text = false;
    Shortcut compare = keys(Key::kM, kCtrl);
    compare.works_in_text = false;
    a.push_back({"chat.send", "Send the message", "Chat", send, [&d] { d.send_draft(); },
                 [&d] { return d.can_send() && !d.draft.empty(); }});
    a.push_back({"chat.compare", "Compare the three modes", "Chat", compare, [&d] { d.compare(); },
                 [&d] { return d.can_compare(); }});
    a.push_back({"chat.stop", "Stop", "Chat", {}, [&d] { d.stop(); }, [&d] { return d.can_stop(); }});
    a.push_back({"chat.regenerate", "Regenerate the answer", "Chat", keys(Key::kR, kCtrl), [&d] { d.regenerate(); },
                 [&d] { return d.can_send() && d.last_turn("assistant"); }});
    a.push_back({"chat.edit",
                 "Edit the last question",
                 "Chat",
                 {},
                 [&d] {
                     const Turn* t = d.last_turn("user");
                     d.edited_turn = t->id, d.edit_text = t->content;
                 },
                 [&d] { return d.can_send() && d.last_turn("user"); }});
    a.push_back({"undo", "Undo", "Chat", [] {
                     Shortcut z = keys(Key::kZ, kCtrl);
                     z.works_in_text = false;  // there it is the field's own
                     return z;
                 }(), [&d] { d.undo(); }, [&d] { return d.can_undo(); }});
    a.push_back({"chat.prompt",
                 "Show the rendered prompt",
                 "Chat",
                 keys(Key::kP, kCtrl),
                 [&d] { d.open(Overlay::prompt); },
                 [&d] { return !d.s.timeline.tokens.empty(); },
                 {},
                 true});
    a.push_back({"chat.sampling", "Sampling and system text\xE2\x80\xA6", "Chat", {}, [&d] { d.open(Overlay::sampling); }});
    for (int i = 0; i < 3; ++i) {
        static const char* ids[] = {"mode.non-think", "mode.high", "mode.max"};
        const Mode m = static_cast<Mode>(i);
        a.push_back({ids[i],
                     std::string("Mode: ") + mode_title(m),
                     "Chat",
                     {},
                     [&d, m] { d.settings.mode = m; },
                     {},
                     [&d, m] { return d.settings.mode == m; },
                     i == 0});
    }
}

void add_view(std::vector<Action>& a, Desk& d) {
    static const Key digits[] = {Key::k1, Key::k2, Key::k3, Key::k4, Key::k5, Key::k6, Key::k7, Key::k8, Key::k9};
    for (size_t i = 0; i < d.panels.size() && i < 9; ++i)
        a.push_back({d.panels[i]->name(),
                     std::string("View: ") + d.panels[i]->name(),
                     "View",
                     keys(digits[i]),
                     [&d, i] { d.panel = static_cast<int>(i); },
                     {},
                     [&d, i] { return d.panel == static_cast<int>(i); }});
    a.push_back({"cursor.live",
                 "Follow the newest token",
                 "View",
                 keys(Key::kL),
                 [&d] { d.cursor.is_live = true; },
                 {},
                 [&d] { return d.cursor.is_live; },
                 true});
    a.push_back({"cursor.previous", "Previous token", "View", keys(Key::kLeftArrow, kNoMod, false, true),
                 [&d] { d.move_token(-1); }});
    a.push_back(
        {"cursor.next", "Next token", "View", keys(Key::kRightArrow, kNoMod, false, true), [&d] { d.move_token(1); }});
    a.push_back({"cursor.first", "First token", "", keys(Key::kHome), [&d] { d.move_token(-(1 << 30)); }});
    a.push_back({"cursor.last", "Last token", "", keys(Key::kEnd), [&d] { d.move_token(1 << 30); }});
    a.push_back({"layer.previous", "Layer above", "View", keys(Key::kUpArrow, kNoMod, false, true),
                 [&d] { d.move_layer(-1); }});
    a.push_back(
        {"layer.next", "Layer below", "View", keys(Key::kDownArrow, kNoMod, false, true), [&d] { d.move_layer(1); }});
    a.push_back({"chat.fold",
                 "Chat pane",
                 "View",
                 keys(Key::kB, kCtrl),
                 [&d] { d.settings.is_chat_open = !d.settings.is_chat_open; },
                 {},
                 [&d] { return d.settings.is_chat_open; },
                 true});
    a.push_back({"presenter",
                 "Presenter mode",
                 "View",
                 keys(Key::kF11, kNoMod, true),
                 [&d] { d.is_presenter = !d.is_presenter; },
                 {},
                 [&d] { return d.is_presenter; }});
    a.push_back({"theme",
                 "Dark theme",
                 "View",
                 {},
                 [&d] { d.settings.is_dark = !d.settings.is_dark; },
                 {},
                 [&d] { return d.settings.is_dark; }});
    const auto scale = [&d](float by) {
        d.settings.font_scale = std::clamp(by == 0 ? 1.0f : d.settings.font_scale + by, 0.6f, 3.0f);
    };
    a.push_back(
        {"text.larger", "Larger text", "View", keys(Key::kEqual, kCtrl), [scale] { scale(0.1f); }, {}, {}, true});
    a.push_back({"text.smaller", "Smaller text", "View", keys(Key::kMinus, kCtrl), [scale] { scale(-0.1f); }});
    a.push_back({"text.normal", "Normal text size", "View", keys(Key::k0, kCtrl), [scale] { scale(0); }});
}

void add_rest(std::vector<Action>& a, Desk& d) {
    const auto is_idle = [&d] { return d.can_send(); };
    for (int i = 0; i < 2; ++i) {
        const Numerics n = static_cast<Numerics>(i);
        a.push_back({i ? "numerics.reference" : "numerics.exact",
                     std::string("Numerics: ") + numerics_name(n),
                     "Model",
                     {},
                     [&d, n] { d.post(SetNumerics{n}); },
                     is_idle,
                     [&d, n] { return d.s.model && d.s.model->numerics == n; }});
    }
    static constexpr const char* kDeviceIds[] = {"device.cpu", "device.cuda0", "device.cuda1", "device.cuda2", "device.cuda3"};
    for (int gpu = kCpu; gpu < 4; ++gpu)
        a.push_back({kDeviceIds[gpu + 1],
                     gpu == kCpu ? "Run on the CPU" : "Run on NVIDIA GPU " + std::to_string(gpu),
                     gpu <= 0 ? "Model" : "",
                     {},
                     [&d, gpu] { d.post(SetDevice{gpu}); },
                     [&d, gpu] {
                         return (d.can_send() || d.is_gpu_lost()) && d.s.model &&
                                gpu < static_cast<int>(d.s.model->gpus.size());
                     },
                     [&d, gpu] { return d.s.model && d.s.model->gpu == gpu; }});
    a.push_back(
        {"palette", "Command palette\xE2\x80\xA6", "Help", keys(Key::kK, kCtrl), [&d] { d.open(Overlay::palette); }});
    a.push_back({"find", "Find in text, experts, layers, settings\xE2\x80\xA6", "Help", keys(Key::kF, kCtrl),
                 [&d] { d.open(Overlay::find); }});
    a.push_back({"keys", "Keyboard", "Help", keys(Key::kF1, kNoMod, true), [&d] { d.open(Overlay::keys); }});
    a.push_back({"notices", "Notices", "Help", {}, [&d] { d.open(Overlay::notices); }});
    a.push_back({"focus.input", "Write a message", "", keys(Key::kSlash), [&d] {
                     d.settings.is_chat_open = true;
                     d.wants_input_focus = true;
                 }});
}

}  // namespace

std::string Shortcut::to_string() const {
    if (!is_set) return "";
    std::string name = key_name(key);
    const std::pair<const char*, const char*> signs[] = {{"LeftArrow", "\xE2\x86\x90"},
                                                         {"RightArrow", "\xE2\x86\x92"},
                                                         {"UpArrow", "\xE2\x86\x91"},
                                                         {"DownArrow", "\xE2\x86\x93"},
                                                         {"Equal", "+"},
                                                         {"Minus", "\xE2\x88\x92"},
                                                         {"Slash", "/"},
                                                         {"Comma", ","},
                                                         {"Escape", "Esc"}};
    for (const auto& [from, to] : signs)
        if (name == from) name = to;
    return std::string(mods & kCtrl ? "Ctrl+" : "") + (mods & kShift ? "Shift+" : "") + (mods & kAlt ? "Alt+" : "") +
           name;
}

std::vector<Action> make_actions(Desk& d) {
    std::vector<Action> all;
    add_file(all, d);
    add_view(all, d);
    add_chat(all, d);
    add_rest(all, d);
    return all;
}

std::vector<Action> panel_actions(Desk& d) {
    std::vector<Action> all;
    for (size_t i = 0; i < d.panels.size(); ++i)
        for (PanelAction& a : d.panels[i]->actions(d.s)) {
            const bool is_enabled = a.is_enabled;
            all.push_back({d.panels[i]->name(), std::move(a.title), d.panels[i]->name(), {},
                           [&d, i, run = std::move(a.run)] {
                               d.panel = static_cast<int>(i);
                               run(d.s, d.sink);
                           },
                           [is_enabled] { return is_enabled; }, {}, a.has_separator});
        }
    return all;
}

void run_shortcuts(const std::vector<Action>& actions, bool is_text_focused) {
    const int mods = current_mods();
    for (const Action& a : actions) {
        const Shortcut& k = a.shortcut;
        if (!k.is_set || k.mods != mods || (is_text_focused && !k.works_in_text)) continue;
        if (!key_pressed(k.key, k.repeats)) continue;
        if (!a.is_enabled || a.is_enabled()) a.run();
        return;
    }
}

void draw_menu_items(const std::vector<Action>& actions, const char* menu) {
    for (const Action& a : actions) {
        if (std::strcmp(a.menu, menu) != 0) continue;
        if (a.has_separator) ImGui::Separator();
        const bool is_checked = a.is_checked && a.is_checked(), is_enabled = !a.is_enabled || a.is_enabled();
        const std::string keys = a.shortcut.to_string();
        if (ImGui::MenuItem(a.title.c_str(), keys.empty() ? nullptr : keys.c_str(), is_checked, is_enabled)) a.run();
        ui::mark(a.title);
        if (!keys.empty()) ui::note_text(keys);
    }
}

}  // namespace vitrine::viz
