// Routing: which experts every layer chose for a token, why, and how the load spreads.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/telemetry/derive.h"
#include "viz/panels.h"
#include "viz/readings/loads.h"
#include "viz/readings/router.h"
#include "viz/text_util.h"
#include "viz/widgets/bars.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/heatmap.h"
#include "viz/widgets/table.h"
#include "viz/widgets/view_head.h"

namespace vitrine::viz {
namespace {

constexpr Help kHelp = {
    "For the selected token: the router's affinity to every expert in every layer, the experts it chose (outlined), "
    "and why. "
    "Below: how often each expert of the selected layer was chosen over a part of the conversation.",
    "One row per layer: its number, its kind (S sliding window, C CSA, H HCA) and # when experts come from the token "
    "id table. "
    "Brighter is a higher affinity. A bias is added for choosing only; the weight uses the affinity alone. The margin "
    "says by "
    "how much an expert beat the best one left out. MaxVio is the heaviest load over the mean load, minus 1: 0 is "
    "perfect balance.",
    "s = sqrt(softplus(W x));  chosen = top-K of s + bias;  weight = scale \xC2\xB7 s / sum of chosen s",
    "DeepSeek-V4 report 2.1, official Gate; bias and MaxVio: arXiv 2408.15664",
    "Select two tokens that mean the same in different phases and compare which experts layer by layer; then look at a "
    "# layer, "
    "where the same token always goes to the same experts.",
};

class RoutingPanel final : public Panel {
  public:
    const char* name() const override { return "Routing"; }
    const Help& help() const override { return kHelp; }
    void draw(const Snapshot& s, View& view) override;

  private:
    void draw_map(const Snapshot& s, View& view);
    void draw_why(const Snapshot& s, View& view);
    void draw_choice_table(const RouterReading& r, View& view);
    void draw_loads(const Snapshot& s, View& view);
    void draw_load_bars(const std::vector<int64_t>& counts, const LoadStats& stats, View& view);
    void draw_card(const Snapshot& s, View& view);
    void read(const Snapshot& s, const View& view);

    std::shared_ptr<const TokenRecord> record_;
    const ModelInfo* model_ = nullptr;
    std::vector<RouterReading> layers_;
    std::vector<float> map_values_;
    std::vector<ui::CellMark> marks_;
    int marked_layer_ = -1, marked_expert_ = -1;
    ui::Heatmap map_;
    LoadCounter loads_;
    ExpertCard card_;
    int span_ = static_cast<int>(Span::all);
};

// Readings of all layers, once per record and selection.
void RoutingPanel::read(const Snapshot& s, const View& view) {
    const Cursor& c = view.cursor;
    const bool is_same = record_ == view.record && model_ == s.model.get();
    if (is_same && marked_layer_ == c.layer && marked_expert_ == c.expert) return;
    const int n_layers = s.model->config.n_layers(), n_experts = s.model->config.n_experts;
    if (!is_same) {
        record_ = view.record, model_ = s.model.get();
        layers_.clear();
        map_values_.assign(static_cast<size_t>(n_layers) * n_experts, std::numeric_limits<float>::quiet_NaN());
        for (int l = 0; l < n_layers; ++l) {
            layers_.push_back(read_router(*record_, *model_, l));
            const std::vector<float>& a = layers_.back().affinity;
            std::copy_n(a.begin(), std::min(a.size(), static_cast<size_t>(n_experts)),
                        map_values_.begin() + l * n_experts);
        }
    }
    marked_layer_ = c.layer, marked_expert_ = c.expert;
    marks_.clear();
    for (int l = 0; l < n_layers; ++l) {
        if (layers_[l].is_hash)
            for (int e = 0; e < n_experts; ++e) marks_.push_back({l, e, ui::CellMark::Kind::hatch});
        for (const ChosenExpert& x : layers_[l].chosen) marks_.push_back({l, x.expert, ui::CellMark::Kind::outline});
    }
    if (c.expert >= 0) marks_.push_back({c.layer, c.expert, ui::CellMark::Kind::accent});
}

void RoutingPanel::draw(const Snapshot& s, View& view) {
    ui::view_head(kHelp, "Routing", s, view, true);
    if (!ui::require_record(s, view, probes())) return;
    read(s, view);
    ui::four_panes({{"routing-map", 230, [&] { draw_map(s, view); }},
                    {"routing-why", 220, [&] { draw_why(s, view); }},
                    {"routing-loads", 210, [&] { draw_loads(s, view); }},
                    {"routing-card", 180, [&] { draw_card(s, view); }}},
                   0.57f, 0.5f, 0.66f);
}

void RoutingPanel::draw_map(const Snapshot& s, View& view) {
    const ModelConfig& c = s.model->config;
    ui::section("Affinity, layers \xC3\x97 experts");
    ui::HeatmapSpec spec;
    spec.id = "routing/map";
    spec.values = map_values_;
    spec.rows = c.n_layers(), spec.cols = c.n_experts;
    spec.lo = spec.hi = 0;
    spec.value_name = "affinity";
    spec.row_name = "layer", spec.col_name = "expert", spec.has_names = true;
    spec.row_label = [&](int r) {
        return std::to_string(r) + " " + layer_glyph(c.layers[r].kind()) + (c.layers[r].is_hash_routed ? "#" : " ");
    };
    spec.row_color = [&](int r) { return theme().kind(c.layers[r].kind()); };
    const int every = c.n_experts <= 64 ? 1 : 32;
    spec.col_label = [every](int e) { return e % every == 0 ? std::to_string(e) : std::string(); };
    spec.hover = [&](int r, int e) {
        const RouterReading& l = layers_[r];
        ui::plainf("expert %d", e);
        for (const ChosenExpert& x : l.chosen)
            if (x.expert == e) {
                ui::plainf("chosen, rank %d of %zu, weight %s", x.rank, l.chosen.size(),
                            ui::full_precision(x.weight).c_str());
                if (!l.is_hash)
                    ui::plainf("bias %s, margin %s", ui::full_precision(x.bias).c_str(),
                                ui::full_precision(x.margin).c_str());
            }
        if (!l.has_chosen(e)) ui::plain("not chosen");
        if (l.is_hash) ui::plain("chosen by the token id table");
    };
    spec.marks = marks_;
    spec.selected_row = view.cursor.layer;
    const ui::HeatmapResult result = map_.draw(spec);
    if (result.is_clicked) view.cursor.layer = result.hovered_row, view.cursor.expert = result.hovered_col;
}

void RoutingPanel::draw_choice_table(const RouterReading& r, View& view) {
    static constexpr ui::Column kColumns[] = {
        {"rank", 38, true, "1 is the highest selection score; in # layers, the table's order"},
        {"expert", 48, true, "number within the layer: expert 3 of two layers are unrelated"},
        {"affinity", 0, true, "sqrt(softplus(router logit))"},
        {"bias", 0, true, "added to the affinity for choosing, never for weighting"},
        {"score", 0, true, "selection score: affinity + bias, what is compared"},
        {"weight", 0, true, "of the expert's output in the sum; affinities of the chosen, normalised and scaled"},
        {"margin", 0, true, "selection minus the best selection left out"},
    };
    ui::TableSpec spec;
    spec.id = "routing/why";
    spec.columns = kColumns;
    spec.n_rows = static_cast<int>(r.chosen.size());
    spec.row_name = [](int row) { return "rank/" + std::to_string(row); };
    spec.cell = [&](int row, int column) -> ui::Cell {
        const ChosenExpert& c = r.chosen[row];
        switch (column) {
            case 0:
                return ui::Cell::count(c.rank);
            case 1:
                return ui::Cell::count(c.expert);
            case 2:
                return r.affinity.empty() ? ui::Cell("not recorded", theme().text_dim) : ui::Cell::value(c.affinity);
            case 5:
                return ui::Cell::value(c.weight);
            default:
                break;
        }
        // The token id table knows no score: a dash, and no number for anybody to read.
        if (r.is_hash || r.without_bias.empty()) return ui::Cell("\xE2\x80\x93", theme().text_dim);
        if (column == 3) return ui::Cell::value(c.bias);
        if (column == 4) return ui::Cell::value(c.selection);
        return r.next_best >= 0 ? ui::Cell::value(c.margin) : ui::Cell("\xE2\x80\x93", theme().text_dim);
    };
    for (size_t i = 0; i < r.chosen.size(); ++i)
        if (r.chosen[i].expert == view.cursor.expert) spec.selected = static_cast<int>(i);
    const ui::TableResult result = ui::table(spec);
    if (result.clicked >= 0) view.cursor.expert = r.chosen[result.clicked].expert;
}

void RoutingPanel::draw_why(const Snapshot& s, View& view) {
    ui::section("Why these experts");
    ImGui::SameLine(0, px(10));
    ui::text_dim(ui::layer_text(s.model->config, view.cursor.layer));
    if (view.cursor.layer < 0 || view.cursor.layer >= static_cast<int>(layers_.size())) return;
    const RouterReading& r = layers_[view.cursor.layer];
    if (!r.is_recorded) {
        ui::empty_state("Not recorded", "This token's record has no routing for this layer.");
        return;
    }
    draw_choice_table(r, view);
    const std::string text = view.token ? token_label(view.token->text) : "";
    ui::text_wrapped(routing_sentence(r, text, view.token ? view.token->id : -1), "routing/why/sentence");
    if (ui::registry_is_on()) {
        if (!r.is_hash)
            for (size_t i = 0; i < r.without_bias.size(); ++i)
                ui::value("routing/why/without_bias/" + std::to_string(i), r.without_bias[i]);
        if (r.has_recorded_margin) ui::value("routing/why/recorded_margin", r.recorded_margin);
    }
    if (!r.is_hash && r.next_best >= 0) {
        const std::string next = "Best left out: expert " + std::to_string(r.next_best) + ", score " +
                                 ui::format_number(r.next_selection) + ".";
        ui::text_dim(next, "routing/why/next");
        ui::value("routing/why/next", r.next_selection);
    }
    if (r.has_norms) {
        ImGui::Dummy({0, px(2)});
        ui::text_dim("Size of what they add (L2 norm)");
        const ui::Share parts[] = {{"routed experts", r.routed_norm, theme().text_dim},
                                   {"shared expert", r.shared_norm, theme().shared}};
        ui::stacked_bar("routing/norms", parts, ImGui::GetContentRegionAvail().x, px(10));
        for (const ui::Share& part : parts) {
            if (&part != parts) ImGui::SameLine(0, px(14));
            ui::dot(part.color);
            ImGui::SameLine(0, px(6));
            ui::text_dim(std::string(part.name) + " " + ui::format_number(part.value));
        }
    }
}

void RoutingPanel::draw_loads(const Snapshot& s, View& view) {
    const bool has_more = loads_.update(s.timeline, s.trace.get(), *s.model);
    ui::section("Load");
    ImGui::SameLine(0, px(12));
    static constexpr const char* kSpanNames[] = {"prompt", "thinking", "answer", "all"};
    ui::segmented("routing/span", span_, kSpanNames, kSpans);
    const auto span = static_cast<Span>(span_);
    const std::vector<int64_t> counts = loads_.counts(view.cursor.layer, span);
    const LoadStats stats = load_stats(counts);
    const int64_t n = loads_.n_tokens(span);
    std::string line =
        ui::format_count(n) + (n == 1 ? " token, " : " tokens, ") + ui::layer_text(s.model->config, view.cursor.layer);
    if (has_more)
        line += " (still counting)";
    else if (loads_.n_unrecorded() > 0)
        line += " (" + ui::format_count(loads_.n_unrecorded()) + " older ones fell out of the trace)";
    ui::text_dim(line, "routing/load/span");
    ui::value("routing/load/tokens", static_cast<double>(n));
    ui::value("routing/load/total", static_cast<double>(stats.total));
    if (n == 0) {
        ui::empty_state("No tokens here", "This part of the conversation has no recorded token yet.");
        return;
    }
    ui::label_number("MaxVio", stats.max_violation, "", "routing/load/maxvio");
    ImGui::SameLine(0, px(18));
    ui::label_number("entropy", stats.entropy, ("of " + ui::format_number(stats.max_entropy) + " bit").c_str(),
                     "routing/load/entropy");
    ImGui::SameLine(0, px(18));
    ui::text_dim("never chosen " + std::to_string(stats.n_dead) + " of " + std::to_string(counts.size()),
                 "routing/load/dead");
    ui::value("routing/load/dead", stats.n_dead);
    ImGui::SameLine(0, px(18));
    ui::dot(theme().text);
    ImGui::SameLine(0, px(6));
    ui::text_dim("this token's");
    draw_load_bars(counts, stats, view);
}

void RoutingPanel::draw_load_bars(const std::vector<int64_t>& counts, const LoadStats& stats, View& view) {
    std::vector<float> sorted(counts.begin(), counts.end());
    const std::vector<int> order = top_indices(sorted, static_cast<int>(sorted.size()));
    for (size_t i = 0; i < order.size(); ++i) sorted[i] = static_cast<float>(counts[order[i]]);
    const RouterReading& r = layers_[std::clamp(view.cursor.layer, 0, static_cast<int>(layers_.size()) - 1)];
    const double mean = static_cast<double>(stats.total) / static_cast<double>(counts.size());
    ui::BarsSpec spec;
    spec.id = "routing/load";
    spec.values = sorted;
    // A dead expert's label carries the cross; the bar's height alone would not tell 0 from little.
    spec.label = [&](int i) { return (counts[order[i]] == 0 ? "\xC3\x97" : "") + std::to_string(order[i]); };
    spec.color = [&](int i) { return r.has_chosen(order[i]) ? theme().text : with_alpha(theme().text_dim, 0.55f); };
    spec.hover = [&](int i) {
        ui::plainf("expert %d: %s of the load, %s x the mean", order[i],
                    ui::format_percent(sorted[i] / stats.total).c_str(), ui::format_number(sorted[i] / mean).c_str());
        if (counts[order[i]] == 0) ui::plain("never chosen here");
        if (r.has_chosen(order[i])) ui::plain("chosen for the selected token");
    };
    spec.value_name = "chosen", spec.unit = "times", spec.label_name = "expert";
    spec.line = mean, spec.line_label = "mean";
    for (size_t i = 0; i < order.size(); ++i)
        if (order[i] == view.cursor.expert) spec.selected = static_cast<int>(i);
    spec.height = std::max(px(60), ImGui::GetContentRegionAvail().y);
    const ui::BarsResult result = ui::vertical_bars(spec);
    if (result.is_clicked) view.cursor.expert = order[result.hovered];
    if (ui::registry_is_on())
        for (size_t i = 0; i < order.size(); ++i)
            ui::value("routing/load/expert/" + std::to_string(order[i]), sorted[i]);
}

void RoutingPanel::draw_card(const Snapshot& s, View& view) {
    int expert = view.cursor.expert;
    if (expert >= s.model->config.n_experts) expert = -1;
    const bool is_own_choice = expert >= 0;
    // Until one is chosen: the one with the largest weight in this layer.
    if (!is_own_choice && view.cursor.layer >= 0 && view.cursor.layer < static_cast<int>(layers_.size())) {
        const std::vector<ChosenExpert>& chosen = layers_[view.cursor.layer].chosen;
        const auto heaviest = std::max_element(chosen.begin(), chosen.end(),
                                               [](const auto& a, const auto& b) { return a.weight < b.weight; });
        if (heaviest != chosen.end()) expert = heaviest->expert;
    }
    ui::section(expert < 0 ? "Expert" : ("Expert " + std::to_string(expert)).c_str());
    if (!is_own_choice) {
        ui::FontScope small(Font::small);
        ui::Color dim(theme().text_dim);
        ui::text_wrapped(
            std::string(expert < 0 ? "" : "The heaviest one. ") + "Click another in the map, the table or the bars.",
            "routing/card/hint");
    }
    if (expert < 0) return;
    const bool has_more = card_.update(s.timeline, s.trace.get(), *s.model, view.cursor.layer, expert);
    const auto n = static_cast<int64_t>(card_.tokens().size());
    ui::text_dim(ui::layer_text(s.model->config, view.cursor.layer) + (has_more ? " (still counting)" : ""));
    ui::text_dim("chosen " + ui::format_count(n) + (n == 1 ? " time" : " times"), "routing/card/count");
    ui::value("routing/card/count", static_cast<double>(n));
    ui::label_number("mean weight", card_.mean_weight(), "", "routing/card/weight");
    std::vector<float> together(card_.together().begin(), card_.together().end());
    std::string partners;
    for (const int e : top_indices(together, 3))
        if (together[e] > 0)
            partners += (partners.empty() ? "" : ", ") + std::to_string(e) + " (" +
                        ui::format_percent(together[e] / std::max<double>(1, n)) + ")";
    ui::text_dim("most often together with expert");
    ui::text_mono(partners.empty() ? "none" : partners, "routing/card/together");
    ui::text_dim("latest tokens that chose it");
    ui::Region list("tokens", {0, 0});
    constexpr int64_t kShown = 200;
    for (int64_t i = n - 1; i >= std::max<int64_t>(0, n - kShown); --i) {
        const TokenInfo& token = s.timeline.tokens[card_.tokens()[i]];
        ImGui::PushID(static_cast<int>(i));
        const std::string label = std::to_string(token.ref.position) + "  " + token_label(token.text);
        ui::FontScope mono(Font::mono_small);
        if (ImGui::Selectable(ui::elide(label, ImGui::GetContentRegionAvail().x).c_str(),
                              token.ref == view.cursor.token)) {
            view.cursor.token = token.ref;
            view.cursor.is_live = false;
        }
        ImGui::PopID();
    }
}

}  // namespace

std::unique_ptr<Panel> make_routing_panel() {
    return std::make_unique<RoutingPanel>();
}

}  // namespace vitrine::viz
