// Cache: what fills the KV cache, now and at any length, beside V3.2 and GQA-8; and the life of every compressed entry.
#include <algorithm>
#include <cmath>
#include <limits>

#include "viz/panels.h"
#include "viz/readings/attention.h"
#include "viz/readings/uses.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/heatmap.h"
#include "viz/widgets/line_plot.h"
#include "viz/widgets/table.h"
#include "viz/widgets/view_head.h"

namespace vitrine::viz {
namespace {

constexpr Help kHelp = {
    "The bytes of the KV cache by kind: what the conversation holds now, what any context length up to 1,048,576 "
    "tokens would take in "
    "the packed formats, and what the same number of layers would take in V3.2 (788 bytes a token and layer) or with "
    "GQA of 8 heads "
    "(4,096 bytes). Below, every compressed entry of the selected layer with its age and last use.",
    "Drag in the plot, or the slider, to choose a length. The stack is this model; the steep lines are the others. The "
    "check compares "
    "what the allocator holds with the formulas, layer by layer and to the byte. In the cell map a dark cell was used "
    "just now.",
    "main entry (c-R) + 2R + ceil((c-R)/64), padded to 8;  index key ceil(D/2) + ceil(D/32);  entries floor(t/r);  "
    "window min(t, w)",
    "DeepSeek-V4 report 2.3 and figure 1; FlashMLA and vLLM cache layouts. Compressor state is not in the report's "
    "totals.",
    "Drag from 8,192 to 1,048,576 tokens and watch which kind takes over; then look in the cell map of a CSA layer for "
    "old entries that "
    "are still used.",
};

constexpr int64_t kMaxLength = 1 << 20;
constexpr int kSamples = 160;

class CachePanel final : public Panel {
  public:
    const char* name() const override { return "Cache"; }
    const Help& help() const override { return kHelp; }
    void draw(const Snapshot& s, View& view) override;

  private:
    void sample(const ModelConfig& c);
    void draw_projection(const Snapshot& s);
    void draw_length(const Snapshot& s);
    void draw_kinds(const Snapshot& s);
    void draw_check(const Snapshot& s);
    void draw_layer_kinds(const Snapshot& s);
    void draw_cells(const Snapshot& s, View& view);
    void cell_hover(const Snapshot& s, const View& view, int64_t entry);

    const ModelInfo* sampled_ = nullptr;
    double unit_ = 1;  // bytes of the plot's unit
    const char* unit_name_ = "B";
    bool sampled_log_ = false;
    std::vector<double> lengths_, v32_, gqa_;
    std::vector<double> by_kind_[kCacheKinds], below_[kCacheKinds], stacked_[kCacheKinds];
    int64_t length_ = kMaxLength;
    int scale_ = 0;  // 0: linear, 1: logarithmic
    int shown_ = 0;  // 0: last use, 1: age, 2: how often
    EntryUses uses_;
    std::vector<float> cells_;
    ui::LinePlot plot_;
    ui::Heatmap map_;
};

void CachePanel::draw(const Snapshot& s, View& view) {
    ui::section("Cache", &kHelp);
    ImGui::SameLine(0, px(12));
    if (s.model && s.cache.total() > 0) {
        ui::badge(Source::live);
        ImGui::SameLine(0, px(6));
        ui::text_dim("held now: as allocated");
        ImGui::SameLine(0, px(16));
    }
    if (s.model) {
        ui::badge(Source::projected, "badge/projected");
        ImGui::SameLine(0, px(6));
        ui::text_dim("at length: by the formulas, packed");
    }
    if (!ui::require_model(s)) return;
    ui::four_panes({{"cache-plot", 280, [&] { draw_projection(s); }},
                    {"cache-kinds", 260, [&] { draw_kinds(s); }},
                    {"cache-layers", 190, [&] { draw_layer_kinds(s); }},
                    {"cache-cells", 200, [&] { draw_cells(s, view); }}},
                   0.58f, 0.46f, 0.46f);
}

void CachePanel::sample(const ModelConfig& c) {
    static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double largest = 0;
    for (const uint64_t b : projected_bytes(c, kMaxLength)) largest += static_cast<double>(b);
    unit_ = 1, unit_name_ = kUnits[0];
    for (int u = 1; u < 5 && largest >= unit_ * 1024; ++u) unit_ *= 1024, unit_name_ = kUnits[u];
    lengths_.clear(), v32_.clear(), gqa_.clear();
    for (int k = 0; k < kCacheKinds; ++k) by_kind_[k].clear(), below_[k].clear(), stacked_[k].clear();
    for (int i = 0; i <= kSamples; ++i) {
        const double f = static_cast<double>(i) / kSamples;
        const auto n = static_cast<int64_t>(std::llround(scale_ == 1 ? std::pow(2.0, 4 + 16 * f) : f * kMaxLength));
        const auto bytes = projected_bytes(c, n);
        lengths_.push_back(static_cast<double>(n));
        double sum = 0;
        for (int k = 0; k < kCacheKinds; ++k) {
            below_[k].push_back(sum);
            by_kind_[k].push_back(static_cast<double>(bytes[k]) / unit_);
            sum += by_kind_[k].back();
            stacked_[k].push_back(sum);
        }
        const double per_layer = static_cast<double>(n) * c.n_layers() / unit_;
        v32_.push_back(per_layer * kV32BytesPerTokenLayer);
        gqa_.push_back(per_layer * kGqa8BytesPerTokenLayer);
    }
}

void CachePanel::draw_projection(const Snapshot& s) {
    ui::section("Bytes against context length");
    static constexpr const char* kScales[] = {"linear", "logarithmic"};
    ui::segmented("cache/scale", scale_, kScales, 2);
    if (sampled_ != s.model.get() || sampled_log_ != (scale_ == 1)) {
        sampled_ = s.model.get(), sampled_log_ = scale_ == 1;
        sample(s.model->config);
    }
    std::vector<ui::Series> series;
    // Stacked areas mean nothing on a logarithmic axis: there every kind is a line of its own.
    for (int k = kCacheKinds - 1; k >= 0; --k) {
        const auto kind = static_cast<CacheKind>(k);
        ui::Series one{.name = cache_kind_name(kind), .color = theme().kind(kind), .x = lengths_, .y = stacked_[k]};
        if (scale_ == 0)
            one.is_filled = true, one.base = below_[k];
        else
            one.y = by_kind_[k];
        series.push_back(one);
    }
    series.push_back({.name = "V3.2", .color = theme().text_dim, .x = lengths_, .y = v32_, .is_dashed = true});
    series.push_back({.name = "GQA-8", .color = theme().text, .x = lengths_, .y = gqa_, .is_dashed = true});
    const auto now = static_cast<double>(s.cache.n_tokens);
    const ui::Line lines[] = {{.at = now, .label = "now", .color = theme().text_dim, .is_vertical = true}};
    ui::PlotSpec spec;
    spec.id = "cache/plot";
    spec.series = series;
    if (now > 0) spec.lines = lines;
    spec.x_label = "context length [tokens]";
    spec.drag_pans = false;  // dragging chooses the length
    spec.is_log_x = spec.is_log_y = scale_ == 1;
    spec.x_lo = lengths_.front(), spec.x_hi = lengths_.back();
    // The stack fills the plot; the other models' lines leave it through the top, which is their message.
    if (scale_ == 0) spec.y_lo = 0, spec.y_hi = std::max(1.0, stacked_[kCacheKinds - 1].back() * 1.15);
    spec.x_text = [](double v) { return ui::format_count(std::llround(v)); };
    spec.y_label = "cache", spec.y_unit = unit_name_;
    spec.selected_x = static_cast<double>(length_), spec.has_selected_x = true;
    spec.height = std::max(px(110), ImGui::GetContentRegionAvail().y - ImGui::GetFrameHeightWithSpacing());
    const ui::PlotResult result = plot_.draw(spec);
    if (result.is_clicked || result.is_dragged) length_ = std::clamp<int64_t>(std::llround(result.x), 1, kMaxLength);
    draw_length(s);
}

void CachePanel::draw_length(const Snapshot& s) {
    auto length = static_cast<int>(length_);
    ui::FontScope mono(Font::mono_small);
    const float reset = ImGui::CalcTextSize("set to now").x + px(24);
    ImGui::SetNextItemWidth(std::max(px(60), ImGui::GetContentRegionAvail().x - reset - px(8)));
    ImGui::PushStyleColor(ImGuiCol_SliderGrab, theme().accent);
    // Its format is the text: a slider writes no thousands' commas by itself.
    const std::string words = ui::format_count(length_) + " tokens";
    if (ImGui::SliderInt("##length", &length, 1, static_cast<int>(kMaxLength), words.c_str(),
                         ImGuiSliderFlags_Logarithmic | ImGuiSliderFlags_AlwaysClamp | ImGuiSliderFlags_NoInput))
        length_ = length;
    ImGui::PopStyleColor();
    ui::value("cache/length", static_cast<double>(length_));
    ImGui::SameLine();
    if (ui::button("set to now", "cache/now") && s.cache.n_tokens > 0) length_ = s.cache.n_tokens;
}

void CachePanel::draw_check(const Snapshot& s) {
    if (s.cache.layers.empty()) {
        ui::text_wrapped(s.timeline.tokens.empty()
                             ? "Nothing is held yet."
                             : "Nothing is held of this conversation: it is read again when it goes on.",
                         "cache/check/text");
        return;
    }
    const bool is_consistent = s.cache.is_consistent();
    std::string words = "\xE2\x9C\x93 formula = allocator, to the byte, in every layer";
    if (!is_consistent) {
        words = "\xE2\x9C\x97 formula and allocator differ:";
        for (size_t l = 0; l < s.cache.layers.size(); ++l)
            for (int k = 0; k < kCacheKinds; ++k)
                if (s.cache.layers[l].allocated[k] != s.cache.layers[l].expected[k])
                    words += " layer " + std::to_string(l) + " " + cache_kind_name(static_cast<CacheKind>(k)) + " (" +
                             ui::format_count(static_cast<int64_t>(s.cache.layers[l].allocated[k])) + " held, " +
                             ui::format_count(static_cast<int64_t>(s.cache.layers[l].expected[k])) + " expected)";
    }
    ui::Color ink(is_consistent ? theme().text : theme().error);
    ui::text_wrapped(words, "cache/check/text");
    ui::value("cache/check", is_consistent ? 1 : 0);
}

void CachePanel::draw_kinds(const Snapshot& s) {
    ui::section("By kind");
    const auto held = s.cache.allocated();
    const auto at_length = projected_bytes(s.model->config, length_);
    std::array<uint64_t, kCacheKinds> formula{};
    for (const LayerCacheBytes& l : s.cache.layers)
        for (int k = 0; k < kCacheKinds; ++k) formula[k] += l.expected[k];
    static constexpr ui::Column kColumns[] = {
        {"kind", 0},
        {"held now", 72, true, "as the allocator holds it, in this model's numerics"},
        {"formula", 72, true, "rows x bytes of a row, computed apart from the allocator"},
        {"at length", 72, true, "packed FP8 and FP4 formats, without slack"}};
    ui::TableSpec spec;
    spec.id = "cache/kinds";
    spec.columns = kColumns;
    spec.n_rows = kCacheKinds + 1;
    spec.row_name = [](int row) {
        return row == kCacheKinds ? std::string("total") : std::string(cache_kind_name(static_cast<CacheKind>(row)));
    };
    const auto total = [](const std::array<uint64_t, kCacheKinds>& a) {
        uint64_t sum = 0;
        for (const uint64_t b : a) sum += b;
        return sum;
    };
    spec.cell = [&](int row, int column) -> ui::Cell {
        if (row == kCacheKinds) {
            if (column == 0) return "total";
            return ui::Cell::bytes(total(column == 1 ? held : column == 2 ? formula : at_length));
        }
        const auto kind = static_cast<CacheKind>(row);
        if (column == 0) return ui::Cell::dotted(theme().kind(kind), cache_kind_name(kind));
        return ui::Cell::bytes(column == 1 ? held[row] : column == 2 ? formula[row] : at_length[row]);
    };
    ui::table(spec);
    draw_check(s);
    const double per_layer = static_cast<double>(length_) * s.model->config.n_layers();
    const double counted =
        static_cast<double>(total(at_length) - at_length[static_cast<int>(CacheKind::compressor_state)]);
    const auto compare = [&](const char* other, uint64_t bytes, const char* registry) {
        const double theirs = per_layer * static_cast<double>(bytes);
        ui::text_wrapped(std::string(other) + " would take " + ui::format_bytes(static_cast<uint64_t>(theirs)) + ", " +
                         ui::format_number(theirs / std::max(1.0, counted)) + " times as much.");
        ui::value(registry, theirs);
    };
    ImGui::Dummy({0, px(2)});
    ui::text_dim("At " + ui::format_count(length_) +
                     " tokens, without compressor state: " + ui::format_bytes(static_cast<uint64_t>(counted)),
                 "cache/at_length");
    ui::value("cache/at_length", counted);
    compare("V3.2", kV32BytesPerTokenLayer, "cache/v32");
    compare("GQA-8", kGqa8BytesPerTokenLayer, "cache/gqa8");
    if (s.cache.snapshot_bytes > 0)
        ui::text_dim("kept states to go back to: " + ui::format_bytes(s.cache.snapshot_bytes));
}

void CachePanel::draw_layer_kinds(const Snapshot& s) {
    ui::section("Bytes per token, by kind of layer");
    const ModelConfig& c = s.model->config;
    const bool is_packed = s.model->numerics == Numerics::reference;
    struct Row {
        std::string name;
        ImU32 color = 0;
        int n_layers = 0;
        double packed = 0, held = 0;
    };
    std::vector<Row> rows;
    const auto growth = [&](LayerKind kind, int ratio, bool packed) {
        if (ratio == 0) return 0.0;
        const uint64_t key = kind == LayerKind::csa ? index_key_row_bytes(c.index_head_dim, packed) : 0;
        return static_cast<double>(entry_row_bytes(c.head_dim, c.rope_dim, packed) + key) / ratio;
    };
    for (const LayerConfig& l : c.layers) {
        const std::string name = l.ratio == 0 ? "window only"
                                              : std::string(l.kind() == LayerKind::csa ? "CSA, 1 in " : "HCA, 1 in ") +
                                                    std::to_string(l.ratio);
        const auto it = std::find_if(rows.begin(), rows.end(), [&](const Row& r) { return r.name == name; });
        if (it != rows.end())
            ++it->n_layers;
        else
            rows.push_back({name, theme().kind(l.kind()), 1, growth(l.kind(), l.ratio, true),
                            growth(l.kind(), l.ratio, is_packed)});
    }
    rows.push_back({"V3.2, any", 0, 0, kV32BytesPerTokenLayer, 0});
    rows.push_back({"GQA-8, any", 0, 0, kGqa8BytesPerTokenLayer, 0});
    static constexpr ui::Column kColumns[] = {{"layer kind", 0},
                                              {"layers", 52, true},
                                              {"packed", 74, true, "bytes a token adds to one layer, packed formats"},
                                              {"held now", 74, true, "the same in this model's numerics"}};
    ui::TableSpec spec;
    spec.id = "cache/layer_kinds";
    spec.columns = kColumns;
    spec.n_rows = static_cast<int>(rows.size());
    spec.row_name = [&](int row) { return rows[row].name; };
    spec.cell = [&](int row, int column) -> ui::Cell {
        const Row& r = rows[row];
        if (column == 0) return r.color ? ui::Cell::dotted(r.color, r.name) : ui::Cell(r.name, theme().text_dim);
        if (r.n_layers == 0 && column != 2) return ui::Cell("\xE2\x80\x93", theme().text_dim);
        return column == 1 ? ui::Cell::count(r.n_layers) : ui::Cell::value(column == 2 ? r.packed : r.held, "B");
    };
    ui::table(spec);
    const uint64_t window_row = entry_row_bytes(c.head_dim, c.rope_dim, true);
    ui::text_wrapped("Every layer also holds a window of " + std::to_string(c.sliding_window) + " rows of " +
                     std::to_string(window_row) +
                     " B (packed): " + ui::format_bytes(window_row * static_cast<uint64_t>(c.sliding_window)) +
                     ", however long the context.");
}

void CachePanel::cell_hover(const Snapshot& s, const View& view, int64_t entry) {
    const LayerConfig& layer = s.model->config.layers[view.cursor.layer];
    const EntrySource source = entry_source(layer.kind(), layer.ratio, entry);
    const auto n = static_cast<int64_t>(s.timeline.tokens.size());
    ui::plain(
        ("Entry " + std::to_string(entry) + " (" + token_range(source.own_begin, source.own_end) + ")").c_str());
    ui::plainf("age: %s tokens", ui::format_count(n - 1 - source.completed_at()).c_str());
    if (static_cast<size_t>(entry) >= uses_.uses().size()) return;
    const EntryUses::Use& use = uses_.uses()[entry];
    if (use.last < 0)
        ui::plain("never used in what is recorded");
    else
        ui::plainf("last used %s tokens ago, %s times in all", ui::format_count(n - 1 - use.last).c_str(),
                    ui::format_count(use.count).c_str());
}

void CachePanel::draw_cells(const Snapshot& s, View& view) {
    ui::section("Entries");
    ImGui::SameLine(0, px(10));
    ui::text_dim(ui::layer_text(s.model->config, view.cursor.layer));
    if (view.cursor.layer < 0 || view.cursor.layer >= s.model->config.n_layers()) return;
    if (!s.timeline.tokens.empty() && !ui::require_own_record(s, view, s.timeline.tokens.back().ref)) return;
    const LayerConfig& layer = s.model->config.layers[view.cursor.layer];
    const auto n = static_cast<int64_t>(s.timeline.tokens.size());
    const int64_t n_entries = layer.ratio > 0 ? n / layer.ratio : 0;
    if (n_entries == 0) {
        ui::empty_state(layer.ratio == 0 ? "A window and nothing else" : "No entry yet",
                        layer.ratio == 0
                            ? "This layer keeps no compressed entries. Choose a C or H layer with the up and down keys."
                            : "Entries appear as the conversation grows.");
        return;
    }
    static constexpr const char* kShown[] = {"last use", "age", "times used"};
    ui::segmented("cache/cells/show", shown_, kShown, 3);
    uses_.update(s.timeline, s.trace.get(), *s.model, view.cursor.layer);
    const ImVec2 room = ImGui::GetContentRegionAvail();
    const double aspect = std::max(0.3, static_cast<double>(room.x - px(60)) / std::max(1.0f, room.y - px(40)));
    const int cols = std::max(8, static_cast<int>(std::ceil(std::sqrt(static_cast<double>(n_entries) * aspect))));
    const int rows = static_cast<int>((n_entries + cols - 1) / cols);
    cells_.assign(static_cast<size_t>(rows) * cols, std::numeric_limits<float>::quiet_NaN());
    for (int64_t e = 0; e < n_entries; ++e) {
        const EntryUses::Use use = static_cast<size_t>(e) < uses_.uses().size() ? uses_.uses()[e] : EntryUses::Use{};
        const auto age = static_cast<float>(n - 1 - ((e + 1) * layer.ratio - 1));
        if (shown_ == 0 && use.last >= 0) cells_[e] = static_cast<float>(n - 1 - use.last);
        if (shown_ == 1) cells_[e] = age;
        if (shown_ == 2) cells_[e] = static_cast<float>(use.count);
    }
    ui::HeatmapSpec spec;
    spec.id = "cache/cells";
    spec.values = cells_;
    spec.rows = rows, spec.cols = cols;
    spec.lo = 0, spec.hi = std::max(1.0f, *std::max_element(cells_.begin(), cells_.end(),
                                                            [](float a, float b) { return std::isnan(a) || a < b; }));
    spec.value_name = kShown[shown_];
    spec.unit = shown_ == 2 ? "times" : "tokens ago";
    spec.row_name = "entry", spec.col_name = "+ column", spec.has_names = true;
    spec.col_label = [](int c) { return std::to_string(c); };
    spec.row_label = [cols](int r) { return std::to_string(r * cols); };
    spec.hover = [&](int r, int c) {
        if (const int64_t e = static_cast<int64_t>(r) * cols + c; e < n_entries) cell_hover(s, view, e);
    };
    const int entry = view.cursor.entry;
    const ui::CellMark mark{entry / cols, entry % cols, ui::CellMark::Kind::accent};
    if (entry >= 0 && entry < n_entries) spec.marks = {&mark, 1};
    const ui::HeatmapResult result = map_.draw(spec);
    if (result.is_clicked && static_cast<int64_t>(result.hovered_row) * cols + result.hovered_col < n_entries)
        view.cursor.entry = result.hovered_row * cols + result.hovered_col;
}

}  // namespace

std::unique_ptr<Panel> make_cache_panel() {
    return std::make_unique<CachePanel>();
}

}  // namespace vitrine::viz
