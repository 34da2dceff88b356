// The window's frame: what goes where, keys, and the windows over it.
#include "viz/shell/workspace.h"

#include <imgui_internal.h>

#include <algorithm>
#include <cctype>

#include "viz/shell/suggestions.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/export.h"
#include "viz/widgets/splitter.h"

namespace vitrine::viz {
namespace {

constexpr float kNarrow = 1100, kMinChat = 360, kMinView = 420;  // design pixels
constexpr double kInfoSeconds = 6, kWarningSeconds = 12;

struct OverlayLook {
    const char* title;
    float width, height;  // design pixels; 0: as tall as its content
};
OverlayLook look_of(Overlay o) {
    switch (o) {
        case Overlay::palette:
            return {"", 620, 440};
        case Overlay::find:
            return {"", 620, 440};
        case Overlay::conversations:
            return {"Conversations", 720, 560};
        case Overlay::prompt:
            return {"What the model reads", 1000, 640};
        case Overlay::sampling:
            return {"Sampling and system text", 540, 0};
        case Overlay::settings:
            return {"Settings", 520, 0};
        case Overlay::open_folder:
            return {"Open a model folder", 640, 560};
        case Overlay::notices:
            return {"Notices", 600, 420};
        case Overlay::keys:
            return {"Keyboard", 560, 560};
        case Overlay::none:
            break;
    }
    return {"", 400, 300};
}

bool same_name(std::string_view a, std::string_view b) {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](unsigned char x, unsigned char y) {
               return std::tolower(x) == std::tolower(y);
           });
}

}  // namespace

Workspace::Workspace(Snapshot& s, CommandSink& sink, Settings& settings, Fonts& fonts)
    : desk_{s, sink, settings, fonts, {}, {}, make_panels()} {
    actions_ = make_actions(desk_);
    show_panel(settings.panel);
    desk_.wants_input_focus = true;
    for (const std::string& f : settings.recent_folders) fonts.note_text(f);
}

bool Workspace::show_panel(std::string_view name) {
    for (size_t i = 0; i < desk_.panels.size(); ++i)
        if (same_name(desk_.panels[i]->name(), name)) {
            desk_.panel = static_cast<int>(i);
            return true;
        }
    return false;
}

bool Workspace::run_action(std::string_view name) {
    for (const Action& a : actions_)
        if (same_name(a.id, name) || same_name(a.title, name)) {
            if (a.is_enabled && !a.is_enabled()) return false;
            a.run();
            return true;
        }
    return false;
}

bool Workspace::is_animating() const {
    const Snapshot& s = desk_.s;
    const bool has_undo = !desk_.undo_steps.empty() && s.time - desk_.undo_steps.back().time < Desk::kUndoSeconds + 1;
    return s.is_generating || s.is_comparing || s.is_loading || has_undo || desk_.deleted || ui::is_exporting() ||
           desk_.overlay == Overlay::find ||
           desk_.overlay == Overlay::open_folder ||
           (!s.notices.empty() && s.time - s.notices.back().time < kWarningSeconds);
}

void Workspace::drop_files(const std::vector<std::string>& paths) {
    if (!paths.empty()) desk_.open_model(paths.front());
}

// Before anything is drawn: the cursor stays inside the model, follows live, and its record is looked up once.
void Workspace::prepare() {
    Snapshot& s = desk_.s;
    if (s.model.get() != last_model_) {
        last_model_ = s.model.get();
        const bool is_other = !s.model || s.model->folder != last_folder_;  // else: other numerics, another device
        if (is_other) desk_.cursor = {};
        if (s.model && is_other) {  // sampling starts from what the model's authors ask for
            last_folder_ = s.model->folder;
            Sampling& own = desk_.settings.sampling;
            const Sampling& asked = s.model->sampling;
            own.temperature = asked.temperature, own.top_k = asked.top_k, own.top_p = asked.top_p, own.min_p = asked.min_p;
            own.repetition_penalty = asked.repetition_penalty;
        }
        if (desk_.is_opening && s.model) desk_.settings.add_recent(s.model->folder);
        if (s.knows_curriculum)
            for (const Suggestion& x : suggestions()) desk_.fonts.note_text(std::string(x.skill) + x.chinese);
        if (s.model && is_other) desk_.cursor.layer = std::min(4, std::max(0, s.model->config.n_layers() - 1));
    }
    desk_.is_opening = desk_.is_opening && s.is_loading;
    if (const int64_t id = s.conversation ? s.conversation->id : 0; id != last_conversation_) {
        // The token under the cursor is another conversation's.
        last_conversation_ = id;
        if (!desk_.is_in_context(desk_.cursor.token)) desk_.cursor.token = {}, desk_.cursor.entry = -1, desk_.cursor.is_live = true;
    }
    ImGui::GetIO().ConfigInputTextCursorBlink = !desk_.settings.has_reduced_motion;
    desk_.panel = std::clamp(desk_.panel, 0, static_cast<int>(desk_.panels.size()) - 1);
    desk_.settings.panel = desk_.panels[static_cast<size_t>(desk_.panel)]->name();
    desk_.follow_live();
    desk_.shown = desk_.cursor.hover.position >= 0 ? desk_.cursor.hover : desk_.cursor.token;
    desk_.cursor.hover = {};
    const TokenRef ref = desk_.shown;
    record_ = s.trace && ref.position >= 0 ? s.trace->get(ref.branch, ref.position) : nullptr;
    watch_probes();
    tend_exports();
    desk_.send_held_back(desk_.wants_quit);
}

void Workspace::watch_probes() {
    const ProbeSet wanted = base_probes() | desk_.panels[static_cast<size_t>(desk_.panel)]->probes();
    if (has_watched_ && wanted == watched_) return;
    desk_.sink.set_watch(wanted);
    watched_ = wanted, has_watched_ = true;
}

void Workspace::handle_keys() {
    is_text_focused_ = ImGui::GetIO().WantTextInput;
    if (key_pressed(Key::kEscape, false)) {
        if (desk_.overlay == Overlay::sampling && is_text_focused_)
            ImGui::ClearActiveID();  // leaves the field: what was typed there counts
        else if (desk_.overlay != Overlay::none)
            desk_.close();
        else if (ImGui::IsPopupOpen(nullptr, ImGuiPopupFlags_AnyPopup))
            ImGui::ClosePopupToLevel(0, true);
        else if (desk_.edited_turn)
            desk_.edited_turn = 0;
        else if (desk_.can_stop())
            desk_.stop();
        else if (!desk_.s.notices.empty() && desk_.s.notices.back().time > dismissed_until_ &&
                 desk_.s.notices.back().notice.level == Notice::Level::error)
            dismissed_until_ = desk_.s.notices.back().time;
        else if (is_text_focused_)
            ImGui::ClearActiveID();
        else if (desk_.is_presenter)
            desk_.is_presenter = false;
        else
            desk_.cursor.expert = desk_.cursor.entry = desk_.cursor.head = -1, desk_.cursor.is_live = true;
        return;
    }
    const bool is_modal = desk_.overlay != Overlay::none;
    run_shortcuts(actions_, is_text_focused_ || is_modal);
}

void Workspace::frame() {
    handle_keys();
    prepare();
    const ImGuiViewport* screen = ImGui::GetMainViewport();
    ImGui::SetNextWindowPos(screen->Pos);
    ImGui::SetNextWindowSize(screen->Size);
    ImGui::PushStyleVar(ImGuiStyleVar_WindowRounding, 0);
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(px(10), px(6)));
    constexpr ImGuiWindowFlags kFlags = ImGuiWindowFlags_NoDecoration | ImGuiWindowFlags_NoBackground |
                                        ImGuiWindowFlags_NoMove | ImGuiWindowFlags_NoBringToFrontOnFocus |
                                        ImGuiWindowFlags_NoSavedSettings | ImGuiWindowFlags_NoNavInputs |
                                        ImGuiWindowFlags_MenuBar;
    // The window has no background of its own: the cleared frame shows through, which saves filling every pixel once.
    ImGui::PushStyleVar(ImGuiStyleVar_FramePadding, ImVec2(px(8), px(10)));
    ImGui::Begin("Vitrine", nullptr, kFlags);
    ImGui::PopStyleVar();
    draw_menu_bar();
    ImGui::PopStyleVar(2);
    const float gap = px(8), status = ImGui::GetTextLineHeight() + px(6);
    ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2(gap, gap));
    const ImVec2 room = ImGui::GetContentRegionAvail();
    const float strip = desk_.is_presenter ? 0 : TokenStrip::height() + gap;
    draw_body({room.x, std::max(px(120), room.y - strip - status - gap)});
    if (!desk_.is_presenter) {
        ImGui::PopStyleVar();
        strip_.draw(desk_);
        ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2(gap, gap));
    }
    ImGui::PopStyleVar();
    draw_status_bar();
    draw_overlay();
    ImGui::End();
    draw_toasts();
    desk_.is_overlay_new = false;
}

void Workspace::draw_body(ImVec2 size) {
    const ImVec2 p = ImGui::GetCursorScreenPos();
    const ImVec2 spacing = ImGui::GetStyle().ItemSpacing;
    const float bar = px(ui::kSplitterWidth);
    const bool is_narrow = ImGui::GetIO().DisplaySize.x < px(kNarrow);
    const bool is_side = desk_.settings.is_chat_open && !is_narrow && !desk_.is_presenter;
    float chat = 0;
    if (is_side) {
        chat =
            ui::splitter("chat splitter", true, desk_.settings.chat_ratio, size.x, size.y, px(kMinChat), px(kMinView));
        ui::Region region("chat side", {chat, size.y},
                          ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
        ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2(px(8), px(8)));
        chat_.draw(desk_);
        ImGui::PopStyleVar();
    }
    const float left = is_side ? chat + bar : 0, caption = desk_.is_presenter ? size.y * 0.22f : 0;
    ImGui::SetCursorScreenPos({p.x + left, p.y});
    {
        ui::Region region("view side", {size.x - left, size.y - caption},
                          ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
        draw_view_pane();
    }
    if (desk_.is_presenter) {
        ImGui::SetCursorScreenPos({p.x, p.y + size.y - caption + spacing.y});
        ui::Pane pane("caption pane", {size.x, caption - spacing.y});
        chat_.draw_caption(desk_);
    }
    if (is_narrow && !desk_.is_presenter && desk_.settings.is_chat_open) draw_drawer(p, size);
    ImGui::SetCursorScreenPos({p.x, p.y + size.y + spacing.y});
}

// A window too narrow for both shows the chat over the view; Ctrl+B folds it away.
void Workspace::draw_drawer(ImVec2 at, ImVec2 size) {
    const float width = std::min(size.x - px(40), std::max(px(kMinChat), size.x * 0.5f));
    ImGui::SetNextWindowPos(at);
    ImGui::SetNextWindowSize({width, size.y});
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(0, 0));
    ImGui::Begin("drawer", nullptr,
                 ImGuiWindowFlags_NoDecoration | ImGuiWindowFlags_NoMove | ImGuiWindowFlags_NoSavedSettings);
    ImGui::PopStyleVar();
    ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2(px(8), px(8)));
    chat_.draw(desk_);
    ImGui::PopStyleVar();
    ImGui::End();
}

void Workspace::draw_view_pane() {
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(px(14), px(8)));
    ui::Pane pane("view", {0, 0}, ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
    ImGui::PopStyleVar();
    ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2(px(8), px(8)));
    draw_tabs();
    Panel& panel = *desk_.panels[static_cast<size_t>(desk_.panel)];
    View view{desk_.cursor,           desk_.sink, record_, desk_.token(desk_.shown), desk_.source(desk_.shown),
              desk_.settings.is_dark, ""};
    {
        ui::Region region("panel", {0, 0});
        ImGui::PushID(panel.name());
        if (!desk_.s.model && panel.needs_model()) {
            ui::empty_state("No model is loaded",
                            "Open a folder with a DeepSeek-V4 checkpoint, or drop one onto this window.");
        } else {
            panel.draw(desk_.s, view);
        }
        ImGui::PopID();
    }
    if (!view.go_to.empty()) show_panel(view.go_to);
    if (!view.run.empty()) run_action(view.run);
    if (!view.open_model.empty() && desk_.open_model(view.open_model) && desk_.s.conversation)
        desk_.post(OpenConversation{desk_.s.conversation->id});
    ImGui::PopStyleVar();
}

void Workspace::draw_overlay() {
    const char* id = "##overlay";
    if (desk_.overlay == Overlay::none && !ImGui::IsPopupOpen(id)) return;
    if (desk_.overlay != Overlay::none && !ImGui::IsPopupOpen(id)) ImGui::OpenPopup(id);
    const OverlayLook look = look_of(desk_.overlay);
    const ImVec2 screen = ImGui::GetIO().DisplaySize;
    const ImVec2 size{std::min(px(look.width), screen.x - px(32)), std::min(px(look.height), screen.y - px(64))};
    const bool is_palette = desk_.overlay == Overlay::palette || desk_.overlay == Overlay::find;
    const float y = is_palette ? px(76) : look.height == 0 ? screen.y * 0.16f : (screen.y - size.y) / 2;
    ImGui::SetNextWindowPos({std::floor((screen.x - size.x) / 2), std::floor(y)});
    ImGui::SetNextWindowSize(size);
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(px(18), px(16)));
    ImGui::PushStyleVar(ImGuiStyleVar_WindowBorderSize, 1);
    ImGui::PushStyleColor(ImGuiCol_PopupBg, theme().pane);
    constexpr ImGuiWindowFlags kFlags = ImGuiWindowFlags_NoTitleBar | ImGuiWindowFlags_NoMove |
                                        ImGuiWindowFlags_NoResize | ImGuiWindowFlags_NoSavedSettings |
                                        ImGuiWindowFlags_NoScrollbar;
    const bool is_open = ImGui::BeginPopupModal(id, nullptr, kFlags);
    ImGui::PopStyleColor();
    ImGui::PopStyleVar(2);
    if (!is_open) {
        if (!ImGui::IsPopupOpen(id)) desk_.close();
        return;
    }
    if (desk_.overlay == Overlay::none) {
        ImGui::CloseCurrentPopup();
    } else {
        if (*look.title) {
            ui::FontScope bold(Font::heading);
            ui::plain(look.title);
            ui::mark(std::string("overlay/") + look.title, look.title);
        }
        if (*look.title) {
            const float w = ImGui::CalcTextSize("Close").x + 2 * ImGui::GetStyle().FramePadding.x;
            ImGui::SameLine(0, 0);
            ImGui::SetCursorPosX(ImGui::GetCursorPosX() + std::max(0.0f, ImGui::GetContentRegionAvail().x - w));
            if (ui::quiet_button("Close")) desk_.close();
        }
        if (desk_.overlay != Overlay::none) draw_overlay_content(desk_.overlay);
        const bool is_outside = ImGui::IsMouseClicked(ImGuiMouseButton_Left) &&
                                !ImGui::IsWindowHovered(ImGuiHoveredFlags_RootAndChildWindows |
                                                        ImGuiHoveredFlags_AllowWhenBlockedByActiveItem |
                                                        ImGuiHoveredFlags_AllowWhenBlockedByPopup);
        if (is_outside && !desk_.is_overlay_new && !ImGui::IsAnyItemHovered()) desk_.close();
        if (desk_.overlay == Overlay::none) ImGui::CloseCurrentPopup();
    }
    ImGui::EndPopup();
}

void Workspace::draw_overlay_content(Overlay which) {
    switch (which) {
        case Overlay::palette:
            palette_.draw(desk_, actions_, false);
            break;
        case Overlay::find:
            palette_.draw(desk_, actions_, true);
            break;
        case Overlay::conversations:
            conversations_.draw(desk_);
            break;
        case Overlay::prompt:
            prompt_.draw(desk_);
            break;
        case Overlay::sampling:
            draw_sampling(desk_);
            break;
        case Overlay::settings:
            draw_settings(desk_);
            break;
        case Overlay::open_folder:
            browser_.draw(desk_);
            break;
        case Overlay::notices:
            draw_notices(desk_);
            break;
        case Overlay::keys:
            draw_keys(actions_);
            break;
        case Overlay::none:
            break;
    }
}

void Workspace::begin_toast() {
    const ImVec2 screen = ImGui::GetIO().DisplaySize;
    const float width = std::min(px(440), screen.x - px(40));
    ImGui::SetNextWindowPos({screen.x - px(24), screen.y - px(40) - (desk_.is_presenter ? 0 : TokenStrip::height())},
                            ImGuiCond_Always, {1, 1});
    ImGui::SetNextWindowSize({width, 0});
    ImGui::PushStyleColor(ImGuiCol_WindowBg, theme().is_dark ? theme().raised : theme().pane);
    ImGui::PushStyleVar(ImGuiStyleVar_WindowBorderSize, 1);
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(px(14), px(12)));
    ImGui::Begin("notice", nullptr,
                 ImGuiWindowFlags_NoDecoration | ImGuiWindowFlags_NoMove | ImGuiWindowFlags_NoSavedSettings |
                     ImGuiWindowFlags_NoFocusOnAppearing | ImGuiWindowFlags_NoNav);
    if (desk_.overlay == Overlay::none) raise_window();  // over the chat's drawer
}

void Workspace::end_toast() {
    ImGui::End();
    ImGui::PopStyleVar(2);
    ImGui::PopStyleColor();
}

// While a model is opened: what is done, and the way out of it. The model before stays until the new one is ready.
void Workspace::draw_loading() {
    const Snapshot& s = desk_.s;
    begin_toast();
    const std::string what = s.progress.what.empty() ? "Opening the model" : displayable(s.progress.what);
    const float w = ImGui::CalcTextSize("Cancel").x + 2 * ImGui::GetStyle().FramePadding.x;
    ImGui::AlignTextToFramePadding();
    ui::text_in(what + "\xE2\x80\xA6", ImGui::GetContentRegionAvail().x - w - px(12), "loading/what");
    ImGui::SameLine(0, px(12));
    if (ui::button("Cancel", "loading/Cancel")) desk_.stop();
    end_toast();
}

// What was just done, and the way back.
void Workspace::draw_undo() {
    begin_toast();
    const float w = ImGui::CalcTextSize("Undo").x + 2 * ImGui::GetStyle().FramePadding.x;
    ImGui::AlignTextToFramePadding();
    ui::text_in(displayable(desk_.undo_steps.back().what), ImGui::GetContentRegionAvail().x - w - px(12), "undo/what");
    ImGui::SameLine(0, px(12));
    ImGui::BeginDisabled(!desk_.can_undo());
    if (ui::button("Undo", "undo/Undo")) desk_.undo();
    ImGui::EndDisabled();
    end_toast();
}

// Stays until another device is chosen: nothing runs before.
void Workspace::draw_gpu_lost() {
    begin_toast();
    {
        ui::FontScope small(Font::small);
        ui::Color c(theme().error);
        ui::plain("GPU lost");
    }
    std::string text = "What was written is saved, the answer as far as it came. The model can continue on the CPU.";
    for (auto n = desk_.s.notices.rbegin(); n != desk_.s.notices.rend(); ++n)
        if (n->notice.level == Notice::Level::error) {
            text = n->notice.text.substr(0, 400) + "\n" + text;
            break;
        }
    ui::text_wrapped(text, "lost/text");
    if (ui::primary_button("Continue on the CPU")) desk_.post(SetDevice{kCpu});
    end_toast();
}

// The newest notice for a few seconds, above the status bar; errors stay until they are closed.
void Workspace::draw_toasts() {
    const Snapshot& s = desk_.s;
    if (s.is_loading) return draw_loading();
    if (desk_.is_gpu_lost()) return draw_gpu_lost();
    const bool offers_undo = !desk_.undo_steps.empty() && desk_.undo_steps.back().panel == desk_.panel;
    const double undo_time = offers_undo ? desk_.undo_steps.back().time : -1e9;
    if (s.time - undo_time < Desk::kUndoSeconds && (s.notices.empty() || s.notices.back().time <= undo_time)) return draw_undo();
    if (s.notices.empty()) return;
    const NoticeLine& n = s.notices.back();
    if (n.time <= dismissed_until_) return;
    const Notice::Level level = n.notice.level;
    const double age = s.time - n.time, lasts = level == Notice::Level::info ? kInfoSeconds : kWarningSeconds;
    if (level != Notice::Level::error && age > lasts) return;
    begin_toast();
    {
        ui::FontScope small(Font::small);
        ui::Color c(level == Notice::Level::error     ? theme().error
                    : level == Notice::Level::warning ? theme().warning
                                                      : theme().text_dim);
        ui::plain(level == Notice::Level::error     ? "Error"
                               : level == Notice::Level::warning ? "Warning"
                                                                 : "Note");
    }
    const float w = ImGui::CalcTextSize("Close").x + 2 * ImGui::GetStyle().FramePadding.x;
    ImGui::SameLine(0, 0);
    ImGui::SetCursorPosX(ImGui::GetCursorPosX() + std::max(0.0f, ImGui::GetContentRegionAvail().x - w));
    if (ui::quiet_button("Close", "notice/Close")) dismissed_until_ = n.time;
    const std::string& text = n.notice.text;
    ui::text_wrapped(text.size() > 600 ? std::string_view(text).substr(0, 600) : std::string_view(text), "notice/text");
    end_toast();
}

}  // namespace vitrine::viz
