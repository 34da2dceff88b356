// Overview: the selected token at a glance, one quiet tile per view, and what the model would say next.
#include <algorithm>
#include <cmath>
#include <functional>

#include "viz/gl.h"
#include "viz/panels.h"
#include "viz/readings/attention.h"
#include "viz/readings/router.h"
#include "viz/readings/streams.h"
#include "viz/text_util.h"
#include "viz/widgets/bars.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/export.h"
#include "viz/widgets/heatmap.h"
#include "viz/widgets/line_plot.h"
#include "viz/widgets/view_head.h"

namespace vitrine::viz {
namespace {

constexpr Help kHelp = {
    "The selected token at a glance: which experts every layer chose, where its attention went, how the streams mixed, "
    "what the cache "
    "holds, and which tokens would come next.",
    "Each tile is the essence of the view it is named after: click it to go there. The bars below are the most "
    "probable next tokens at "
    "temperature 1; the entropy says how undecided the model was (0: certain).",
    "p = softmax(logits);  H = -\xCE\xA3 p ln p [nat]",
    "DeepSeek-V4 report 2",
    "Step through an answer with the left and right keys and watch where the entropy jumps.",
};

constexpr const char* kExpertAxis = "expert (the stronger the ink, the larger the weight)";

// Every how many experts a number stands: 1, 2, 4, 8, ..., at least `least`.
int round_step(int least) {
    int step = 1;
    while (step < least) step *= 2;
    return step;
}

float small_line() {
    ui::FontScope small(Font::mono_small);
    return ImGui::GetTextLineHeight();
}

class OverviewPanel final : public Panel {
  public:
    const char* name() const override { return "Overview"; }
    const Help& help() const override { return kHelp; }
    void draw(const Snapshot& s, View& view) override;

  private:
    void read(const Snapshot& s, const View& view);
    void tile(const char* title, ImVec2 size, View& view, const std::function<void()>& body);
    struct Rows {  // where a tile's rows of layers lie
        ImVec2 at;
        float width, height;  // height: of one row
    };
    Rows draw_rows(const Snapshot& s, const View& view, const char* id, float below, ui::Canvas& canvas);
    void draw_promise(const Snapshot& s, View& view);
    void draw_routing(const Snapshot& s, const View& view);
    void draw_attention(const Snapshot& s, const View& view);
    static void draw_share_axis(ImVec2 p, ImVec2 room, ui::Canvas& canvas);
    std::string routing_csv() const;
    std::string attention_csv() const;
    void draw_streams(const View& view);
    void draw_cache(const Snapshot& s);
    void draw_next(const Snapshot& s, View& view);
    std::string next_label(const Snapshot& s, int32_t id);

    std::shared_ptr<const TokenRecord> record_;
    const ModelInfo* model_ = nullptr;
    std::vector<RouterReading> routers_;
    std::vector<AttentionReading> attention_;
    StreamsReading streams_;
    ui::LinePlot plot_;
};

void OverviewPanel::read(const Snapshot& s, const View& view) {
    if (record_ == view.record && model_ == s.model.get()) return;
    record_ = view.record, model_ = s.model.get();
    routers_.clear(), attention_.clear();
    const int64_t position = view.shown().position;
    for (int l = 0; l < model_->config.n_layers(); ++l) {
        routers_.push_back(read_router(*record_, *model_, l));
        attention_.push_back(read_attention(*record_, *model_, l, position, -1));
    }
    streams_ = read_streams(*record_, *model_);
}

// A pane that is a button as a whole: its items only hover, a click anywhere goes to the view.
void OverviewPanel::tile(const char* title, ImVec2 size, View& view, const std::function<void()>& body) {
    ui::Pane pane((std::string("overview-") + title).c_str(), size,
                  ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
    const bool is_hovered = ImGui::IsWindowHovered(ImGuiHoveredFlags_ChildWindows);
    {
        ui::FontScope bold(Font::title);
        ui::text(title);
    }
    ImVec2 low = ImGui::GetWindowPos(), high{low.x + ImGui::GetWindowWidth(), low.y + ImGui::GetWindowHeight()};
    if (is_hovered) {
        const char* words = "open \xE2\x86\x92";
        const float w = ImGui::CalcTextSize(words).x;
        ui::paint_text(ImGui::GetWindowDrawList(), {high.x - w - px(14), low.y + px(9)}, theme().text_dim, words);
        ImGui::GetWindowDrawList()->AddRect(low, high, theme().border_strong, ImGui::GetStyle().ChildRounding);
        if (ImGui::IsMouseClicked(ImGuiMouseButton_Left)) view.go_to = title;
    }
    ui::mark_rect(std::string("overview/") + title, low, high, title);
    body();
}

// Before anything was said: what the tiles will show, in this model's numbers.
void OverviewPanel::draw_promise(const Snapshot& s, View& view) {
    const ModelConfig& c = s.model->config;
    const auto n_of = [&](LayerKind k) {
        return ui::format_count(
            std::count_if(c.layers.begin(), c.layers.end(), [k](const auto& l) { return l.kind() == k; }));
    };
    const ImVec2 room = ImGui::GetContentRegionAvail(), spacing = ImGui::GetStyle().ItemSpacing;
    {
        ui::Region region("overview-empty", {0, std::floor(room.y * 0.4f)});
        ui::require_record(s, view, probes());
    }
    const std::pair<const char*, std::string> tiles[] = {
        {"Routing", "Which " + ui::format_count(c.n_experts_per_tok) + " of its " + ui::format_count(c.n_experts) +
                        " experts every layer asks for a token, and why these."},
        {"Attention", "Where a token looks: at the last " + ui::format_count(c.sliding_window) +
                          " tokens, at the best entries in " + n_of(LayerKind::csa) +
                          " CSA layers, at every block in " + n_of(LayerKind::hca) + " HCA layers."},
        {"Streams",
         "How " + ui::format_count(c.hc_mult) + " residual streams mix from layer to layer, and what that amplifies."},
        {"Cache", "The bytes that the conversation takes, by kind, and what a million tokens would take."}};
    const ImVec2 size{std::floor((room.x - spacing.x) / 2), std::max(px(96), std::floor(room.y * 0.2f))};
    for (int i = 0; i < 4; ++i) {
        if (i % 2 == 1) ImGui::SameLine(0, spacing.x);
        tile(tiles[i].first, {i % 2 == 0 ? size.x : 0, size.y}, view, [&] {
            ui::Color dim(theme().text_dim);
            ui::text_wrapped(tiles[i].second, (std::string("overview/promise/") + tiles[i].first).c_str());
        });
    }
}

void OverviewPanel::draw(const Snapshot& s, View& view) {
    ui::view_head(kHelp, "Overview", s, view, true);
    if (s.model && !view.record && s.timeline.tokens.empty()) return draw_promise(s, view);
    if (!ui::require_record(s, view, probes())) return;
    read(s, view);
    const ImVec2 room = ImGui::GetContentRegionAvail(), spacing = ImGui::GetStyle().ItemSpacing;
    const float next = std::clamp(room.y * 0.34f, px(150), px(300));
    // At least as tall as an axis and some rows need: with large type in a small window the view scrolls.
    const ImVec2 size{std::floor((room.x - spacing.x) / 2),
                      std::max(px(140), std::floor((room.y - next - 2 * spacing.y) / 2))};
    tile("Routing", size, view, [&] { draw_routing(s, view); });
    ImGui::SameLine(0, spacing.x);
    tile("Attention", {0, size.y}, view, [&] { draw_attention(s, view); });
    tile("Streams", size, view, [&] { draw_streams(view); });
    ImGui::SameLine(0, spacing.x);
    tile("Cache", {0, size.y}, view, [&] { draw_cache(s); });
    ui::Pane pane("overview-next", {0, std::max(next, ImGui::GetContentRegionAvail().y)});
    draw_next(s, view);
}

// The layers' names as the axis of a tile, with room `below` for the other axis.
OverviewPanel::Rows OverviewPanel::draw_rows(const Snapshot& s, const View& view, const char* id, float below,
                                             ui::Canvas& canvas) {
    const ModelConfig& c = s.model->config;
    ui::FontScope small(Font::mono_small);
    const ImVec2 p = ImGui::GetCursorScreenPos(), room = ImGui::GetContentRegionAvail();
    const float line = ImGui::GetTextLineHeight(), left = ImGui::CalcTextSize("layer \xE2\x86\x91").x + px(8);
    const Rows rows{{p.x + left, p.y},
                    std::max(1.0f, room.x - left),
                    std::max(1.0f, room.y - below) / static_cast<float>(c.n_layers())};
    const int selected = std::clamp(view.cursor.layer, 0, c.n_layers() - 1);
    const int step = std::max(1, static_cast<int>(std::ceil(line * 0.95f / rows.height)));
    const auto right_aligned = [&](const std::string& words, float y, ImU32 color) {
        canvas.text({rows.at.x - px(8) - ImGui::CalcTextSize(words.c_str()).x, y}, color, words);
    };
    for (int l = 0; l < c.n_layers(); ++l) {
        if (l != selected && (l % step != 0 || std::abs(l - selected) < step)) continue;
        const std::string name =
            std::to_string(l) + " " + layer_glyph(c.layers[l].kind()) + (c.layers[l].is_hash_routed ? "#" : " ");
        right_aligned(name, p.y + rows.height * (static_cast<float>(l) + 0.5f) - line / 2,
                      l == selected ? theme().text : theme().kind(c.layers[l].kind()));
    }
    const ImVec2 foot{p.x, p.y + rows.height * static_cast<float>(c.n_layers())};
    right_aligned("layer \xE2\x86\x91", foot.y + px(3), theme().text_dim);
    ui::mark_rect(std::string(id) + "/rows", p, {rows.at.x, foot.y + below}, "layer");
    return rows;
}

std::string OverviewPanel::routing_csv() const {
    std::string out = "layer,rank,expert,weight\n";
    for (size_t l = 0; l < routers_.size(); ++l)
        for (const ChosenExpert& e : routers_[l].chosen)
            out += std::to_string(l) + "," + std::to_string(e.rank) + "," + std::to_string(e.expert) + "," +
                   ui::exact_number(e.weight) + "\n";
    return out;
}

std::string OverviewPanel::attention_csv() const {
    std::string out = "layer,kind,window,compressed,sink\n";
    for (size_t l = 0; l < attention_.size(); ++l)
        out += std::to_string(l) + "," + layer_glyph(attention_[l].kind) + "," + ui::exact_number(attention_[l].window) +
               "," + ui::exact_number(attention_[l].compressed) + "," + ui::exact_number(attention_[l].sink) + "\n";
    return out;
}

// Layers as rows, experts as columns, a filled cell where chosen; the weight is the ink's strength.
void OverviewPanel::draw_routing(const Snapshot& s, const View& view) {
    const ModelConfig& c = s.model->config;
    const int layer = std::clamp(view.cursor.layer, 0, c.n_layers() - 1);
    std::string experts;
    for (const ChosenExpert& e : routers_[layer].chosen)
        experts += (experts.empty() ? "" : ", ") + std::to_string(e.expert) + " (" + ui::format_number(e.weight) + ")";
    ui::text_dim("layer " + std::to_string(layer) + " chose experts " + experts +
                     (routers_[layer].is_hash ? ", by token id" : ""),
                 "overview/routing/line");
    const ImVec2 all = ImGui::GetContentRegionAvail();
    const float line = small_line();
    const ImVec2 top = ImGui::GetCursorScreenPos();
    ui::Recording recording("overview/routing", top, all.x);
    ui::Canvas canvas = recording.canvas(ImGui::GetWindowDrawList());
    const Rows rows = draw_rows(s, view, "overview/routing", 2 * line + px(6), canvas);
    const ImVec2 p = rows.at, room{rows.width, rows.height * static_cast<float>(c.n_layers())};
    const float w = room.x / static_cast<float>(c.n_experts), h = rows.height;
    const float inset = std::min({px(1.5f), w * 0.15f, h * 0.15f});
    for (int l = 0; l < c.n_layers(); ++l) {
        const float y = p.y + h * static_cast<float>(l);
        canvas.rect_filled({p.x, y + inset}, {p.x + room.x, y + h - inset},
                           l == layer ? theme().hovered : theme().raised, px(2));
        for (const ChosenExpert& e : routers_[l].chosen) {
            const float x = p.x + w * static_cast<float>(e.expert),
                        strength = std::clamp(e.weight / static_cast<float>(c.routed_scaling_factor), 0.0f, 1.0f);
            // At least two pixels wide: with 384 experts a choice must still be seen.
            canvas.rect_filled({x + inset, y + inset}, {std::max(x + w - inset, x + px(2)), y + h - inset},
                               with_alpha(theme().text, 0.35f + 0.65f * strength), px(2));
        }
    }
    {
        ui::FontScope small(Font::mono_small);
        const float widest = ImGui::CalcTextSize(std::to_string(c.n_experts - 1).c_str()).x + px(6);
        const int step = round_step(static_cast<int>(std::ceil(widest / w)));
        for (int e = 0; e < c.n_experts; e += step) {
            const std::string number = std::to_string(e);
            const float at = p.x + w * (static_cast<float>(e) + 0.5f) - ImGui::CalcTextSize(number.c_str()).x / 2;
            canvas.text({std::max(at, p.x), p.y + room.y + px(3)}, theme().text_dim, number);
        }
        const char* words = room.x > ImGui::CalcTextSize(kExpertAxis).x ? kExpertAxis : "expert";
        const ImVec2 at{p.x + (room.x - ImGui::CalcTextSize(words).x) / 2, p.y + room.y + line + px(4)};
        canvas.text(at, theme().text_dim, words);
        ui::mark_rect("overview/routing/columns", {p.x, p.y + room.y}, {p.x + room.x, at.y + line}, words);
    }
    ImGui::Dummy({all.x, std::max(1.0f, all.y)});
    ui::copy_menu("copy", {"", "", [&] { return routing_csv(); }, "overview/routing", {}});
    recording.finish(top.y + all.y, [&] { return [csv = routing_csv()] { return csv; }; });
}

// 0 to 100 % below the bars, and what their colours stand for.
void OverviewPanel::draw_share_axis(ImVec2 p, ImVec2 room, ui::Canvas& canvas) {
    ui::FontScope small(Font::mono_small);
    const float line = ImGui::GetTextLineHeight(), y = p.y + room.y + px(3);
    for (const int percent : {0, 25, 50, 75, 100}) {
        const std::string number = std::to_string(percent) + " %";
        const float w = ImGui::CalcTextSize(number.c_str()).x,
                    at = p.x + room.x * static_cast<float>(percent) / 100 - w / 2;
        canvas.text({std::clamp(at, p.x, std::max(p.x, p.x + room.x - w)), y}, theme().text_dim, number);
    }
    const std::pair<const char*, ImU32> kinds[] = {
        {"window", theme().window}, {"CSA", theme().csa}, {"HCA", theme().hca}, {"sink", theme().sink}};
    const char* words = "share of attention:";
    float width = 0;
    for (const auto& [name, color] : kinds) width += ImGui::CalcTextSize(name).x + px(24);
    const float title = ImGui::CalcTextSize(words).x + px(10);
    const bool has_title = title + width <= room.x;
    ImVec2 at{p.x + std::max(0.0f, (room.x - width - (has_title ? title : 0)) / 2), y + line + px(1)};
    if (has_title) canvas.text(at, theme().text_dim, words), at.x += title;
    for (const auto& [name, color] : kinds) {
        canvas.circle_filled({at.x + px(4), at.y + line / 2}, px(4), color);
        canvas.text({at.x + px(12), at.y}, theme().text_dim, name);
        at.x += ImGui::CalcTextSize(name).x + px(24);
    }
    ui::mark_rect("overview/attention/columns", {p.x, y}, {p.x + room.x, at.y + line}, "share of attention");
}

void OverviewPanel::draw_attention(const Snapshot& s, const View& view) {
    const ModelConfig& c = s.model->config;
    const int layer = std::clamp(view.cursor.layer, 0, c.n_layers() - 1);
    const AttentionReading& r = attention_[layer];
    std::string line = "layer " + std::to_string(layer) + ": window " + ui::format_percent(r.window);
    if (r.kind != LayerKind::sliding)
        line += std::string(r.kind == LayerKind::csa ? ", CSA " : ", HCA ") + ui::format_percent(r.compressed);
    ui::text_dim(line + ", sink " + ui::format_percent(r.sink), "overview/attention/line");
    const ImVec2 all = ImGui::GetContentRegionAvail();
    const ImVec2 top = ImGui::GetCursorScreenPos();
    ui::Recording recording("overview/attention", top, all.x);
    ui::Canvas canvas = recording.canvas(ImGui::GetWindowDrawList());
    const Rows rows = draw_rows(s, view, "overview/attention", 2 * small_line() + px(6), canvas);
    const ImVec2 p = rows.at, room{rows.width, rows.height * static_cast<float>(c.n_layers())};
    const float h = rows.height, inset = std::min(px(1.5f), h * 0.15f);
    for (int l = 0; l < c.n_layers(); ++l) {
        const float y = p.y + h * static_cast<float>(l);
        float x = p.x;
        const std::pair<float, ImU32> parts[] = {{attention_[l].window, theme().window},
                                                 {attention_[l].compressed, theme().kind(attention_[l].kind)},
                                                 {attention_[l].sink, theme().sink}};
        for (const auto& [share, color] : parts) {
            const float w = room.x * std::max(0.0f, share);
            if (w > 0.3f)
                canvas.rect_filled({x, y + inset}, {x + w - (w > px(3) ? 1.0f : 0.0f), y + h - inset},
                                   with_alpha(color, l == layer ? 1.0f : 0.75f), px(2));
            x += w;
        }
    }
    draw_share_axis(p, room, canvas);
    ImGui::Dummy({all.x, std::max(1.0f, all.y)});
    ui::copy_menu("copy", {"", "", [&] { return attention_csv(); }, "overview/attention", {}});
    recording.finish(top.y + all.y, [&] { return [csv = attention_csv()] { return csv; }; });
}

void OverviewPanel::draw_streams(const View& view) {
    if (streams_.sites.empty()) {
        ui::text_dim("not recorded");
        return;
    }
    const MixingSite& fastest = streams_.sites[static_cast<size_t>(std::max(0, streams_.fastest))];
    ui::text_dim("layer " + std::to_string(fastest.layer) + " mixes fastest, at its " +
                     (fastest.is_mlp ? "MLP" : "attention") +
                     ": \xCF\x83\xE2\x82\x82 = " + ui::format_number(fastest.stats.sigma2),
                 "overview/streams/line");
    std::vector<double> sigma2;
    for (const MixingSite& site : streams_.sites) sigma2.push_back(site.stats.sigma2);
    const ui::Series series[] = {{.name = "\xCF\x83\xE2\x82\x82", .color = theme().text, .y = sigma2}};
    ui::PlotSpec spec;
    spec.id = "overview/sigma2";
    spec.series = series;
    spec.y_label = "\xCF\x83\xE2\x82\x82 (1: streams stay apart, 0: they are mixed)";
    spec.x_step = 2;
    spec.y_lo = 0, spec.y_hi = 1;
    spec.is_integer_x = true;
    spec.x_label = "layer";
    spec.x_text = [this](double x) {
        return std::to_string(
            streams_.sites[static_cast<size_t>(std::clamp(x, 0.0, static_cast<double>(streams_.sites.size()) - 1))]
                .layer);
    };
    spec.selected_x = 2.0 * view.cursor.layer, spec.has_selected_x = true;
    plot_.draw(spec);
}

void OverviewPanel::draw_cache(const Snapshot& s) {
    // A conversation that was reopened holds nothing until it goes on: what it would take then, by the formulas.
    const bool is_held = s.cache.total() > 0;
    const auto n_tokens = static_cast<int64_t>(s.timeline.tokens.size());
    const auto held = is_held ? s.cache.allocated() : projected_bytes(s.model->config, n_tokens);
    const double n = static_cast<double>(s.cache.n_tokens);
    uint64_t sum = 0;
    for (const uint64_t b : held) sum += b;
    ui::text_dim(is_held ? ui::format_bytes(sum) + " held now for " + ui::format_count(s.cache.n_tokens) + " tokens" +
                               (n > 0 ? ", " + ui::format_bytes(static_cast<uint64_t>(static_cast<double>(sum) / n)) + " each"
                                      : "")
                         : "nothing held now; projected for " + ui::format_count(n_tokens) + " tokens: " +
                               ui::format_bytes(sum) + ", packed",
                 "overview/cache/line");
    ui::value("overview/cache/total", static_cast<double>(s.cache.total()));
    std::vector<ui::Share> parts;
    for (int k = 0; k < kCacheKinds; ++k)
        parts.push_back({cache_kind_name(static_cast<CacheKind>(k)), static_cast<double>(held[k]),
                         theme().kind(static_cast<CacheKind>(k))});
    const float row = ImGui::GetTextLineHeight() + px(6);
    ui::stacked_bar("overview/cache", parts, ImGui::GetContentRegionAvail().x, px(16), 0, "B");
    ImGui::Dummy({0, px(2)});
    ui::FontScope small(Font::small);
    const float column = std::floor(ImGui::GetContentRegionAvail().x / 2);
    for (size_t i = 0; i < parts.size(); ++i) {
        if (i % 2 == 1)
            ImGui::SameLine(column);
        else if (ImGui::GetContentRegionAvail().y < row)
            break;
        ui::dot(parts[i].color, 4);
        ImGui::SameLine(0, px(6));
        ui::text_in(std::string(parts[i].name) + "  " + ui::format_bytes(static_cast<uint64_t>(parts[i].value)),
                    column - px(24));
    }
}

std::string OverviewPanel::next_label(const Snapshot& s, int32_t id) {
    const bool is_known = s.model && id >= 0 && static_cast<size_t>(id) < s.model->vocabulary.size();
    if (!is_known || s.model->vocabulary[static_cast<size_t>(id)].empty()) return "id " + std::to_string(id);
    return "\"" + token_label(s.model->vocabulary[static_cast<size_t>(id)]) + "\"";
}

void OverviewPanel::draw_next(const Snapshot& s, View& view) {
    ui::section("Next token");
    ImGui::SameLine(0, px(14));
    ui::text_dim("probability");
    const auto ids = record_->ints(kNextIds);
    const auto probabilities = record_->floats(kNextProbs);
    const auto entropy = record_->floats(kNextEntropy);
    if (ids.empty() || probabilities.data.size() != ids.data.size()) {
        ui::text_dim("not recorded for this token");
        return;
    }
    if (!entropy.empty()) {
        ImGui::SameLine(0, px(14));
        ui::label_number("entropy", entropy[0], "nat", "overview/entropy");
    }
    const int64_t at = ui::timeline_index(s.timeline, view.shown());
    const auto n_tokens = static_cast<int64_t>(s.timeline.tokens.size());
    const int32_t came = at >= 0 && at + 1 < n_tokens ? s.timeline.tokens[at + 1].id : -1;
    if (came >= 0) {
        ImGui::SameLine(0, px(14));
        ui::text_dim("then came \"" + token_label(s.timeline.tokens[at + 1].text) + "\"", "overview/came");
    }
    ui::BarsSpec spec;
    spec.id = "overview/next";
    spec.values = probabilities.data;
    spec.value_name = "probability";
    spec.lo = 0, spec.hi = 1;
    spec.label = [&](int i) { return next_label(s, ids[i]) + (ids[i] == came ? " \xE2\x97\x82" : ""); };
    spec.color = [&](int i) { return ids[i] == came ? theme().answer : theme().text_dim; };
    spec.hover = [&](int i) { ui::plainf("token id %d, %s", ids[i], ui::format_percent(probabilities[i]).c_str()); };
    spec.height = ImGui::GetContentRegionAvail().y;
    if (ui::registry_is_on())
        for (size_t i = 0; i < ids.data.size(); ++i) ui::value("overview/next/id/" + std::to_string(i), ids[i]);
    ui::horizontal_bars(spec, std::min(px(200), ImGui::GetContentRegionAvail().x * 0.35f));
}

}  // namespace

std::unique_ptr<Panel> make_overview_panel() {
    return std::make_unique<OverviewPanel>();
}

}  // namespace vitrine::viz
