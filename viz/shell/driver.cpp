// Input by program.
#include "viz/shell/driver.h"

#include <algorithm>
#include <cctype>

#include "engine/base/error.h"
#include "viz/widgets/registry.h"

namespace vitrine::viz {
namespace {

bool same_name(std::string_view a, std::string_view b) {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](unsigned char x, unsigned char y) {
               return std::tolower(x) == std::tolower(y);
           });
}

bool parse_key(std::string_view name, Key& key) {
    static constexpr std::pair<const char*, Key> kOther[] = {
        {"Left", Key::kLeftArrow}, {"Right", Key::kRightArrow}, {"Up", Key::kUpArrow}, {"Down", Key::kDownArrow},
        {"Esc", Key::kEscape},     {"Return", Key::kEnter},     {"+", Key::kEqual},    {"-", Key::kMinus},
        {"/", Key::kSlash},        {",", Key::kComma}};
    for (const auto& [n, k] : kOther)
        if (same_name(n, name)) return key = k, true;
#define X(n, code) \
    if (same_name(#n, name)) return key = Key::k##n, true;
    VITRINE_KEYS(X)
#undef X
    return false;
}

bool ends_with_name(std::string_view whole, std::string_view end) {
    return whole.size() > end.size() && whole[whole.size() - end.size() - 1] == '/' &&
           same_name(whole.substr(whole.size() - end.size()), end);
}

}  // namespace

Label find_label(std::string_view label, bool is_number) {
    const auto serves = [&](const ui::Widget* w) { return w && (!is_number || w->has_number); };
    if (serves(ui::find_widget(label))) return {std::string(label), ""};
    std::vector<std::string> whole, ends, seen;
    for (const std::string& name : ui::widget_names()) {
        const ui::Widget* w = ui::find_widget(name);
        if (!serves(w)) continue;
        if (same_name(name, label)) whole.push_back(name);
        if (ends_with_name(name, label) || same_name(w->label, label)) {
            ends.push_back(name);
            if (w->is_visible) seen.push_back(name);
        }
    }
    for (const std::vector<std::string>* found : {&whole, &ends, &seen})
        if (found->size() == 1) return {found->front(), ""};
    const std::string quoted = "\"" + std::string(label) + "\"";
    if (!ends.empty()) {
        constexpr size_t kMost = 8;
        std::string why = quoted + " may mean ";
        for (size_t i = 0; i < std::min(ends.size(), kMost); ++i) why += (i ? ", " : "") + ends[i];
        return {"", why + (ends.size() > kMost ? " and " + std::to_string(ends.size() - kMost) + " more" : "")};
    }
    if (is_number && ui::find_widget(label)) return {"", quoted + " shows no number"};
    std::vector<std::string> names = ui::widget_names();
    const size_t n_whole = names.size();
    for (size_t i = 0; i < n_whole; ++i) names.push_back(names[i].substr(names[i].rfind('/') + 1));
    const std::string near = nearest_name(std::string(label), names);
    return {"", (is_number ? "no value " : "no widget ") + quoted + " is shown" +
                    (near.empty() ? "" : "; did you mean \"" + near + "\"?")};
}

void Input::apply() {
    if (!is_active) return;
    feed_mouse(mouse.x, mouse.y);
    feed_mods(mods);
    for (int b = 0; b < 2; ++b) feed_button(b, is_button_down[b]);
    for (Key k : applied_)
        if (std::find(keys.begin(), keys.end(), k) == keys.end()) feed_key(k, false);
    for (Key k : keys) feed_key(k, true);
    applied_ = keys;
    if (!text.empty()) ImGui::GetIO().AddInputCharactersUTF8(text.c_str());
    text.clear();
    if (wheel != 0) feed_wheel(wheel);
    wheel = 0;
}

bool Driver::frames(int n) {
    for (int i = 0; i < n; ++i)
        if (!frame_()) return false;
    return true;
}

// A widget may appear a frame or two later: popups, lists. One that is hidden by scrolling is scrolled to.
std::string Driver::locate(std::string_view name, ImVec2& at) {
    const ui::Widget* w = nullptr;
    for (int i = 0; i < 6 && !((w = ui::find_widget(name)) && w->is_visible); ++i) frames(1);
    std::string found(name);
    if (!w) {
        Label label = find_label(name, false);
        if (label.name.empty()) return label.problem;
        found = std::move(label.name);
        w = ui::find_widget(found);
    }
    if (!w->is_in_reach) {
        ui::reveal(found);
        frames(3);
        w = ui::find_widget(found);
        if (!w || !w->is_in_reach) return "\"" + std::string(name) + "\" is scrolled out of sight";
    }
    at = w->center();
    return "";
}

void Driver::move_to(ImVec2 p) {
    input_.mouse = p;
    frames(2);
}

void Driver::press(ImVec2 p, int button) {
    move_to(p);
    input_.is_button_down[button] = true;
    frames(1);
    input_.is_button_down[button] = false;
    frames(2);
}

std::string Driver::click(std::string_view name, int button) {
    ImVec2 at;
    const std::string problem = locate(name, at);
    if (problem.empty()) press(at, button);
    return problem;
}

std::string Driver::hover(std::string_view name) {
    ImVec2 at;
    const std::string problem = locate(name, at);
    if (problem.empty()) move_to(at);
    return problem;
}

std::string Driver::type(std::string_view utf8) {
    frames(2);
    if (!ImGui::GetIO().WantTextInput) return "no text field has the focus";
    // Newlines are keys, not characters.
    for (size_t i = 0; i < utf8.size();) {
        const size_t end = std::min(utf8.find('\n', i), utf8.size());
        input_.text = std::string(utf8.substr(i, end - i));
        frames(3);
        if (end < utf8.size()) key("Shift+Enter");
        i = end + 1;
    }
    return "";
}

std::string Driver::key(std::string_view chord) {
    int mods = kNoMod;
    std::string_view rest = chord;
    const std::pair<const char*, int> names[] = {{"Ctrl+", kCtrl}, {"Shift+", kShift}, {"Alt+", kAlt}};
    for (bool is_found = true; is_found;) {
        is_found = false;
        for (const auto& [n, m] : names) {
            const std::string_view prefix(n);
            if (rest.size() > prefix.size() && same_name(rest.substr(0, prefix.size()), prefix))
                mods |= m, rest.remove_prefix(prefix.size()), is_found = true;
        }
    }
    Key k{};
    if (!parse_key(rest, k)) return "no key \"" + std::string(chord) + "\"; for example Ctrl+K, Left, Enter, F11, 1";
    input_.mods = mods;
    frames(1);
    input_.keys = {k};
    frames(1);
    input_.keys.clear();
    frames(1);
    input_.mods = kNoMod;
    frames(2);
    return "";
}

void Driver::drag(ImVec2 from, ImVec2 to) {
    move_to(from);
    input_.is_button_down[0] = true;
    frames(1);
    constexpr int kSteps = 5;
    for (int i = 1; i <= kSteps; ++i) {
        const float t = static_cast<float>(i) / kSteps;
        input_.mouse = {from.x + (to.x - from.x) * t, from.y + (to.y - from.y) * t};
        frames(1);
    }
    frames(1);
    input_.is_button_down[0] = false;
    frames(2);
}

void Driver::wheel(float dy) {
    input_.wheel = dy;
    frames(3);
}

}  // namespace vitrine::viz
