// The token strip.
#include "viz/shell/token_strip.h"

#include <algorithm>
#include <cmath>

#include "viz/imgui_compat.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz {
namespace {

constexpr int64_t kCountedPerFrame = 50000;
constexpr Help kHelp = {
    "Every token of the context, one cell each: prompt, thinking and answer. The bar below is all of it, with what the cells show.",
    "Hovering previews a token in every view, a click selects it, the left and right keys step. A hollow cell has no record: "
    "selecting it offers to compute it again. Greyed cells at the left are no longer in context.",
    "probability p of the token that was drawn, at temperature 1;  entropy H = -\xCE\xA3 p ln p [nat]",
    "the logits of the step that drew the token",
    "Paint by entropy and step to the brightest cell of an answer: there the model hesitated.",
};
constexpr const char* kPaints[] = {"Phase", "Probability", "Entropy"};

ImU32 cell_color(const TokenInfo& t, int paint) {
    const Theme& c = theme();
    if (paint == 0) return t.is_special ? mix(c.phase(t.phase), c.pane, 0.55f) : c.phase(t.phase);
    const float v = paint == 1 ? t.probability : t.entropy;
    if (v < 0) return c.raised;  // was not drawn: a prompt token
    return map_color(ColorMap::magnitude, paint == 1 ? v : std::min(1.0f, v / 5.0f));
}

// Why nothing can be shown of a token; empty when its record is there.
std::string why_no_record(const Desk& desk, const TokenInfo& t) {
    const Snapshot& s = desk.s;
    if (s.trace && s.trace->get(t.ref.branch, t.ref.position)) return "";
    const auto& tokens = s.timeline.tokens;
    if (!tokens.empty() && tokens.back().ref == t.ref)
        return s.is_generating ? "being computed"
                               : "drawn last and not read by the model, so nothing was computed for it";
    if (s.conversation && s.conversation->is_recorded)
        return "saved without its record: the trace did not hold it any more, or the conversation had its 256 MiB of "
               "records";
    if (s.trace && s.trace->n_dropped() > 0)
        return "its record fell out of the trace, which keeps the newest " + ui::format_bytes(s.trace->max_bytes()) +
               "; select it to compute it again";
    return "nothing was recorded; select it to compute it again";
}

void cell_tooltip(const TokenInfo& t, const std::string& why) {
    ui::Tooltip box;
    {
        ui::FontScope mono(Font::mono);
        ui::plain(("\xE2\x80\x9C" + token_label(t.text) + "\xE2\x80\x9D").c_str());
    }
    ui::FontScope small(Font::small);
    ui::Color dim(theme().text_dim);
    ui::plainf("token %s \xC2\xB7 id %d \xC2\xB7 %s", ui::format_count(t.ref.position).c_str(), t.id,
                phase_name(t.phase));
    if (t.probability >= 0)
        ui::plainf("probability %s \xC2\xB7 entropy %s nat", ui::format_number(t.probability).c_str(),
                    ui::format_number(t.entropy).c_str());
    if (why.empty()) return;
    ui::text_wrapped(why, "tokens/why");
}

}  // namespace

float TokenStrip::height() {
    return px(86);
}

void TokenStrip::draw(Desk& desk) {
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(px(14), px(8)));
    ui::Pane pane("tokens", {0, height()}, ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
    ImGui::PopStyleVar();
    const auto& tokens = desk.s.timeline.tokens;
    count(desk);
    draw_header(desk);
    if (tokens.empty()) {
        ui::text_dim("Tokens appear here, one cell each, as soon as something is said.", "tokens/empty");
        return;
    }
    find_lost(desk);
    draw_cells(desk);
}

void TokenStrip::find_lost(const Desk& desk) {
    const Snapshot& s = desk.s;
    if (lost_of_ == s.conversation && lost_version_ == s.timeline_version && lost_length_ == s.timeline.tokens.size())
        return;
    lost_of_ = s.conversation, lost_version_ = s.timeline_version, lost_length_ = s.timeline.tokens.size();
    lost_.clear();
    if (!lost_of_) return;
    for (const Turn& turn : lost_of_->path)
        for (const TokenInfo& t : turn.tokens) {
            if (desk.is_in_context(t.ref)) continue;
            const bool is_dropped = t.phase == Phase::thinking && !turn.is_reasoning_in_context;
            lost_.push_back({&t, is_dropped ? "out of context: a new thinking turn drops earlier reasoning"
                                 : s.timeline.reuse_reason.empty()
                                     ? "out of context: the prompt was rendered anew since"
                                     : "out of context: " + s.timeline.reuse_reason});
        }
}

// `why` empty: its record can be shown.
void TokenStrip::draw_cell(Desk& desk, const TokenInfo& t, ImVec2 a, ImVec2 b, const std::string& why) {
    ImDrawList* dl = ImGui::GetWindowDrawList();
    const bool is_answer = t.phase == Phase::answer, is_thinking = t.phase == Phase::thinking;
    // Height tells phases apart without colour: prompt low, thinking middle, answer full.
    const float h = b.y - a.y, top = desk.settings.paint || is_answer ? 0 : is_thinking ? h * 0.2f : h * 0.4f;
    if (why.empty())
        dl->AddRectFilled({a.x, a.y + top}, b, cell_color(t, desk.settings.paint), px(1.5f));
    else
        dl->AddRect({a.x + 0.5f, a.y + top + 0.5f}, {b.x - 0.5f, b.y - 0.5f}, theme().border_strong, px(1.5f));
    if (t.ref == desk.cursor.token)
        dl->AddRect({a.x - px(2), a.y - px(2)}, {b.x + px(2), b.y + px(2)}, theme().accent, px(3), 0, px(2));
    else if (t.ref == desk.shown)
        dl->AddRect({a.x - px(1), a.y - px(1)}, {b.x + px(1), b.y + px(1)}, theme().text, px(2));
}

void TokenStrip::count(const Desk& desk) {
    const auto& tokens = desk.s.timeline.tokens;
    const auto n = static_cast<int64_t>(tokens.size());
    if (desk.s.timeline_version != counted_version_ || n < n_counted_) {
        counted_version_ = desk.s.timeline_version, n_counted_ = 0;
        std::fill(std::begin(counts_), std::end(counts_), 0);
        runs_.clear();
    }
    for (const int64_t end = std::min(n, n_counted_ + kCountedPerFrame); n_counted_ < end; ++n_counted_) {
        const Phase p = tokens[static_cast<size_t>(n_counted_)].phase;
        ++counts_[static_cast<int>(p)];
        if (runs_.empty() || runs_.back().phase != p) runs_.push_back({p, n_counted_});
    }
}

void TokenStrip::draw_header(Desk& desk) {
    ImGui::PushStyleVar(ImGuiStyleVar_FramePadding, ImVec2(px(8), px(2)));
    ui::FontScope small(Font::small);
    const float room = ImGui::GetContentRegionAvail().x;
    ImGui::AlignTextToFramePadding();
    {
        ui::Color dim(theme().text_dim);
        ui::plain("Tokens");
    }
    ImGui::SameLine(0, px(6));
    const float y = ImGui::GetCursorPosY();
    ImGui::SetCursorPosY(y + ImGui::GetStyle().FramePadding.y);
    ui::help_button("Tokens", kHelp);
    ImGui::SameLine(0, 0);
    ImGui::SetCursorPosY(y);
    ImGui::Dummy({0, 0});  // what follows stands on the line again
    for (int p = 0; p < 4; ++p) {
        if (counts_[p] == 0) continue;
        ImGui::SameLine(0, px(14));
        ui::dot(theme().phase(static_cast<Phase>(p)), 4);
        ImGui::SameLine(0, px(6));
        const std::string label = std::string(phase_name(static_cast<Phase>(p))) + " " + ui::format_count(counts_[p]);
        ui::plain(label.c_str());
        ui::mark(std::string("tokens/") + phase_name(static_cast<Phase>(p)), label);
        ui::value(std::string("tokens/") + phase_name(static_cast<Phase>(p)), static_cast<double>(counts_[p]));
    }
    // Right: what the cells are painted by, and live following.
    const float live_width = ImGui::CalcTextSize("Live").x + px(32);
    float paint_width = px(8);
    for (const char* label : kPaints) paint_width += ImGui::CalcTextSize(label).x + 2 * px(12);
    const float right = live_width + paint_width + px(12);
    if (room > right + px(300)) {
        ImGui::SameLine(0, 0);
        ImGui::SetCursorPosX(ImGui::GetCursorPosX() + std::max(px(8), ImGui::GetContentRegionAvail().x - right));
        ui::segmented("paint", desk.settings.paint, kPaints, 3);
        ImGui::SameLine(0, px(12));
    } else {
        ImGui::SameLine(0, 0);
        ImGui::SetCursorPosX(ImGui::GetCursorPosX() + std::max(px(8), ImGui::GetContentRegionAvail().x - live_width));
    }
    const ImVec2 p = ImGui::GetCursorScreenPos();
    const float h = ImGui::GetFrameHeight();
    if (ImGui::InvisibleButton("Live", {live_width, h})) desk.cursor.is_live = true;
    ui::mark("Live");
    ui::value("Live", desk.cursor.is_live ? 1 : 0);
    ui::tooltip("Follow the newest token (L)");
    ImDrawList* dl = ImGui::GetWindowDrawList();
    const ImU32 ink = desk.cursor.is_live ? theme().text : theme().text_dim;
    dl->AddRect(p, {p.x + live_width, p.y + h}, desk.cursor.is_live ? theme().text_faint : theme().border_strong,
                h / 2);
    const ImVec2 c{p.x + px(13), p.y + h / 2};
    if (desk.cursor.is_live)
        dl->AddCircleFilled(c, px(3.5f), theme().accent, 12);
    else
        dl->AddCircle(c, px(3.5f), theme().text_dim, 12, px(1.3f));
    ui::paint_text(dl, {p.x + px(22), p.y + (h - ImGui::GetTextLineHeight()) / 2}, ink, "Live");
    ImGui::PopStyleVar();
}

void TokenStrip::draw_cells(Desk& desk) {
    const auto& tokens = desk.s.timeline.tokens;
    const auto n_lost = static_cast<int64_t>(lost_.size()), n = n_lost + static_cast<int64_t>(tokens.size());
    const float width = ImGui::GetContentRegionAvail().x, cell = std::max(3.0f, std::floor(px(9))), h = px(22);
    const auto n_visible = std::max<int64_t>(1, static_cast<int64_t>(width / cell));
    int64_t at = desk.cursor_index() < 0 ? -1 : desk.cursor_index() + n_lost;
    for (int64_t i = 0; at < 0 && i < n_lost; ++i)
        if (lost_[static_cast<size_t>(i)].token->ref == desk.cursor.token) at = i;
    if (at != last_cursor_ && at >= 0) {  // the cursor moved: bring it into view, by steps so that nothing jitters
        if (at < first_ + 2 || at >= first_ + n_visible - 2)
            first_ = desk.cursor.is_live ? at - n_visible + n_visible / 8 : at - n_visible / 2;
        last_cursor_ = at;
    }
    if (ImGui::IsWindowHovered())
        first_ -= static_cast<int64_t>(ImGui::GetIO().MouseWheel * static_cast<float>(n_visible) / 8);
    first_ = std::clamp<int64_t>(first_, 0, std::max<int64_t>(0, n - n_visible + n_visible / 8));
    const ImVec2 p = ImGui::GetCursorScreenPos();
    ImGui::InvisibleButton("cells", {width, h});
    ui::mark("tokens/cells");
    const bool is_hovered = ImGui::IsItemHovered();
    const float mouse = ImGui::GetIO().MousePos.x;
    const int64_t last = std::min(n, first_ + n_visible);
    for (int64_t i = first_; i < last; ++i) {
        const bool is_lost = i < n_lost;
        const TokenInfo& t = is_lost ? *lost_[static_cast<size_t>(i)].token : tokens[static_cast<size_t>(i - n_lost)];
        const std::string why = is_lost ? lost_[static_cast<size_t>(i)].why : why_no_record(desk, t);
        const float x = p.x + cell * static_cast<float>(i - first_);
        const ImVec2 a{x, p.y}, b{x + cell - 1, p.y + h};
        draw_cell(desk, t, a, b, why);
        if (i == n_lost - 1)  // where the context begins
            ImGui::GetWindowDrawList()->AddLine({x + cell - 1, p.y - px(3)}, {x + cell - 1, p.y + h + px(3)},
                                                theme().text_dim, px(1));
        if (ui::registry_is_on()) {
            const std::string name =
                is_lost ? "tokens/lost/" + std::to_string(i) : "tokens/cell/" + std::to_string(i - n_lost);
            ui::mark_rect(name, a, b, why.empty() ? t.text : why);
            ui::value_rect(name, why.empty() ? 1 : 0, a, b);  // 0: greyed
        }
        if (is_hovered && mouse >= x && mouse < x + cell) {
            desk.cursor.hover = t.ref;
            cell_tooltip(t, why);
            if (ImGui::IsMouseClicked(ImGuiMouseButton_Left)) desk.select(t.ref);
        }
    }
    draw_overview(desk, n_visible, n_lost);
    if (at >= n_lost) ui::value_rect("cursor/token", static_cast<double>(at - n_lost), p, {p.x + width, p.y + h});
}

// The whole timeline as one bar: runs of each phase, the shown part framed, the cursor as a tick. Click goes
// there.
void TokenStrip::draw_overview(Desk& desk, int64_t n_visible, int64_t n_lost) {
    const auto n = static_cast<int64_t>(desk.s.timeline.tokens.size());
    const float width = ImGui::GetContentRegionAvail().x, h = px(6);
    ImGui::SetCursorPosY(ImGui::GetCursorPosY() - px(2));
    const ImVec2 p = ImGui::GetCursorScreenPos();
    ImGui::InvisibleButton("overview", {width, px(12)});
    ui::mark("tokens/overview");
    if (ImGui::IsItemActive()) {
        const double f = std::clamp((ImGui::GetIO().MousePos.x - p.x) / width, 0.0f, 1.0f);
        first_ = n_lost + static_cast<int64_t>(f * static_cast<double>(n)) - n_visible / 2;
    }
    const auto x_of = [&](int64_t i) {
        return p.x + width * static_cast<float>(static_cast<double>(i) / static_cast<double>(std::max<int64_t>(1, n)));
    };
    ImDrawList* dl = ImGui::GetWindowDrawList();
    const float y = p.y + px(3);
    for (size_t k = 0; k < runs_.size();) {
        // Runs thinner than a pixel are drawn as the first of them.
        const float x0 = x_of(runs_[k].begin);
        size_t next = k + 1;
        while (next < runs_.size() && x_of(runs_[next].begin) < x0 + 1) ++next;
        const float x1 = next < runs_.size() ? x_of(runs_[next].begin) : x_of(n);
        dl->AddRectFilled({x0, y}, {std::max(x0 + 1, x1 - (x1 - x0 > px(4) ? 1 : 0)), y + h},
                          with_alpha(theme().phase(runs_[k].phase), 0.55f), px(1));
        k = next;
    }
    if (n + n_lost > n_visible)
        dl->AddRect({x_of(std::max<int64_t>(0, first_ - n_lost)), y - px(2)},
                    {x_of(std::clamp<int64_t>(first_ - n_lost + n_visible, 0, n)), y + h + px(2)}, theme().text_dim,
                    px(3));
    if (const int64_t at = desk.cursor_index(); at >= 0)
        dl->AddRectFilled({x_of(at) - px(1), y - px(3)}, {x_of(at) + px(1), y + h + px(3)}, theme().accent, px(1));
}

}  // namespace vitrine::viz
