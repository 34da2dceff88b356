// Streams: how the residual streams mix along depth, and what that does to the signal.
#include <algorithm>
#include <cmath>
#include <limits>

#include "viz/gl.h"
#include "viz/panels.h"
#include "viz/readings/streams.h"
#include "viz/widgets/bars.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/export.h"
#include "viz/widgets/heatmap.h"
#include "viz/widgets/line_plot.h"
#include "viz/widgets/view_head.h"

namespace vitrine::viz {
namespace {

constexpr Help kHelp = {
    "The mixing matrices that carry the residual streams from site to site (two sites a layer: attention and MLP), the "
    "gain of "
    "their product over depth, and the weights that read a sub-layer's input from the streams and write its output "
    "back.",
    "C[from][to]: new stream k takes the sum of C[j][k] times old stream j. Rows and columns of a doubly stochastic "
    "matrix sum "
    "to 1, so nothing is amplified: forward and backward gain stay near 1. \xCF\x83\xE2\x82\x81 of such a matrix is 1 "
    "up to "
    "Sinkhorn's remaining error, which stands beside it; \xCF\x83\xE2\x82\x82 says how fast streams mix: 1 keeps them "
    "apart, 0 "
    "makes them equal in one step.",
    "X' = C\xE1\xB5\x80 X + post \xC2\xB7 F(\xCE\xA3 pre X);  P = C\xE1\xB5\x80(last) \xE2\x80\xA6 "
    "C\xE1\xB5\x80(first);  "
    "forward = max row sum of |P|,  backward = max column sum of |P|",
    "mHC, arXiv 2512.24880 (Amax gain); DeepSeek-V4 report 2.2",
    "Find the site with the smallest \xCF\x83\xE2\x82\x82 in the sentence below the plot, click it, and see how close "
    "its matrix is to uniform.",
};

constexpr const char* kNote =
    "\xCF\x83\xE2\x82\x81 is 1 up to Sinkhorn's remaining error; \xCF\x83\xE2\x82\x82 says how fast streams mix";

class StreamsPanel final : public Panel {
  public:
    const char* name() const override { return "Streams"; }
    const Help& help() const override { return kHelp; }
    void draw(const Snapshot& s, View& view) override;

  private:
    void read(const Snapshot& s, const View& view);
    void draw_gain(const Snapshot& s, View& view);
    void draw_sites(View& view);
    std::function<std::string()> sites_csv() const;
    void draw_matrix(View& view);
    void draw_sums(const MixingSite& site, float matrix_width);
    void draw_numbers(const MixingSite& site);
    void draw_weights(View& view, const char* title, const char* words, const char* id, float hi,
                      std::vector<float> MixingSite::*weights);
    void draw_norms(View& view);
    void draw_similarity(View& view);
    int site_index(int layer, bool is_mlp) const;

    std::shared_ptr<const TokenRecord> record_;
    const ModelInfo* model_ = nullptr;
    StreamsReading reading_;
    GainMeter meter_;
    ui::LinePlot plot_;
    ui::Heatmap matrix_, similarity_;
    Texture sites_;
    std::vector<uint32_t> site_pixels_;
    bool is_texture_dark_ = false, has_texture_ = false;
    bool is_mlp_ = false;
    int shown_gain_ = 0;  // 0: this token, 1: all tokens
};

void StreamsPanel::read(const Snapshot& s, const View& view) {
    if (record_ == view.record && model_ == s.model.get()) return;
    record_ = view.record, model_ = s.model.get();
    reading_ = read_streams(*record_, *model_);
    has_texture_ = false;
}

int StreamsPanel::site_index(int layer, bool is_mlp) const {
    const MixingSite* site = reading_.find(layer, is_mlp);
    return site ? static_cast<int>(site - reading_.sites.data()) : -1;
}

void StreamsPanel::draw(const Snapshot& s, View& view) {
    ui::view_head(kHelp, "Streams", s, view, true);
    if (!ui::require_record(s, view, probes())) return;
    read(s, view);
    if (reading_.sites.empty()) {
        ui::empty_state("Not recorded", "This token's record has no mixing matrices.");
        return;
    }
    const ImVec2 room = ImGui::GetContentRegionAvail();
    const float gap = ImGui::GetStyle().ItemSpacing.x,
                quarter = std::floor(ui::is_narrow() ? (room.x - gap) / 2 : (room.x - 3 * gap) / 4);
    const float upper = std::max(px(196), std::floor(room.y * 0.28f)), spacing = ImGui::GetStyle().ItemSpacing.y;
    const float lower = std::clamp(std::floor(room.y * 0.27f), px(152), px(240));
    {
        ui::Pane pane("streams-gain", {0, upper});
        draw_gain(s, view);
    }
    {
        ui::Pane pane("streams-matrices", {0, std::max(px(316), room.y - upper - lower - 2 * spacing)});
        draw_sites(view);
        draw_matrix(view);
    }
    const float rest = std::max(lower, ImGui::GetContentRegionAvail().y);
    const bool is_narrow = ui::is_narrow();  // two over two
    {
        ui::Pane pane("streams-pre", {quarter, rest});
        draw_weights(view, "Reading (pre)", "what the sub-layer reads", "streams/pre", 1, &MixingSite::pre);
    }
    ImGui::SameLine(0, gap);
    {
        ui::Pane pane("streams-post", {quarter, rest});
        draw_weights(view, "Writing (post)", "what each stream takes", "streams/post", 2, &MixingSite::post);
    }
    if (!is_narrow) ImGui::SameLine(0, gap);
    {
        ui::Pane pane("streams-norms", {quarter, rest});
        draw_norms(view);
    }
    ImGui::SameLine(0, gap);
    {
        ui::Pane pane("streams-similarity", {0, rest});
        draw_similarity(view);
    }
}

// A symmetric range about 1 that grows in steps: gains live close to 1 and a whole decade would flatten them.
double gain_range(const std::vector<double>& values) {
    double worst = 1;
    for (const double v : values)
        if (std::isfinite(v) && v > 0) worst = std::max({worst, v, 1 / v});
    for (const double step : {1.05, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 100.0, 1000.0})
        if (worst <= step) return step;
    return worst * 2;
}

void StreamsPanel::draw_gain(const Snapshot& s, View& view) {
    const bool has_more = meter_.update(s.timeline, s.trace.get(), *s.model);
    ui::section("Gain over depth");
    ImGui::SameLine(0, px(12));
    static constexpr const char* kShown[] = {"this token", "all tokens"};
    ui::segmented("streams/gain-of", shown_gain_, kShown, 2);
    if (!reading_.is_complete) {
        ui::text_wrapped("Some sites are not recorded, so the product over depth can't be told.");
        return;
    }
    std::vector<double> forward, backward, forward_max, backward_max, all;
    if (shown_gain_ == 0) {
        for (const MixingSite& site : reading_.sites)
            forward.push_back(site.gain.forward), backward.push_back(site.gain.backward);
    } else {
        ImGui::SameLine(0, px(12));
        ui::text_dim("mean and maximum over " + ui::format_count(meter_.n_tokens()) + " tokens" +
                     (has_more ? ", still counting" : ""));
        for (const Gain& g : meter_.mean()) forward.push_back(g.forward), backward.push_back(g.backward);
        for (const Gain& g : meter_.maximum()) forward_max.push_back(g.forward), backward_max.push_back(g.backward);
    }
    for (const auto* v : {&forward, &backward, &forward_max, &backward_max})
        all.insert(all.end(), v->begin(), v->end());
    // Neutral inks: every hue of the palette stands for a kind or a phase.
    const ImU32 ink = theme().text, dim_ink = theme().text_dim;
    std::vector<ui::Series> series = {
        {.name = "forward", .color = ink, .y = forward, .has_points = forward.size() < 40},
        {.name = "backward", .color = dim_ink, .y = backward, .is_dashed = true}};
    if (shown_gain_ == 1) {
        series.push_back({.name = "forward, maximum", .color = with_alpha(ink, 0.55f), .y = forward_max});
        series.push_back(
            {.name = "backward, maximum", .color = with_alpha(dim_ink, 0.55f), .y = backward_max, .is_dashed = true});
    }
    const ui::Line ideal[] = {{.at = 1, .label = "", .color = theme().text_dim}};
    ui::PlotSpec spec;
    spec.id = "streams/gain";
    spec.series = series;
    spec.lines = ideal;
    spec.x_label = "layer, two sites each: attention, MLP", spec.y_label = "gain (1: nothing amplified)";
    spec.x_step = 2;
    spec.is_log_y = true;
    spec.y_hi = gain_range(all), spec.y_lo = 1 / spec.y_hi;
    spec.is_integer_x = true;
    spec.x_text = [this](double x) {
        const auto i = static_cast<size_t>(std::clamp(x, 0.0, static_cast<double>(reading_.sites.size()) - 1));
        return std::to_string(reading_.sites[i].layer) + (reading_.sites[i].is_mlp ? " MLP" : " att");
    };
    const int selected = site_index(view.cursor.layer, is_mlp_);
    spec.has_selected_x = selected >= 0, spec.selected_x = selected;
    const ui::PlotResult result = plot_.draw(spec);
    if (selected >= 0) {
        ui::value("streams/gain/selected/forward", forward[selected]);
        ui::value("streams/gain/selected/backward", backward[selected]);
    }
    if (result.is_clicked) {
        const auto i =
            static_cast<size_t>(std::clamp(std::round(result.x), 0.0, static_cast<double>(reading_.sites.size()) - 1));
        view.cursor.layer = reading_.sites[i].layer, is_mlp_ = reading_.sites[i].is_mlp;
    }
}

float small_line_height() {
    ui::FontScope small(Font::small);
    return ImGui::GetTextLineHeight();
}

// All matrices along depth in one texture: a row of attention sites over a row of MLP sites, one transparent cell
// between.
void StreamsPanel::draw_sites(View& view) {
    const int n = reading_.n, n_layers = model_->config.n_layers();
    const int cols = n_layers * (n + 1) - 1, rows = 2 * n + 1;
    if (!has_texture_ || is_texture_dark_ != theme().is_dark) {
        std::vector<uint32_t>& pixels = site_pixels_;
        pixels.assign(static_cast<size_t>(rows) * cols, 0);
        for (const MixingSite& site : reading_.sites)
            for (int j = 0; j < n; ++j)
                for (int k = 0; k < n; ++k)
                    pixels[static_cast<size_t>(j + (site.is_mlp ? n + 1 : 0)) * cols + site.layer * (n + 1) + k] =
                        map_color(ColorMap::magnitude, site.comb[j * n + k]);
        sites_.upload(cols, rows, pixels.data());
        has_texture_ = true, is_texture_dark_ = theme().is_dark;
    }
    ui::text_wrapped(mixing_sentence(reading_), "streams/fastest");
    if (reading_.fastest >= 0) {
        ui::value("streams/fastest", reading_.sites[reading_.fastest].layer);
        if (ui::registry_is_on()) {
            ui::value("streams/fastest/sigma2", reading_.sites[reading_.fastest].stats.sigma2);
            ui::value("streams/fastest/is_mlp", reading_.sites[reading_.fastest].is_mlp ? 1 : 0);
        }
    }
    const float label = ImGui::CalcTextSize("attention ").x, width = ImGui::GetContentRegionAvail().x - label - px(2);
    // Larger where there is room for them above the selected one.
    const float least = px(7), most = (ImGui::GetContentRegionAvail().y - px(250)) / static_cast<float>(rows);
    const float cell = std::min(std::clamp(most, least, 2 * least), width / static_cast<float>(cols));
    const ImVec2 p = ImGui::GetCursorScreenPos(), at{p.x + label, p.y + px(2)};
    const ImVec2 end{at.x + cell * static_cast<float>(cols), at.y + cell * static_cast<float>(rows)};
    ui::Recording recording("streams/sites", p, label + width);
    ui::Canvas canvas = recording.canvas(ImGui::GetWindowDrawList());
    const float numbers = px(4) + small_line_height();
    ImGui::InvisibleButton("sites", {label + width, end.y - p.y + numbers});
    ui::mark("streams/sites");
    ImDrawList* dl = ImGui::GetWindowDrawList();
    const float block = cell * static_cast<float>(n + 1), side = cell * static_cast<float>(n);
    const ImVec2 mouse = ImGui::GetIO().MousePos;
    const bool is_over =
        ImGui::IsItemHovered() && mouse.x >= at.x && mouse.x < end.x && mouse.y >= at.y && mouse.y < end.y;
    {
        ui::FontScope small(Font::small);
        const float line = ImGui::GetTextLineHeight();
        canvas.text({p.x, at.y + (side - line) / 2}, theme().text_dim, "attention");
        canvas.text({p.x, at.y + block + (side - line) / 2}, theme().text_dim, "MLP");
        canvas.text({p.x, end.y + px(3)}, theme().text_dim, "layer");
    }
    {
        ui::FontScope mono(Font::mono_small);
        float free_from = at.x;
        for (int l = 0; l < n_layers; ++l) {
            const std::string number = std::to_string(l);
            const float w = ImGui::CalcTextSize(number.c_str()).x,
                        x = at.x + block * static_cast<float>(l) + (side - w) / 2;
            if (x < free_from && l > 0) continue;
            canvas.text({x, end.y + px(3)}, theme().text_dim, number);
            free_from = x + w + px(6);
        }
    }
    canvas.cells(sites_.id(), at, end, rows, cols, site_pixels_);
    recording.finish(end.y + numbers, [&] { return sites_csv(); });
    std::string under;  // the element of a matrix that the mouse is on
    if (is_over) {
        const int row = static_cast<int>((mouse.y - at.y) / cell), col = static_cast<int>((mouse.x - at.x) / cell);
        const MixingSite* site = reading_.find(col / (n + 1), row / (n + 1) > 0);
        const int j = row % (n + 1), k = col % (n + 1);
        if (site && j < n && k < n) under = ui::full_precision(site->comb[static_cast<size_t>(j * n + k)]);
    }
    ui::copy_menu("copy", {under, "", [&] { return sites_csv()(); }, "streams/sites", {}});
    const auto frame = [&](int layer, bool is_mlp, ImU32 color) {
        const ImVec2 a{at.x + block * static_cast<float>(layer) - 1, at.y + (is_mlp ? block : 0) - 1};
        dl->AddRect(a, {a.x + side + 2, a.y + side + 2}, color, 1, 0, px(1.5f));
    };
    if (reading_.fastest >= 0)
        frame(reading_.sites[reading_.fastest].layer, reading_.sites[reading_.fastest].is_mlp, theme().text_dim);
    frame(view.cursor.layer, is_mlp_, theme().accent);
    if (!is_over) return;
    const int layer = std::min(n_layers - 1, static_cast<int>((mouse.x - at.x) / block));
    const bool is_mlp = mouse.y - at.y >= block;
    frame(layer, is_mlp, theme().text);
    if (ImGui::IsMouseClicked(ImGuiMouseButton_Left)) view.cursor.layer = layer, is_mlp_ = is_mlp;
    if (const MixingSite* site = reading_.find(layer, is_mlp)) {
        ui::begin_tooltip();
        ui::plain(site->name().c_str());
        ui::plainf("\xCF\x83\xE2\x82\x82 %s", ui::full_precision(site->stats.sigma2).c_str());
        ui::plainf("gain forward %s, backward %s", ui::full_precision(site->gain.forward).c_str(),
                    ui::full_precision(site->gain.backward).c_str());
        ui::end_tooltip();
    }
}

std::function<std::string()> StreamsPanel::sites_csv() const {
    return [sites = reading_.sites, n = reading_.n] {
        std::string out = "layer,site,from,to,value\n";
        for (const MixingSite& site : sites)
            for (int j = 0; j < n; ++j)
                for (int k = 0; k < n; ++k)
                    out += std::to_string(site.layer) + (site.is_mlp ? ",MLP," : ",attention,") + std::to_string(j) +
                           "," + std::to_string(k) + "," + ui::exact_number(site.comb[j * n + k]) + "\n";
        return out;
    };
}

void StreamsPanel::draw_matrix(View& view) {
    static constexpr const char* kSites[] = {"attention", "MLP"};
    int site_choice = is_mlp_ ? 1 : 0;
    if (ui::segmented("streams/site", site_choice, kSites, 2)) is_mlp_ = site_choice == 1;
    ImGui::SameLine(0, px(12));
    ImGui::AlignTextToFramePadding();
    ui::text_dim(ui::layer_text(model_->config, view.cursor.layer) + " \xC2\xB7 " + kNote);
    const MixingSite* site = reading_.find(view.cursor.layer, is_mlp_);
    if (!site) {
        ui::empty_state("Not recorded", "This site's matrix is not in the token's record.");
        return;
    }
    const ImVec2 room = ImGui::GetContentRegionAvail();
    const float height = std::max(px(72), room.y), line = ImGui::GetTextLineHeight();
    // Wide enough for the sums below its columns.
    const float sums = px(54) * static_cast<float>(reading_.n),
                width = std::min(room.x * 0.42f, std::max(sums, height * 1.7f));
    {
        ui::Region region("matrix", {width + px(70), height}, ImGuiWindowFlags_NoScrollbar);
        ui::HeatmapSpec spec;
        spec.id = "streams/comb";
        spec.values = site->comb;
        spec.rows = spec.cols = reading_.n;
        spec.lo = 0, spec.hi = 1;
        spec.value_name = "C";
        spec.row_name = "from stream", spec.col_name = "to stream";
        spec.row_label = spec.col_label = [](int i) { return std::to_string(i); };
        spec.shows_numbers = true;
        spec.has_legend = false;
        spec.width = width;
        spec.height = height - line - px(4);
        matrix_.draw(spec);
        draw_sums(*site, width);
    }
    ImGui::SameLine(0, px(16));
    ui::Region region("numbers", {0, height});
    ui::text_dim("row: from stream; column: to stream");
    draw_numbers(*site);
}

// Row sums to the right of the matrix, column sums below it: what "doubly stochastic" promises to be 1.
void StreamsPanel::draw_sums(const MixingSite& site, float matrix_width) {
    ui::FontScope mono(Font::mono_small);
    const int n = reading_.n;
    const ImVec2 low = ImGui::GetItemRectMin(), high = ImGui::GetItemRectMax();
    const float line = ImGui::GetTextLineHeight(), left = ImGui::CalcTextSize("0").x + px(8);
    const float cell_h = (high.y - low.y - line - px(5)) / static_cast<float>(n);
    const float cell_w = (matrix_width - left - 1) / static_cast<float>(n);
    ImDrawList* dl = ImGui::GetWindowDrawList();
    for (int i = 0; i < n; ++i) {
        double row = 0, column = 0;
        for (int k = 0; k < n; ++k) row += site.comb[i * n + k], column += site.comb[k * n + i];
        const std::string row_text = "\xCE\xA3 " + ui::format_number(row),
                          column_text = "\xCE\xA3 " + ui::format_number(column);
        const ImVec2 r{low.x + matrix_width + px(6), low.y + cell_h * (static_cast<float>(i) + 0.5f) - line / 2};
        const ImVec2 c{
            low.x + left + cell_w * (static_cast<float>(i) + 0.5f) - ImGui::CalcTextSize(column_text.c_str()).x / 2,
            high.y + px(1)};
        ui::paint_text(dl, r, theme().text_dim, row_text.c_str());
        ui::paint_text(dl, c, theme().text_dim, column_text.c_str());
        if (!ui::registry_is_on()) continue;
        ui::value_rect("streams/row_sum/" + std::to_string(i), row, r, {r.x + px(40), r.y + line});
        ui::value_rect("streams/column_sum/" + std::to_string(i), column, c, {c.x + px(40), c.y + line});
    }
}

void StreamsPanel::draw_numbers(const MixingSite& site) {
    const MixingStats& m = site.stats;
    const float column = std::floor(ImGui::GetContentRegionAvail().x / 2);
    ui::label_number("\xCF\x83\xE2\x82\x81", m.sigma1, "", "streams/sigma1");
    ImGui::SameLine(column);
    ui::label_number("\xCF\x83\xE2\x82\x82", m.sigma2, "", "streams/sigma2");
    ui::label_number("row error", m.row_error, "", "streams/row_error");
    ImGui::SameLine(column);
    ui::label_number("column error", m.column_error, "", "streams/column_error");
    ui::label_number("distance to identity", m.distance_identity, "", "streams/distance_identity");
    ImGui::SameLine(column);
    ui::label_number("to uniform", m.distance_uniform, "", "streams/distance_uniform");
}

void StreamsPanel::draw_weights(View& view, const char* title, const char* words, const char* id, float hi,
                                std::vector<float> MixingSite::*weights) {
    ui::section(title);
    ui::text_dim(words);
    const MixingSite* site = reading_.find(view.cursor.layer, is_mlp_);
    if (!site || (site->*weights).empty()) {
        ui::text_dim("not recorded");
        return;
    }
    ui::BarsSpec spec;
    spec.id = id;
    spec.values = site->*weights;
    spec.lo = 0, spec.hi = hi;
    spec.value_name = "weight";
    spec.label = [](int i) { return "stream " + std::to_string(i); };
    ui::horizontal_bars(spec, px(64));
}

void StreamsPanel::draw_norms(View& view) {
    ui::section("Stream norms");
    ui::text_dim("L2 norm after the layer");
    const auto norms = record_->floats(kStreamNorms, view.cursor.layer);
    if (norms.empty()) {
        ui::text_dim("not recorded");
        return;
    }
    ui::BarsSpec spec;
    spec.id = "streams/norms";
    spec.values = norms.data;
    spec.label = [](int i) { return "stream " + std::to_string(i); };
    ui::horizontal_bars(spec, px(64));
}

void StreamsPanel::draw_similarity(View& view) {
    ui::section("Similarity");
    ui::text_dim("cosine after the layer");
    const auto cosines = record_->floats(kStreamSimilarity, view.cursor.layer);
    if (cosines.empty()) {
        ui::text_dim("not recorded");
        return;
    }
    ui::HeatmapSpec spec;
    spec.id = "streams/similarity";
    spec.values = cosines.data;
    spec.rows = cosines.rows, spec.cols = cosines.cols;
    spec.map = ColorMap::diverging;
    spec.lo = -1, spec.hi = 1;
    spec.value_name = "cosine";
    spec.row_name = "stream", spec.col_name = "stream";
    spec.row_label = spec.col_label = [](int i) { return std::to_string(i); };
    spec.shows_numbers = true;
    spec.has_legend = ImGui::GetContentRegionAvail().y > px(150);
    similarity_.draw(spec);
}

}  // namespace

std::unique_ptr<Panel> make_streams_panel() {
    return std::make_unique<StreamsPanel>();
}

}  // namespace vitrine::viz
