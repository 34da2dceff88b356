// Attention: where a token looked, layer by layer: window, compressed entries, sink; which entries CSA chose and with
// what score.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/telemetry/derive.h"
#include "viz/panels.h"
#include "viz/readings/attention.h"
#include "viz/text_util.h"
#include "viz/widgets/bars.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/export.h"
#include "viz/widgets/token_text.h"
#include "viz/widgets/view_head.h"

namespace vitrine::viz {
namespace {

constexpr Help kHelp = {
    "Where the selected token's attention went in every layer, and, in the selected layer, which tokens it could see: "
    "the "
    "window (underlined), CSA entries (tinted by their share of attention, outlined when the indexer chose them), HCA "
    "blocks "
    "(brackets, tinted alike). Below, the scores that decided.",
    "Left: one bar per layer; window, compressed entries and sink share one softmax and sum to 1. In a CSA layer the "
    "indexer "
    "scores every visible entry and keeps the k best: those at or above the cut. An HCA layer keeps every block. Hover "
    "a token "
    "for its entry; Ctrl+click keeps that entry selected; a plain click moves the cursor to the token.",
    "visible entries = floor((t+1)/r);  score = q\xC2\xB7k / sqrt(c);  share = exp(score) / (sum of exp + exp(sink));  "
    "index score I = \xCE\xA3 w\xC2\xB7relu(Q\xC2\xB7key)",
    "DeepSeek-V4 report 2.3; official Attention, Compressor, Indexer",
    "Select a token late in the conversation and a CSA layer, then look for outlined entries far outside the "
    "underlined window: "
    "what did the model fetch from there?",
};

constexpr int64_t kMaxAutoContext = 16384;  // index scores of every entry are recorded up to here, on request beyond
constexpr int kMaxBars = 600;

class AttentionPanel final : public Panel {
  public:
    const char* name() const override { return "Attention"; }
    const Help& help() const override { return kHelp; }
    ProbeSet probes() const override;
    void draw(const Snapshot& s, View& view) override;

  private:
    void read(const Snapshot& s, const View& view);
    void draw_narrow(const Snapshot& s, View& view);
    void draw_layers(const Snapshot& s, View& view);
    static void draw_share_legend(ui::Canvas canvas, std::span<const std::pair<const char*, ImU32>> legend, ImVec2 at);
    void draw_head_choice(const Snapshot& s, View& view);
    void draw_summary();
    void draw_map(const Snapshot& s, View& view);
    ui::TokenStyle style_of(int64_t token) const;
    void draw_token_hover(const Snapshot& s, const View& view, int64_t token);
    void draw_scores(const Snapshot& s, View& view);
    void draw_index_scores(View& view);
    void draw_masses(View& view);
    void draw_entry_card(const Snapshot& s, View& view);
    void draw_entry(const Snapshot& s, const View& view, int64_t entry, bool is_card);
    void draw_pooling(const Snapshot& s, const View& view, const EntrySource& source, bool is_card);
    int64_t entry_of(int64_t token) const;

    std::shared_ptr<const TokenRecord> record_;
    const ModelInfo* model_ = nullptr;
    int layer_ = -1, head_ = -2;
    int64_t position_ = -1;
    AttentionReading reading_;
    std::vector<float> mass_by_entry_;  // NaN: not attended to
    float largest_mass_ = 0;
    int64_t hovered_entry_ = -1;
    int wanted_head_ = -1;
    int64_t context_ = 0;
    ui::TokenText text_;
};

ProbeSet AttentionPanel::probes() const {
    ProbeSet p = 0;
    if (context_ <= kMaxAutoContext) p |= probe_bit(kIndexScores);
    if (wanted_head_ >= 0) p |= probe_bit(kSharesHead) | probe_bit(kEntryMassHead);
    return p;
}

void AttentionPanel::read(const Snapshot& s, const View& view) {
    const Cursor& c = view.cursor;
    const int64_t position = view.token ? view.token->ref.position : c.token.position;
    wanted_head_ = c.head;
    context_ = static_cast<int64_t>(s.timeline.tokens.size());
    if (record_ == view.record && model_ == s.model.get() && layer_ == c.layer && head_ == c.head &&
        position_ == position)
        return;
    record_ = view.record, model_ = s.model.get(), layer_ = c.layer, head_ = c.head, position_ = position;
    reading_ = read_attention(*record_, *model_, layer_, position_, head_);
    mass_by_entry_.assign(static_cast<size_t>(reading_.n_entries), std::nanf(""));
    largest_mass_ = 0;
    for (const AttendedEntry& e : reading_.entries) {
        if (e.entry >= reading_.n_entries) continue;
        mass_by_entry_[e.entry] = e.has_mass ? e.mass : 0;
        largest_mass_ = std::max(largest_mass_, e.mass);
    }
}

void AttentionPanel::draw(const Snapshot& s, View& view) {
    ui::view_head(kHelp, "Attention", s, view, true);
    if (!ui::require_record(s, view, probes())) return;
    read(s, view);
    if (ui::is_narrow()) return draw_narrow(s, view);
    const ImVec2 room = ImGui::GetContentRegionAvail();
    const float gap = ImGui::GetStyle().ItemSpacing.x, left = std::clamp(room.x * 0.24f, px(170), px(300));
    {
        ui::Pane pane("attention-layers", {left, 0});
        draw_layers(s, view);
    }
    ImGui::SameLine(0, gap);
    ui::Region right("attention-right", {0, 0});
    const ImVec2 inner = ImGui::GetContentRegionAvail();
    const float lower = std::clamp(inner.y * 0.5f, px(150), px(360));
    {
        ui::Pane pane("attention-map", {0, inner.y - lower - ImGui::GetStyle().ItemSpacing.y});
        draw_map(s, view);
    }
    {
        ui::Pane pane("attention-scores", {std::floor(inner.x * 0.5f), 0});
        draw_scores(s, view);
    }
    ImGui::SameLine(0, gap);
    {
        ui::Pane pane("attention-entry", {0, 0});
        draw_entry_card(s, view);
    }
}

void AttentionPanel::draw_narrow(const Snapshot& s, View& view) {
    const std::pair<float, void (AttentionPanel::*)(const Snapshot&, View&)> parts[] = {
        {220, &AttentionPanel::draw_map},
        {220, &AttentionPanel::draw_scores},
        {220, &AttentionPanel::draw_entry_card},
        {300, &AttentionPanel::draw_layers}};
    for (const auto& [height, draw] : parts) {
        ImGui::PushID(static_cast<int>(&height - &parts[0].first));
        {
            ui::Pane pane("attention-part", {0, px(height)});
            (this->*draw)(s, view);
        }
        ImGui::PopID();
    }
}

void AttentionPanel::draw_layers(const Snapshot& s, View& view) {
    const ModelConfig& c = s.model->config;
    ui::section("Where it looks");
    draw_head_choice(s, view);
    const Theme& t = theme();
    const std::pair<const char*, ImU32> legend[] = {
        {"window", t.window}, {"CSA", t.csa}, {"HCA", t.hca}, {"sink", t.sink}};
    float x = 0;
    const float room = ImGui::GetContentRegionAvail().x;
    ui::FontScope small(Font::small);
    for (const auto& [word, color] : legend) {
        const float w = px(14) + ImGui::CalcTextSize(word).x + px(10);
        if (x > 0 && x + w <= room)
            ImGui::SameLine(0, px(10));
        else
            x = 0;
        x += w;
        ui::dot(color, 4);
        ImGui::SameLine(0, px(6));
        ui::plain(word);
    }
    ui::Region list("layers", {0, 0});
    ui::FontScope mono(Font::mono_small);
    const float label = ImGui::CalcTextSize("00 C# ").x, width = ImGui::GetContentRegionAvail().x - label;
    const float rows = static_cast<float>(std::max(1, c.n_layers()));
    const float line = ImGui::GetTextLineHeight(), axis = 2 * line + px(6);
    const float step = std::clamp((ImGui::GetContentRegionAvail().y - axis) / rows, line + px(3), px(30));
    const ImVec2 top = ImGui::GetCursorScreenPos();
    ui::Recording recording("attention/shares", top, label + width);
    ui::Canvas canvas = recording.canvas(ImGui::GetWindowDrawList());
    std::string csv = "layer,kind,window,compressed,sink\n";
    for (int l = 0; l < c.n_layers(); ++l) {
        const AttentionReading r = read_attention(*record_, *s.model, l, position_, view.cursor.head);
        const ImVec2 p{top.x, top.y + step * static_cast<float>(l)};
        const LayerConfig& config = c.layers[l];
        const std::string name =
            std::to_string(l) + " " + layer_glyph(config.kind()) + (config.is_hash_routed ? "#" : "");
        ImDrawList* dl = ImGui::GetWindowDrawList();
        if (l == view.cursor.layer)
            dl->AddRect({p.x - px(1), p.y}, {p.x + label + width, p.y + step - px(1)}, t.accent, px(3), 0, px(1.5f));
        canvas.text({p.x + px(3), p.y + (step - ImGui::GetTextLineHeight()) / 2}, t.kind(config.kind()), name);
        ImGui::SetCursorScreenPos({p.x + label, p.y + px(3)});
        const ui::Share parts[] = {
            {"window", r.window, t.window},
            {config.kind() == LayerKind::hca ? "HCA" : "CSA", r.compressed, t.kind(config.kind())},
            {"sink", r.sink, t.sink}};
        const int part = ui::stacked_bar(("attention/shares/" + std::to_string(l)).c_str(), parts, width - px(4),
                                         step - px(7), 1, "", &canvas);
        if (ImGui::IsItemClicked()) view.cursor.layer = l, view.cursor.entry = -1;
        const std::string row = std::to_string(l) + "," + layer_glyph(config.kind()) + "," +
                                ui::exact_number(r.window) + "," + ui::exact_number(r.compressed) + "," +
                                ui::exact_number(r.sink);
        csv += row + "\n";
        ImGui::PushID(l);
        ui::copy_menu("copy", {part < 0 ? "" : ui::full_precision(parts[part].value), row, {}, "attention/shares", {}});
        ImGui::PopID();
    }
    const float bars_end = top.y + step * rows, bottom = bars_end + axis;
    const auto below = [&](const char* words, float share, float down) {
        const float w = ImGui::CalcTextSize(words).x;
        canvas.text({top.x + label + (width - px(4) - w) * share, bars_end + down}, t.text_dim, words);
    };
    below("0", 0, px(2)), below("50 %", 0.5f, px(2)), below("100 %", 1, px(2));
    below("share of attention", 0.5f, line + px(4));
    if (recording.is_on()) draw_share_legend(recording.canvas(nullptr), legend, {top.x, bottom + px(4)});
    recording.finish(bottom + (recording.is_on() ? ImGui::GetTextLineHeight() + px(8) : 0),
                     [&] { return [csv] { return csv; }; });
    ImGui::SetCursorScreenPos(top);
    ImGui::Dummy({1, bottom - top.y});
}

// In the picture only: on the screen it stands above the list.
void AttentionPanel::draw_share_legend(ui::Canvas canvas, std::span<const std::pair<const char*, ImU32>> legend,
                                       ImVec2 at) {
    for (const auto& [word, color] : legend) {
        canvas.circle_filled({at.x + px(4), at.y + ImGui::GetTextLineHeight() / 2}, px(4), color);
        canvas.text({at.x + px(12), at.y}, theme().text, word);
        at.x += px(26) + ImGui::CalcTextSize(word).x;
    }
}

void AttentionPanel::draw_head_choice(const Snapshot& s, View& view) {
    const int n = s.model->config.n_heads;
    const auto title = [](int h) { return h < 0 ? std::string("mean over heads") : "head " + std::to_string(h); };
    ImGui::SetNextItemWidth(ImGui::GetContentRegionAvail().x);
    const bool is_open = ImGui::BeginCombo("##head", title(view.cursor.head).c_str());
    ui::mark("attention/head", title(view.cursor.head));
    if (is_open) {
        for (int h = -1; h < n; ++h) {
            if (ImGui::Selectable(title(h).c_str(), h == view.cursor.head)) view.cursor.head = h;
            ui::mark("attention/head/" + std::to_string(h), title(h));
        }
        ImGui::EndCombo();
    }
    if (view.cursor.head < 0 || reading_.has_head || reading_.head != view.cursor.head) return;
    ui::text_wrapped("Single heads are not recorded for this token; the mean is shown.");
    if (ui::button("Compute heads"))
        view.commands.send(
            RecomputeToken{view.cursor.token, base_probes() | probe_bit(kSharesHead) | probe_bit(kEntryMassHead)});
}

void AttentionPanel::draw_summary() {
    const AttentionReading& r = reading_;
    std::string s = "window " + ui::format_percent(r.window);
    if (r.kind != LayerKind::sliding)
        s +=
            std::string(" \xC2\xB7 ") + (r.kind == LayerKind::csa ? "CSA " : "HCA ") + ui::format_percent(r.compressed);
    s += " \xC2\xB7 sink " + ui::format_percent(r.sink);
    if (r.kind == LayerKind::csa)
        s += " \xC2\xB7 " + ui::format_count(static_cast<int64_t>(r.entries.size())) + " of " +
             ui::format_count(r.n_entries) + " entries chosen";
    if (r.kind == LayerKind::hca)
        s += " \xC2\xB7 " + ui::format_count(r.n_entries) + (r.n_entries == 1 ? " block, kept" : " blocks, all kept");
    ui::text_dim(s, "attention/summary");
    ui::value("attention/n_entries", static_cast<double>(r.n_entries));
}

int64_t AttentionPanel::entry_of(int64_t token) const {
    if (reading_.ratio == 0 || token < 0 || token > position_) return -1;
    const int64_t e = token / reading_.ratio;
    return e < reading_.n_entries ? e : -1;
}

ui::TokenStyle AttentionPanel::style_of(int64_t i) const {
    const Theme& t = theme();
    ui::TokenStyle style;
    if (i > position_) {  // not there yet when this token was computed
        style.ink = t.text_faint;
        return style;
    }
    if (i >= reading_.window_begin) style.underline = t.window;
    const int64_t e = entry_of(i);
    if (e < 0) return style;
    const float mass = mass_by_entry_[e];
    const ImU32 color = t.kind(reading_.kind);
    const float tint = largest_mass_ > 0 && mass > 0 ? mass / largest_mass_ : 0;
    if (tint > 0) style.fill = with_alpha(color, 0.08f + 0.62f * tint);
    const bool is_first = i % reading_.ratio == 0, is_last = (i + 1) % reading_.ratio == 0;
    if (reading_.kind == LayerKind::hca) {
        style.bracket = color, style.is_bracket_begin = is_first, style.is_bracket_end = is_last;
        style.joins_left = !is_first, style.joins_right = !is_last;
    } else if (!std::isnan(mass)) {
        style.outline = color;
        style.joins_left = !is_first, style.joins_right = !is_last;
        if (is_first && ui::registry_is_on()) ui::value("attention/outlined/" + std::to_string(e), mass);
    }
    if (hovered_entry_ < 0) return style;
    const EntrySource source = entry_source(reading_.kind, reading_.ratio, hovered_entry_);
    if (i >= source.own_begin && i < source.own_end) style.outline = t.text;
    if (i >= source.overlapped_begin && i < source.overlapped_end) style.outline = t.text_dim;
    if (i >= source.overlapped_begin && i < source.own_end) style.joins_left = !is_first, style.joins_right = !is_last;
    return style;
}

void AttentionPanel::draw_map(const Snapshot& s, View& view) {
    ui::section("In the text");
    ImGui::SameLine(0, px(12));
    draw_summary();
    const int64_t index = ui::timeline_index(s.timeline, view.shown());
    if (index < 0) {
        ui::empty_state(
            "Its text is no longer in context",
            "The conversation has moved on since this token was recorded; its entries and scores are listed below.");
        return;
    }
    ui::TokenTextSpec spec;
    spec.id = "attention/text";
    spec.tokens = s.timeline.tokens;
    spec.version = s.timeline_version;
    spec.selected = index;
    spec.style = [this](int64_t i) { return style_of(i); };
    spec.hover = [&](int64_t i) { draw_token_hover(s, view, i); };
    const ui::TokenTextResult result = text_.draw(spec);
    ui::value("attention/text/selected", static_cast<double>(index));
    hovered_entry_ = entry_of(result.hovered);
    if (result.clicked < 0) return;
    if (ImGui::GetIO().KeyCtrl && entry_of(result.clicked) >= 0) {
        view.cursor.entry = static_cast<int>(entry_of(result.clicked));
    } else {
        view.cursor.token = s.timeline.tokens[result.clicked].ref;
        view.cursor.is_live = false;
    }
}

void AttentionPanel::draw_token_hover(const Snapshot& s, const View& view, int64_t token) {
    ui::text_dim("token " + std::to_string(token) + " \"" + token_label(s.timeline.tokens[token].text) + "\"");
    if (token > position_) {
        ui::plain("comes after the selected token");
        return;
    }
    const int64_t in_window = token - reading_.window_begin;
    if (in_window >= 0 && in_window < static_cast<int64_t>(reading_.window_mass.size()))
        ui::plainf("in the window: %s of attention", ui::full_precision(reading_.window_mass[in_window]).c_str());
    const int64_t entry = entry_of(token);
    if (entry >= 0)
        draw_entry(s, view, entry, false);
    else if (reading_.ratio > 0)
        ui::plain("its entry is not complete yet");
}

void AttentionPanel::draw_scores(const Snapshot& s, View& view) {
    if (reading_.kind == LayerKind::csa) {
        ui::section("Index scores, best first");
        draw_index_scores(view);
    } else if (reading_.kind == LayerKind::hca) {
        ui::section("Attention per block");
        draw_masses(view);
    } else {
        ui::section("Attention in the window");
        ui::BarsSpec spec;
        spec.id = "attention/window";
        spec.values = reading_.window_mass;
        spec.value_name = "share of attention", spec.label_name = "position of the token";
        spec.color = [](int) { return theme().window; };
        spec.label = [&](int i) { return std::to_string(reading_.window_begin + i); };
        spec.hover = [&](int i) {
            const int64_t at = reading_.window_begin + i;
            if (at < static_cast<int64_t>(s.timeline.tokens.size()))
                ui::plainf("token \"%s\"", token_label(s.timeline.tokens[at].text).c_str());
        };
        if (reading_.window_mass.empty())
            ui::text_dim("not recorded");
        else
            ui::vertical_bars(spec);
    }
}

void AttentionPanel::draw_index_scores(View& view) {
    const AttentionReading& r = reading_;
    if (r.entries.empty()) {
        ui::empty_state("No entry yet",
                        ("The first entry is complete after " + std::to_string(r.ratio) + " tokens.").c_str());
        return;
    }
    std::string line;
    if (r.has_cut && r.left_some_out) {
        int digits = 3;  // as many as tell the two apart
        while (digits < 9 && ui::format_number(r.cut, digits) == ui::format_number(r.highest_left_out, digits)) ++digits;
        line = "cut at " + ui::format_number(r.cut, digits) + " \xC2\xB7 best left out " +
               ui::format_number(r.highest_left_out, digits) + " \xC2\xB7 margin " +
               ui::format_number(double{r.cut} - r.highest_left_out);
    } else if (r.has_cut) {
        line = "all " + ui::format_count(r.n_entries) + " fit: nothing was left out";
    }
    {
        ui::FontScope small(Font::small);
        ui::Color dim(theme().text_dim);
        ui::text_wrapped(line, "attention/cut/line");
    }
    if (r.has_cut) ui::value("attention/cut", r.cut);
    if (r.has_cut && r.left_some_out) ui::value("attention/left_out", r.highest_left_out);
    std::vector<float> scores;
    std::vector<int64_t> entries;
    for (const AttendedEntry& e : r.entries) scores.push_back(e.score), entries.push_back(e.entry);
    const size_t n_chosen = scores.size();
    if (!r.all_scores.empty()) {
        for (const int e : top_indices(r.all_scores, static_cast<int>(std::min<size_t>(r.all_scores.size(), kMaxBars))))
            if (!r.find(e) && scores.size() < kMaxBars) scores.push_back(r.all_scores[e]), entries.push_back(e);
    } else if (r.left_some_out) {
        if (ui::quiet_button("Compute the scores left out"))
            view.commands.send(RecomputeToken{view.cursor.token, base_probes() | probe_bit(kIndexScores)});
    }
    ui::BarsSpec spec;
    spec.id = "attention/scores";
    spec.values = scores;
    spec.value_name = "index score", spec.label_name = "entry";
    spec.color = [&](int i) {
        return static_cast<size_t>(i) < n_chosen ? theme().csa : with_alpha(theme().text_dim, 0.45f);
    };
    spec.label = [&](int i) { return std::to_string(entries[i]); };
    spec.hover = [&](int i) { ui::plain(entry_sentence(r, entries[i]).c_str()); };
    if (r.has_cut && r.left_some_out) spec.line = r.cut, spec.line_label = "cut";
    // A ranking: where scores are negative or much alike the bars stand a little below the lowest one, else on 0.
    const auto [low, high] = std::minmax_element(scores.begin(), scores.end());
    const float margin = std::max(1e-6f, (*high - *low) * 0.08f);
    spec.starts_at_lo = *low < 0 || *high - *low < *high * 0.2f;
    spec.lo = spec.starts_at_lo ? *low - margin : 0, spec.hi = *high + margin / 4;
    for (size_t i = 0; i < entries.size(); ++i)
        if (entries[i] == view.cursor.entry) spec.selected = static_cast<int>(i);
    const ui::BarsResult result = ui::vertical_bars(spec);
    if (result.hovered >= 0) hovered_entry_ = entries[result.hovered];
    if (result.is_clicked) view.cursor.entry = static_cast<int>(entries[result.hovered]);
    if (ui::registry_is_on())
        for (size_t i = 0; i < entries.size(); ++i)
            ui::value("attention/score/" + std::string(i < n_chosen ? "chosen/" : "left/") + std::to_string(entries[i]),
                      scores[i]);
}

void AttentionPanel::draw_masses(View& view) {
    const AttentionReading& r = reading_;
    if (r.entries.empty()) {
        ui::empty_state("No block yet",
                        ("The first block is complete after " + std::to_string(r.ratio) + " tokens.").c_str());
        return;
    }
    ui::text_dim(ui::format_count(r.n_entries) + (r.n_entries == 1 ? " block of " : " blocks of ") +
                     std::to_string(r.ratio) + " tokens, all kept",
                 "attention/hca/line");
    // Many blocks: the heaviest ones, by number of block when all fit.
    std::vector<int64_t> shown(r.entries.size());
    std::iota(shown.begin(), shown.end(), 0);
    if (shown.size() > kMaxBars) {
        const std::vector<int> heavy = top_indices(mass_by_entry_, kMaxBars);
        shown.assign(heavy.begin(), heavy.end());
        std::sort(shown.begin(), shown.end());
        ui::text_dim("the " + std::to_string(kMaxBars) + " heaviest");
    }
    std::vector<float> masses;
    for (const int64_t e : shown) masses.push_back(mass_by_entry_[e]);
    ui::BarsSpec spec;
    spec.id = "attention/blocks";
    spec.values = masses;
    spec.value_name = "share of attention", spec.label_name = "block", spec.is_share = true;
    spec.color = [](int) { return theme().hca; };
    spec.label = [&](int i) { return std::to_string(shown[i]); };
    spec.hover = [&](int i) { ui::plain(entry_sentence(r, shown[i]).c_str()); };
    for (size_t i = 0; i < shown.size(); ++i)
        if (shown[i] == view.cursor.entry) spec.selected = static_cast<int>(i);
    const ui::BarsResult result = ui::vertical_bars(spec);
    if (result.hovered >= 0) hovered_entry_ = shown[result.hovered];
    if (result.is_clicked) view.cursor.entry = static_cast<int>(shown[result.hovered]);
}

void AttentionPanel::draw_entry_card(const Snapshot& s, View& view) {
    ui::section("Entry");
    // Until one is chosen: the one that gets most of the attention.
    int64_t entry = hovered_entry_ >= 0 ? hovered_entry_ : view.cursor.entry;
    const bool is_own_choice = entry >= 0;
    if (!is_own_choice && largest_mass_ > 0) entry = top_indices(mass_by_entry_, 1).front();
    if (reading_.kind == LayerKind::sliding) {
        ui::text_wrapped("This layer has no compressed entries: it sees its window only.");
        return;
    }
    if (!is_own_choice) {
        ui::FontScope small(Font::small);
        ui::Color dim(theme().text_dim);
        ui::text_wrapped(std::string(entry < 0 ? "" : "The one with most attention. ") +
                             "Hover a token or a bar for its entry; click a bar, or Ctrl+click a token, to keep it.",
                         "attention/entry/hint");
    }
    if (entry >= 0) draw_entry(s, view, entry, true);
}

void AttentionPanel::draw_entry(const Snapshot& s, const View& view, int64_t entry, bool is_card) {
    const EntrySource source = entry_source(reading_.kind, reading_.ratio, entry);
    ui::text_wrapped(entry_sentence(reading_, entry), is_card ? "attention/entry/sentence" : nullptr);
    std::string from = "Pooled from " + token_range(source.own_begin, source.own_end);
    if (source.overlapped_end > source.overlapped_begin)
        from += ", overlapping " + token_range(source.overlapped_begin, source.overlapped_end);
    ui::text_wrapped(from + ".");
    if (is_card && ui::registry_is_on()) {
        ui::value("attention/entry/id", static_cast<double>(entry));
        ui::value("attention/entry/own_begin", static_cast<double>(source.own_begin));
        ui::value("attention/entry/own_end", static_cast<double>(source.own_end));
        ui::value("attention/entry/overlapped_begin", static_cast<double>(source.overlapped_begin));
        ui::value("attention/entry/overlapped_end", static_cast<double>(source.overlapped_end));
        if (const AttendedEntry* e = reading_.find(entry)) {
            ui::value("attention/entry/mass", e->mass);
            if (e->rank > 0) ui::value("attention/entry/rank", e->rank), ui::value("attention/entry/score", e->score);
        }
    }
    draw_pooling(s, view, source, is_card);
}

void AttentionPanel::draw_pooling(const Snapshot& s, const View& view, const EntrySource& source, bool is_card) {
    // The weights lie with the token that completed the entry.
    const auto completer = s.trace ? s.trace->get(view.shown().branch, source.completed_at()) : nullptr;
    const std::vector<float> weights = pooling_weights(completer.get(), layer_);
    if (weights.empty()) {
        ui::FontScope small(Font::small);
        ui::Color dim(theme().text_dim);
        ui::text_wrapped("Its inner weights fell out of the trace with token " + std::to_string(source.completed_at()) +
                         ".");
        return;
    }
    ui::text_dim("inner weights, mean over channels");
    const int64_t n_overlap = static_cast<int64_t>(weights.size()) - (source.own_end - source.own_begin);
    const int64_t first = source.own_begin - n_overlap;
    ui::BarsSpec spec;
    spec.id = is_card ? "attention/entry/pool" : "attention/hover/pool";
    spec.values = weights;
    spec.value_name = "weight";
    spec.color = [&](int i) { return with_alpha(theme().kind(reading_.kind), i < n_overlap ? 0.5f : 1.0f); };
    spec.label = [&](int i) {
        const int64_t at = first + i;
        if (at < 0) return std::string("before the start");
        const bool has_text = at < static_cast<int64_t>(s.timeline.tokens.size());
        return std::to_string(at) + " " + (has_text ? token_label(s.timeline.tokens[at].text) : std::string());
    };
    const float label_width = px(110);
    if (weights.size() <= 8) {
        if (!is_card) spec.width = px(320);
        ui::horizontal_bars(spec, label_width);
    } else {
        const auto labelled = spec.label;
        spec.hover = [&, labelled](int i) { ui::plain(labelled(i).c_str()); };
        spec.label = nullptr;
        spec.width = is_card ? 0 : px(320);
        spec.height = is_card ? std::max(px(40), ImGui::GetContentRegionAvail().y) : px(60);
        ui::vertical_bars(spec);
    }
}

}  // namespace

std::unique_ptr<Panel> make_attention_panel() {
    return std::make_unique<AttentionPanel>();
}

}  // namespace vitrine::viz
