// Everything a user can do by name: one table behind the menus, the palette and the keyboard.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "viz/imgui_compat.h"
#include "viz/shell/desk.h"

namespace vitrine::viz {

struct Shortcut {
    Key key{};
    int mods = kNoMod;
    bool is_set = false;
    bool works_in_text = false;  // also while a text field has the focus
    bool repeats = false;
    std::string to_string() const;  // "Ctrl+Shift+E", "←"
};

struct Action {
    const char* id;     // stable, for scripts: "chat.send"
    std::string title;  // "Send the message"
    const char* menu;   // "File", "View", ... ; "": palette only
    Shortcut shortcut;
    std::function<void()> run;
    std::function<bool()> is_enabled;  // null: always
    std::function<bool()> is_checked;  // null: no check mark
    bool has_separator = false;        // a line above it in the menu
};

std::vector<Action> make_actions(Desk& desk);
// What the panels can do now, in menus of their names.
std::vector<Action> panel_actions(Desk& desk);
// Runs the action whose shortcut was pressed, if any.
void run_shortcuts(const std::vector<Action>& actions, bool is_text_focused);
// The items of one menu, inside BeginMenu.
void draw_menu_items(const std::vector<Action>& actions, const char* menu);

}  // namespace vitrine::viz
