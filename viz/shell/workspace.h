// The whole window, drawn from a Snapshot and one Cursor: menus, chat, views, token strip, status bar, and what opens
// over them.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "viz/shell/actions.h"
#include "viz/shell/chat_pane.h"
#include "viz/shell/desk.h"
#include "viz/shell/overlays.h"
#include "viz/shell/token_strip.h"

namespace vitrine::viz {

class Workspace {
  public:
    Workspace(Snapshot& s, CommandSink& sink, Settings& settings, Fonts& fonts);
    ~Workspace() { desk_.send_held_back(true); }
    // Between ImGui::NewFrame and Render.
    void frame();

    Desk& desk() { return desk_; }
    const std::vector<Action>& actions() const { return actions_; }
    // By id or title; false: there is none or it is not enabled now.
    bool run_action(std::string_view name);
    bool show_panel(std::string_view name);  // case-insensitive
    bool is_text_focused() const { return is_text_focused_; }
    // Something moves without input: text streams in, a notice will go, a search goes on.
    bool is_animating() const;
    void drop_files(const std::vector<std::string>& paths);

  private:
    void prepare();
    void handle_keys();
    void draw_menu_bar();
    void draw_body(ImVec2 size);
    void draw_drawer(ImVec2 at, ImVec2 size);
    void draw_view_pane();
    void draw_tabs();
    void draw_status_bar();
    void draw_overlay();
    void draw_overlay_content(Overlay which);
    void draw_toasts();
    void draw_loading();
    void draw_undo();
    void draw_gpu_lost();
    void begin_toast();  // a window in the lower right corner, above the token strip
    void end_toast();
    void watch_probes();
    void tend_exports();

    Desk desk_;
    std::vector<Action> actions_;
    ChatPane chat_;
    TokenStrip strip_;
    Palette palette_;
    ConversationList conversations_;
    PromptView prompt_;
    FileBrowser browser_;
    bool is_text_focused_ = false;
    ProbeSet watched_ = 0;
    bool has_watched_ = false;
    double dismissed_until_ = -1;  // notices up to this time were closed
    std::shared_ptr<const TokenRecord> record_;
    const ModelInfo* last_model_ = nullptr;
    int64_t last_conversation_ = 0;
    std::string last_folder_;               // whose sampling was taken over
};

}  // namespace vitrine::viz
