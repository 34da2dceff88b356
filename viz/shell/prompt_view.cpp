// What the model really read: the rendered prompt token by token, its segments, ids, and why some of it was read again.
#include <algorithm>

#include "viz/imgui_compat.h"
#include "viz/shell/overlays.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz {
namespace {

// Phases keep their colour; what is written by the format (tags, prefix, tools) is faint, and neighbours differ.
ImU32 segment_color(const PromptSegment& g, size_t i) {
    const Theme& t = theme();
    if (g.what == "reasoning" || g.what == "think tag") return t.thinking;
    if (g.what == "answer") return t.answer;
    if (g.what == "user") return t.prompt;
    return i % 2 ? t.text_faint : t.border_strong;
}

}  // namespace

void PromptView::draw(Desk& desk) {
    const Timeline& t = desk.s.timeline;
    const auto n = std::min<size_t>(static_cast<size_t>(std::max<int64_t>(0, t.n_prompt)), t.tokens.size());
    if (n == 0) {
        ui::empty_state("No prompt yet", "It is rendered when a message is sent.");
        return;
    }
    ui::text_dim(ui::format_count(t.n_prompt) + " tokens, " + ui::format_count(t.n_reused) +
                     " were in the cache already. " + t.reuse_reason,
                 "prompt/summary");
    static const char* kForms[] = {"Text", "Token ids"};
    int form = shows_ids_ ? 1 : 0;
    if (ui::segmented("prompt form", form, kForms, 2)) shows_ids_ = form == 1;
    ImGui::SameLine();
    if (ui::quiet_button("Copy text")) ImGui::SetClipboardText(t.prompt_text.c_str());
    ImGui::SameLine();
    if (ui::quiet_button("Copy ids")) {
        std::string ids = "[";
        for (size_t i = 0; i < n; ++i) ids += (i ? ", " : "") + std::to_string(t.tokens[i].id);
        ImGui::SetClipboardText((ids + "]").c_str());
    }
    {
        ui::Region list("segments", {px(220), 0});
        for (size_t i = 0; i < t.segments.size(); ++i) {
            const PromptSegment& g = t.segments[i];
            ImGui::PushID(static_cast<int>(i));
            ui::dot(segment_color(g, i));
            ImGui::SameLine(0, px(8));
            const std::string count = ui::format_count(g.end - g.begin);
            const float w = ImGui::CalcTextSize(count.c_str()).x;
            ui::text_in(displayable(g.what), ImGui::GetContentRegionAvail().x - w - px(14));
            ui::mark("segment/" + std::to_string(i), g.what);
            ImGui::SameLine();
            ui::Color dim(theme().text_dim);
            ui::plain(count.c_str());
            ImGui::PopID();
        }
    }
    ImGui::SameLine(0, px(12));
    if (shows_ids_ && ids_version_ != desk.s.timeline_version) {
        ids_.assign(t.tokens.begin(), t.tokens.begin() + static_cast<ptrdiff_t>(n));
        for (TokenInfo& k : ids_) k.text = std::to_string(k.id) + " ";
        ids_version_ = desk.s.timeline_version;
    }
    ui::TokenTextSpec spec;
    spec.id = "prompt";
    spec.tokens = shows_ids_ ? std::span<const TokenInfo>(ids_) : std::span<const TokenInfo>(t.tokens).subspan(0, n);
    spec.version = desk.s.timeline_version * 2 + (shows_ids_ ? 1 : 0);
    spec.selected = desk.cursor_index() < static_cast<int64_t>(n) ? desk.cursor_index() : -1;
    spec.style = [&](int64_t i) {
        ui::TokenStyle s;
        const auto g = std::upper_bound(t.segments.begin(), t.segments.end(), i,
                                        [](int64_t at, const PromptSegment& x) { return at < x.end; });
        if (g != t.segments.end()) s.underline = segment_color(*g, static_cast<size_t>(g - t.segments.begin()));
        if (i < t.n_reused) s.ink = theme().text_dim;
        return s;
    };
    spec.hover = [&](int64_t i) {
        const TokenInfo& k = t.tokens[static_cast<size_t>(i)];
        ui::plainf("token %s \xC2\xB7 id %d \xC2\xB7 \xE2\x80\x9C%s\xE2\x80\x9D", ui::format_count(i).c_str(), k.id,
                    token_label(k.text).c_str());
        ui::plain(i < t.n_reused ? "was in the cache already" : "was read for this answer");
    };
    const auto r = text_.draw(spec);
    if (r.clicked >= 0) desk.select(t.tokens[static_cast<size_t>(r.clicked)].ref);
}

}  // namespace vitrine::viz
