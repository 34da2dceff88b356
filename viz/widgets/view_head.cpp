// What every view begins with.
#include "viz/widgets/view_head.h"

#include <algorithm>
#include <cmath>

#include "viz/imgui_compat.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz::ui {

std::string layer_text(const ModelConfig& c, int layer) {
    if (layer < 0 || layer >= c.n_layers()) return "no layer";
    static constexpr const char* kKinds[] = {"sliding window", "CSA", "HCA"};
    const LayerConfig& l = c.layers[layer];
    return "layer " + std::to_string(layer) + ", " + kKinds[static_cast<int>(l.kind())] +
           (l.is_hash_routed ? ", hash-routed" : "");
}

std::string model_name(const std::string& folder) {
    const size_t end = folder.find_last_not_of('/');
    if (end == std::string::npos) return folder;
    const size_t begin = folder.rfind('/', end);
    return folder.substr(begin == std::string::npos ? 0 : begin + 1, end - (begin == std::string::npos ? 0 : begin + 1) + 1);
}

bool require_own_record(const Snapshot& s, View& view, TokenRef token) {
    const std::string other = other_model(s, token);
    if (other.empty()) return true;
    std::string theirs = model_name(other), ours = s.model->name;
    if (theirs == ours) theirs = other, ours = s.model->folder;
    const std::string why = "This token was read by " + displayable(theirs) + ", and " + displayable(ours) +
                            " is loaded. Its layers, experts, ratios and words are not those of this model, so nothing of "
                            "its record is shown.";
    if (empty_state("Recorded with another model", why.c_str(), "Open that model")) view.open_model = other;
    return false;
}

std::string cursor_text(const Snapshot& s, const View& view, bool with_layer) {
    std::string out;
    if (view.token) {
        out = "token " + format_count(view.token->ref.position) + " \"" + token_label(view.token->text) + "\" (" +
              phase_name(view.token->phase) + ")";
    } else if (view.cursor.token.position >= 0) {
        out = "token " + format_count(view.cursor.token.position);
    } else {
        out = "no token selected";
    }
    if (const std::string other = other_model(s, view.shown()); !other.empty())
        return out + " \xC2\xB7 recorded with " + displayable(model_name(other));
    if (with_layer && s.model) out += " \xC2\xB7 " + layer_text(s.model->config, view.cursor.layer);
    return out;
}

void view_head(const Help& help, const char* title, const Snapshot& s, const View& view, bool with_layer) {
    section(title, &help);
    ImGui::SameLine(0, px(12));
    const bool is_other = !other_model(s, view.shown()).empty();
    const Source source = is_other ? Source::recorded : view.record ? view.source : Source::none;
    badge(source);
    if (source != Source::none) ImGui::SameLine(0, px(12));
    text_dim(cursor_text(s, view, with_layer), "view/cursor");
}

bool require_model(const Snapshot& s) {
    if (s.model) return true;
    if (s.is_loading)
        empty_state("Opening the model\xE2\x80\xA6", "Its parts are shown here once the folder is checked.");
    else
        empty_state("No model is open",
                    "Open a folder with a DeepSeek-V4 checkpoint: File > Open model folder\xE2\x80\xA6, or drop it on the window.");
    return false;
}

bool require_record(const Snapshot& s, View& view, ProbeSet probes) {
    if (!require_model(s) || !require_own_record(s, view, view.shown())) return false;
    if (view.record) return true;
    if (s.timeline.tokens.empty()) {
        empty_state("Nothing was read yet",
                    "Ask something in the chat: every token the model reads or writes can be looked into here.");
    } else if (view.cursor.token.position < 0) {
        empty_state("No token is selected",
                    "Click a token in the chat or in the token strip, or press L to follow the newest one.");
    } else if (s.is_generating) {
        empty_state("On its way", "This token is being computed; its numbers appear when it is done.");
    } else if (empty_state("This token's record is not here",
                           "It was the last token drawn and never read, or it fell out of the trace, which keeps the "
                           "newest 256 MiB.",
                           "Compute it again")) {
        view.commands.send(RecomputeToken{view.cursor.token, base_probes() | probes});
    }
    return false;
}

bool is_narrow() {
    return ImGui::GetContentRegionAvail().x < px(640);
}

void four_panes(const GridPane (&panes)[4], float upper, float left_upper, float left_lower) {
    if (is_narrow()) {
        for (const GridPane& p : panes) {
            Pane pane(p.id, {0, px(p.least)});
            p.draw();
        }
        return;
    }
    const ImVec2 room = ImGui::GetContentRegionAvail(), spacing = ImGui::GetStyle().ItemSpacing;
    const float least_below = px(std::max(panes[2].least, panes[3].least));
    const float above = std::max(std::floor(std::min(room.y * upper, room.y - least_below - spacing.y)),
                                 px(std::max(panes[0].least, panes[1].least)));
    const float below = std::max(room.y - above - spacing.y, least_below);
    for (int i = 0; i < 4; ++i) {
        const float share = i == 0 ? left_upper : left_lower;
        if (i % 2 == 1) ImGui::SameLine(0, spacing.x);
        Pane pane(panes[i].id, {i % 2 == 0 ? std::floor((room.x - spacing.x) * share) : 0, i < 2 ? above : below});
        panes[i].draw();
    }
}

int64_t timeline_index(const Timeline& t, TokenRef ref) {
    const auto n = static_cast<int64_t>(t.tokens.size());
    if (ref.position >= 0 && ref.position < n && t.tokens[ref.position].ref == ref) return ref.position;
    const auto it = std::find_if(t.tokens.begin(), t.tokens.end(), [ref](const TokenInfo& i) { return i.ref == ref; });
    return it == t.tokens.end() ? -1 : it - t.tokens.begin();
}

}  // namespace vitrine::viz::ui
