// The command palette and the finder.

#include <algorithm>
#include <cstdlib>

#include "viz/imgui_compat.h"
#include "viz/shell/overlays.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/export.h"

namespace vitrine::viz {
namespace {

constexpr int64_t kSearchedPerFrame = 20000;
constexpr size_t kMaxFound = 200;

// Every word of the query occurs in the title.
bool matches(const std::string& title, const std::string& query) {
    for (size_t i = 0; i < query.size();) {
        const size_t end = std::min(query.find(' ', i), query.size());
        if (!contains_folded(title, std::string_view(query).substr(i, end - i))) return false;
        i = end + 1;
    }
    return true;
}

// "layer 12" -> 12 for word "layer"; -1 when it is something else.
int64_t number_after(const std::string& query, const char* word) {
    const std::string prefix = std::string(word) + " ";
    if (query.rfind(prefix, 0) != 0 || query.size() == prefix.size()) return -1;
    char* end = nullptr;
    const long long v = std::strtoll(query.c_str() + prefix.size(), &end, 10);
    return *end == 0 && v >= 0 ? v : -1;
}

}  // namespace

void Palette::collect_places(Desk& desk) {
    const auto n = static_cast<int64_t>(desk.s.timeline.tokens.size());
    if (const int64_t t = number_after(query_, "token"); t >= 0 && t < n)
        hits_.push_back({"Go to token " + std::to_string(t),
                         token_label(desk.s.timeline.tokens[static_cast<size_t>(t)].text),
                         [&desk, t] { desk.select(desk.s.timeline.tokens[static_cast<size_t>(t)].ref); }});
    if (!desk.s.model) return;
    if (const int64_t l = number_after(query_, "layer"); l >= 0 && l < desk.s.model->config.n_layers()) {
        const char kind[] = {layer_glyph(desk.s.model->config.layers[static_cast<size_t>(l)].kind()), 0};
        hits_.push_back(
            {"Go to layer " + std::to_string(l), kind, [&desk, l] { desk.cursor.layer = static_cast<int>(l); }});
    }
    if (const int64_t e = number_after(query_, "expert"); e >= 0 && e < desk.s.model->config.n_experts)
        hits_.push_back(
            {"Select expert " + std::to_string(e), "layer " + std::to_string(desk.cursor.layer), [&desk, e] {
                 desk.cursor.expert = static_cast<int>(e);
                 for (size_t i = 0; i < desk.panels.size(); ++i)
                     if (std::string(desk.panels[i]->name()) == "Routing") desk.panel = static_cast<int>(i);
             }});
}

// A slice of the timeline per frame: a million tokens never stop the window.
void Palette::search_tokens(Desk& desk) {
    if (query_ != searched_) searched_ = query_, n_searched_ = 0, found_.clear();
    if (query_.empty()) return;
    const auto& tokens = desk.s.timeline.tokens;
    const auto end = std::min<int64_t>(static_cast<int64_t>(tokens.size()), n_searched_ + kSearchedPerFrame);
    for (; n_searched_ < end && found_.size() < kMaxFound; ++n_searched_) {
        const auto at = static_cast<size_t>(n_searched_);
        std::string joined = tokens[at].text;  // a word may span some tokens
        for (size_t k = at + 1;
             k < std::min(tokens.size(), at + 8) && joined.size() < query_.size() + tokens[at].text.size(); ++k)
            joined += tokens[k].text;
        bool begins_here = false;
        for (size_t skip = 0; skip < std::max<size_t>(1, tokens[at].text.size()) && !begins_here; ++skip)
            begins_here = skip < joined.size() && joined.size() - skip >= query_.size() &&
                          contains_folded(std::string_view(joined).substr(skip, query_.size()), query_);
        if (begins_here) found_.push_back(tokens[at].ref);
    }
}

// Every plot of the visible view, in three formats; only when asked for, they are many.
void Palette::collect_exports() {
    if (!contains_folded(query_, "exp")) return;
    for (const std::string& name : ui::exportables())
        for (const ui::ExportFormat f : {ui::ExportFormat::png, ui::ExportFormat::svg, ui::ExportFormat::csv}) {
            const std::string title = "Export " + name + " as " + ui::export_extension(f);
            if (matches(title, query_)) hits_.push_back({title, "", [name, f] { ui::request_export(name, f); }});
        }
}

// What has no menu entry: settings with what they are set to, heads, versions of the last answer, the token strip's paint.
void Palette::collect_settings(Desk& desk) {
    if (query_.empty()) return;
    const auto add = [&](const std::string& title, const std::string& detail, std::function<void()> run) {
        if (matches(title, query_)) hits_.push_back({title, detail, std::move(run)});
    };
    Settings& s = desk.settings;
    const auto in_dialog = [&](Overlay dialog, const char* group, const char* label, const std::string& now) {
        add(std::string(group) + ": " + label, now, [&desk, dialog, label] { desk.open(dialog), desk.wanted_setting = label; });
    };
    const auto sampling = [&](const char* label, const std::string& now) { in_dialog(Overlay::sampling, "Sampling", label, now); };
    const Sampling& d = s.sampling;
    sampling("Temperature", d.temperature == 0 ? "greedy" : ui::format_number(d.temperature));
    sampling("Top-k", d.top_k == 0 ? "off" : ui::format_count(d.top_k));
    sampling("Top-p", d.top_p >= 1 ? "off" : ui::format_number(d.top_p));
    sampling("Min-p", d.min_p == 0 ? "off" : ui::format_number(d.min_p));
    sampling("Repetition penalty", d.repetition_penalty == 1 ? "off" : ui::format_number(d.repetition_penalty));
    sampling("Seed", std::to_string(d.seed));
    sampling("Longest answer", ui::format_count(d.max_new_tokens) + " tokens");
    sampling("Stop strings", d.stop.empty() ? "none" : ui::format_count(static_cast<int64_t>(d.stop.size())));
    sampling("System text", desk.s.conversation && !desk.s.conversation->system.empty() ? "set" : "none");
    in_dialog(Overlay::settings, "Settings", "Theme", s.is_dark ? "dark" : "light");
    in_dialog(Overlay::settings, "Settings", "Text size", ui::format_percent(s.font_scale));
    const auto toggle = [&](const char* label, bool& v) {
        add(std::string("Settings: ") + label, v ? "on" : "off", [&v] { v = !v; });
    };
    toggle("Reduced motion", s.has_reduced_motion);
    toggle("Unfold thinking", s.is_think_open);
    toggle("Enter sends", s.enter_sends);
    static constexpr const char* kPaints[] = {"Phase", "Probability", "Entropy"};
    for (int i = 0; i < 3; ++i)
        add(std::string("Token strip: paint by ") + kPaints[i], s.paint == i ? "now" : "", [&s, i] { s.paint = i; });
    const Turn* answer = desk.last_turn("assistant");
    if (!answer) return;
    add("Copy the last answer", "", [text = answer->content] { ImGui::SetClipboardText(text.c_str()); });
    for (int i = 0; i < answer->n_siblings && answer->n_siblings > 1 && desk.can_send(); ++i)
        add("Version " + std::to_string(i + 1) + " of the last answer", i == answer->sibling ? "now" : "",
            [&desk, id = answer->id, i] { desk.post(SelectSibling{id, i}); });
    if (!desk.s.model) return;
    const auto head = [&desk](int h) {
        desk.cursor.head = h;
        for (size_t i = 0; i < desk.panels.size(); ++i)
            if (std::string(desk.panels[i]->name()) == "Attention") desk.panel = static_cast<int>(i);
    };
    add("Attention: mean over heads", desk.cursor.head < 0 ? "now" : "", [head] { head(-1); });
    for (int h = 0; h < desk.s.model->config.n_heads; ++h)
        add("Attention: head " + std::to_string(h), desk.cursor.head == h ? "now" : "", [head, h] { head(h); });
}

void Palette::collect(Desk& desk, const std::vector<Action>& actions, bool is_find) {
    hits_.clear();
    collect_places(desk);
    if (is_find) {
        search_tokens(desk);
        for (const TokenRef& ref : found_) {
            const auto& tokens = desk.s.timeline.tokens;
            const auto at = static_cast<size_t>(ref.position);
            if (at >= tokens.size()) continue;
            std::string around;
            for (size_t k = at > 3 ? at - 3 : 0; k < std::min(tokens.size(), at + 8); ++k)
                around += token_label(tokens[k].text);
            hits_.push_back({around, "token " + ui::format_count(ref.position), [&desk, ref] { desk.select(ref); }});
        }
    }
    collect_exports();
    for (const Action& a : actions)
        if (matches(a.title, query_) && (!a.is_enabled || a.is_enabled()))
            hits_.push_back({a.title, a.shortcut.to_string(), a.run});
    for (const Action& a : panel_actions(desk))
        if (const std::string title = std::string(a.menu) + ": " + a.title; matches(title, query_) && a.is_enabled())
            hits_.push_back({title, "", a.run});
    collect_settings(desk);
}

void Palette::draw(Desk& desk, const std::vector<Action>& actions, bool is_find) {
    if (desk.is_overlay_new) query_.clear(), selected_ = 0, focus_next_item();
    ImGui::SetNextItemWidth(-1);
    const char* hint =
        is_find ? "Find in text; \xE2\x80\x9Clayer 4\xE2\x80\x9D, \xE2\x80\x9C"
                  "expert 7\xE2\x80\x9D, \xE2\x80\x9Ctoken 120\xE2\x80\x9D, or a setting"
                : "Type a command, or \xE2\x80\x9Clayer 4\xE2\x80\x9D, \xE2\x80\x9Ctoken 120\xE2\x80\x9D, \xE2\x80\x9C"
                  "expert 7\xE2\x80\x9D";
    if (ImGui::InputTextWithHint("##query", hint, &query_)) selected_ = 0;
    ui::mark("Palette query", query_);
    ui::scrolls_sideways(ImGui::GetItemRectMin(), ImGui::GetItemRectMax());
    collect(desk, actions, is_find);
    const int n = static_cast<int>(hits_.size());
    const int before = selected_;
    if (key_pressed(Key::kDownArrow)) ++selected_;
    if (key_pressed(Key::kUpArrow)) --selected_;
    selected_ = std::clamp(selected_, 0, std::max(0, n - 1));
    std::function<void()> chosen;
    if (n > 0 && key_pressed(Key::kEnter, false)) chosen = hits_[static_cast<size_t>(selected_)].run;
    ui::Region list("hits", {0, 0});
    if (n == 0) ui::text_dim("Nothing matches.");
    ImGuiListClipper clipper;
    clipper.Begin(n);
    if (before != selected_) include_rows(clipper, selected_, selected_ + 1);
    while (clipper.Step())
        for (int i = clipper.DisplayStart; i < clipper.DisplayEnd; ++i) {
            const Hit& hit = hits_[static_cast<size_t>(i)];
            ImGui::PushID(i);
            const ImVec2 p = ImGui::GetCursorScreenPos();
            const float row = ImGui::GetFrameHeight(), width = ImGui::GetContentRegionAvail().x;
            if (ImGui::InvisibleButton("hit", {width, row})) chosen = hit.run;
            ui::mark("palette/" + hit.title, hit.title);
            ImDrawList* dl = ImGui::GetWindowDrawList();
            if (i == selected_ || ImGui::IsItemHovered())
                dl->AddRectFilled(p, {p.x + width, p.y + row}, theme().hovered, px(5));
            const float y = p.y + (row - ImGui::GetTextLineHeight()) / 2;
            const float detail = ImGui::CalcTextSize(hit.detail.c_str()).x;
            ui::paint_text(dl, {p.x + px(10), y}, theme().text, ui::elide(hit.title, width - detail - px(34)).c_str());
            ui::paint_text(dl, {p.x + width - detail - px(10), y}, theme().text_dim, hit.detail.c_str());
            if (i == selected_ && before != selected_) ImGui::SetScrollHereY();
            ImGui::PopID();
        }
    if (!chosen) return;
    desk.close();
    chosen();  // after closing: it may open another
}

}  // namespace vitrine::viz
