// Model: the configuration in plain words, parameters and memory, every tensor, and where the time of a token goes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "viz/panels.h"
#include "viz/text_util.h"
#include "viz/widgets/bars.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/heatmap.h"
#include "viz/widgets/table.h"
#include "viz/widgets/view_head.h"

namespace vitrine::viz {
namespace {

constexpr Help kHelp = {
    "What the checkpoint says about itself, in plain words; how many parameters there are and how many a token uses; "
    "what takes the "
    "memory; every tensor with its shape and format; and the time a token spends in each operation of each layer.",
    "Active parameters are those a token's forward pass multiplies with: attention, its chosen and shared experts, the "
    "head. Type into "
    "the filter to find tensors by part of their name; click one for the histogram of its values.",
    "active = all - routed experts \xC2\xB7 (1 - K/E) - embedding table",
    "config.json of the open folder; DeepSeek-V4 report 4.2.1",
    "Filter for \"gate.bias\" and look at the histogram: how far does balancing have to push the router?",
};

struct ConfigRow {
    const char* key;
    std::string value;
    const char* meaning;
};

std::string count(int64_t v) {
    return ui::format_count(v);
}

std::string layer_summary(const ModelConfig& c) {
    int n[3] = {}, n_hash = 0;
    for (const LayerConfig& l : c.layers) ++n[static_cast<int>(l.kind())], n_hash += l.is_hash_routed;
    return count(c.n_layers()) + ": " + count(n[0]) + " S, " + count(n[1]) + " C, " + count(n[2]) + " H; " +
           count(n_hash) + " #";
}

std::vector<ConfigRow> config_rows(const ModelConfig& c) {
    const auto num = [](double v) { return ui::full_precision(v); };
    return {
        {"layers", layer_summary(c),
         "S sees its window only; C adds the best-scored entries; H adds every block; # routes by token id"},
        {"vocab_size", count(c.vocab_size), "different tokens"},
        {"hidden_size", count(c.hidden_size), "numbers in one residual stream"},
        {"hc_mult", count(c.hc_mult), "residual streams side by side"},
        {"hc_sinkhorn_iters", count(c.hc_sinkhorn_iters), "steps that make a mixing matrix doubly stochastic"},
        {"num_attention_heads", count(c.n_heads), "query heads; they share one key-value head"},
        {"head_dim", count(c.head_dim), "numbers in a key, which is also the value"},
        {"qk_rope_head_dim", count(c.rope_dim), "of them, the last ones turn with the position"},
        {"q_lora_rank", count(c.q_lora_rank), "width of the low-rank query"},
        {"o_groups \xC3\x97 o_lora_rank", count(c.o_groups) + " \xC3\x97 " + count(c.o_lora_rank),
         "grouped low-rank output projection"},
        {"sliding_window", count(c.sliding_window), "newest tokens seen in full, the token itself included"},
        {"index_n_heads \xC3\x97 index_head_dim", count(c.index_n_heads) + " \xC3\x97 " + count(c.index_head_dim),
         "the indexer that scores entries in C layers"},
        {"index_topk", count(c.index_topk), "entries a C layer keeps for a token"},
        {"n_routed_experts", count(c.n_experts), "experts a layer can choose from"},
        {"num_experts_per_tok", count(c.n_experts_per_tok), "experts a token uses in a layer"},
        {"n_shared_experts", count(c.n_shared_experts), "experts every token uses besides"},
        {"moe_intermediate_size", count(c.expert_width), "width of one expert"},
        {"norm_topk_prob", c.norm_topk_prob ? "true" : "false", "whether chosen affinities are divided by their sum"},
        {"routed_scaling_factor", num(c.routed_scaling_factor), "what the weights of the chosen experts sum to"},
        {"swiglu_limit", num(c.swiglu_limit), "an expert's inner values are clamped here"},
        {"rope_theta", num(c.rope_theta), "base of the rotation in S layers"},
        {"compress_rope_theta", num(c.compress_rope_theta), "base of the rotation in C and H layers"},
        {"rope_scaling",
         c.has_yarn ? "YaRN \xC3\x97 " + num(c.yarn.factor) + " over " + count(c.yarn.original_max_position) : "none",
         "stretches positions beyond the trained length, in C and H layers"},
        {"max_position_embeddings", count(c.max_position), "longest context [tokens]"},
        {"rms_norm_eps, hc_eps", num(c.rms_norm_eps) + ", " + num(c.hc_eps), "small numbers that keep divisions safe"},
        {"num_nextn_predict_layers", count(c.n_mtp_layers), "extra blocks that predict one token further"},
    };
}

std::string config_csv(const std::vector<ConfigRow>& rows) {
    std::string out = "key,value,meaning\n";
    for (const ConfigRow& r : rows) out += std::string(r.key) + ",\"" + r.value + "\",\"" + r.meaning + "\"\n";
    return out;
}

class ModelPanel final : public Panel {
  public:
    const char* name() const override { return "Model"; }
    const Help& help() const override { return kHelp; }
    void draw(const Snapshot& s, View& view) override;

  private:
    void draw_config(const ModelInfo& m);
    void draw_memory(const Snapshot& s);
    void draw_tensors(const Snapshot& s, View& view);
    void draw_histogram(const Snapshot& s);
    void draw_times(const Snapshot& s, View& view);
    void filter(const ModelInfo& m);

    std::string filter_text_, filtered_by_;
    const ModelInfo* filtered_model_ = nullptr;
    std::vector<int> shown_;
    std::string selected_;
    bool selected_has_values_ = false;
    ui::Heatmap times_;
    std::vector<float> ms_;
};

void ModelPanel::draw(const Snapshot& s, View& view) {
    ui::section("Model", &kHelp);
    if (s.model) {
        ImGui::SameLine(0, px(12));
        ui::badge(Source::live);
        ImGui::SameLine(0, px(12));
        ui::text_dim(s.model->name + " \xC2\xB7 " + numerics_name(s.model->numerics) + " \xC2\xB7 " + s.model->device +
                         " \xC2\xB7 " + s.model->folder,
                     "model/name");
    }
    if (!ui::require_model(s)) return;
    ui::four_panes({{"model-config", 220, [&] { draw_config(*s.model); }},
                    {"model-tensors", 220, [&] { draw_tensors(s, view); }},
                    {"model-memory", 200, [&] { draw_memory(s); }},
                    {"model-times", 220, [&] { draw_times(s, view); }}},
                   0.56f, 0.46f, 0.46f);
}

// Key and value on one line, the plain words below: they are what a newcomer reads, so they wrap instead of being cut.
void ModelPanel::draw_config(const ModelInfo& m) {
    ui::section("Configuration");
    ui::Region list("config", {0, 0});
    const std::vector<ConfigRow> rows = config_rows(m.config);
    ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2(ImGui::GetStyle().ItemSpacing.x, px(1)));
    for (const ConfigRow& row : rows) {
        const float key_width = std::min(ImGui::CalcTextSize(row.key).x, ImGui::GetContentRegionAvail().x * 0.6f);
        ui::text_in(row.key, key_width);
        ImGui::SameLine(0, px(10));
        ui::text_mono(row.value, (std::string("model/config/") + row.key).c_str());
        ui::copy_menu(row.key, {row.value, std::string(row.key) + "\t" + row.value, [&] { return config_csv(rows); }});
        ui::Color dim(theme().text_dim);
        ui::FontScope small(Font::small);
        ui::text_wrapped(row.meaning);
        ImGui::Dummy({0, px(5)});
    }
    ImGui::PopStyleVar();
}

void ModelPanel::draw_memory(const Snapshot& s) {
    const ModelInfo& m = *s.model;
    ui::section("Parameters and memory");
    const double active = m.n_params > 0 ? static_cast<double>(m.n_active_params) / static_cast<double>(m.n_params) : 0;
    ui::text_wrapped(ui::format_count(m.n_params) + " parameters, " + ui::format_count(m.n_active_params) + " (" +
                     ui::format_percent(active) + ") of them used by one token.");
    ui::value("model/params", static_cast<double>(m.n_params));
    ui::value("model/active", static_cast<double>(m.n_active_params));
    const auto sum = [](const std::array<uint64_t, kCacheKinds>& a) {
        uint64_t total = 0;
        for (const uint64_t b : a) total += b;
        return total;
    };
    struct Row {
        std::string what, note;
        uint64_t bytes;
    };
    const int64_t longest = std::max<int64_t>(1, m.config.max_position);
    const std::vector<Row> rows = {
        {"weights", "mapped from files", m.weight_bytes},
        {"cache now", ui::format_count(s.cache.n_tokens) + " tokens, as held", s.cache.total()},
        {"kept states", "to go back to", s.cache.snapshot_bytes},
        {"cache at the limit", ui::format_count(longest) + ", projected", sum(projected_bytes(m.config, longest))},
        {"trace", "for looking back", s.trace ? s.trace->bytes() : 0},
        {"trace, at most", "", s.trace ? s.trace->max_bytes() : 0},
    };
    static constexpr ui::Column kColumns[] = {{"memory", 116}, {"bytes", 70, true}, {"note", 0}};
    ui::TableSpec spec;
    spec.id = "model/memory";
    spec.columns = kColumns;
    spec.n_rows = static_cast<int>(rows.size());
    spec.row_name = [&](int r) { return rows[r].what; };
    spec.cell = [&](int r, int c) -> ui::Cell {
        return c == 0   ? ui::Cell(rows[r].what)
               : c == 1 ? ui::Cell::bytes(rows[r].bytes)
                        : ui::Cell(rows[r].note, theme().text_dim);
    };
    ui::table(spec);
    ui::text_dim("kernels: " + m.kernels + ", " + std::to_string(m.n_threads) + " threads \xC2\xB7 opened in " +
                 ui::format_number(m.load_ms) + " ms");
    for (const std::string& w : m.warnings) ui::text_wrapped("! " + displayable(w));
}

void ModelPanel::filter(const ModelInfo& m) {
    if (filtered_model_ == &m && filtered_by_ == filter_text_) return;
    if (filtered_model_ != &m) selected_.clear();  // another model's tensor of that name is another tensor
    filtered_model_ = &m, filtered_by_ = filter_text_;
    shown_.clear();
    for (size_t i = 0; i < m.tensors.size(); ++i)
        if (contains_folded(m.tensors[i].name, filter_text_) || contains_folded(m.tensors[i].dtype, filter_text_))
            shown_.push_back(static_cast<int>(i));
}

void ModelPanel::draw_tensors(const Snapshot& s, View& view) {
    const ModelInfo& m = *s.model;
    ui::section("Tensors");
    ImGui::SameLine(0, px(12));
    char buffer[128] = {};
    std::strncpy(buffer, filter_text_.c_str(), sizeof buffer - 1);
    ImGui::SetNextItemWidth(std::max(px(80), ImGui::GetContentRegionAvail().x));
    if (ImGui::InputTextWithHint("##filter", "part of a name or format", buffer, sizeof buffer)) filter_text_ = buffer;
    ui::mark("model/filter", filter_text_);
    filter(m);
    uint64_t bytes = 0;
    for (const int i : shown_) bytes += m.tensors[i].bytes;
    ui::text_dim(ui::format_count(static_cast<int64_t>(shown_.size())) + " tensors, " + ui::format_bytes(bytes),
                 "model/tensors/summary");
    ui::value("model/tensors/bytes", static_cast<double>(bytes));
    static constexpr ui::Column kColumns[] = {
        {"name", 0, false, "", true}, {"shape", 78, true}, {"format", 62}, {"bytes", 66, true}};
    ui::TableSpec spec;
    spec.id = "model/tensors";
    spec.columns = kColumns;
    spec.n_rows = static_cast<int>(shown_.size());
    spec.height = selected_.empty() ? -1 : std::max(px(80), ImGui::GetContentRegionAvail().y - px(130));
    spec.row_name = [&](int r) { return m.tensors[shown_[r]].name; };
    spec.cell = [&](int r, int c) -> ui::Cell {
        const TensorInfo& t = m.tensors[shown_[r]];
        return c == 0   ? ui::Cell(t.name)
               : c == 1 ? ui::Cell(t.shape)
               : c == 2 ? ui::Cell(t.dtype, theme().text_dim)
                        : ui::Cell::bytes(t.bytes);
    };
    for (size_t r = 0; r < shown_.size(); ++r)
        if (m.tensors[shown_[r]].name == selected_) spec.selected = static_cast<int>(r);
    const ui::TableResult result = ui::table(spec);
    if (result.clicked >= 0) {
        const TensorInfo& clicked = m.tensors[shown_[result.clicked]];
        selected_ = clicked.name, selected_has_values_ = clicked.has_real_values();
        if (selected_has_values_ && !s.histograms.count(selected_)) view.commands.send(MakeHistogram{selected_});
    }
    if (selected_.empty()) return;
    if (selected_has_values_)
        draw_histogram(s);
    else
        ui::text_dim(selected_ + ": block scales, a table of integers, or nothing that the model uses: no histogram",
                     "model/histogram");
}

void ModelPanel::draw_histogram(const Snapshot& s) {
    const auto it = s.histograms.find(selected_);
    if (it == s.histograms.end()) {
        ui::text_dim("counting the values of " + selected_ + "\xE2\x80\xA6");
        return;
    }
    const TensorHistogram& h = it->second;
    ui::text_dim("min " + ui::format_number(h.min) + " \xC2\xB7 max " + ui::format_number(h.max) + " \xC2\xB7 mean " +
                     ui::format_number(h.mean) + " \xC2\xB7 RMS " + ui::format_number(h.rms) +
                     (h.n_nonfinite > 0 ? " \xC2\xB7 " + ui::format_count(h.n_nonfinite) + " not finite" : ""),
                 "model/histogram");
    const std::vector<float> counts(h.counts.begin(), h.counts.end());
    const double step = counts.empty() ? 0 : (h.max - h.min) / static_cast<double>(counts.size());
    ui::BarsSpec spec;
    spec.id = "model/histogram/bars";
    spec.values = counts;
    const std::string range = "value, from " + ui::format_number(h.min) + " to " + ui::format_number(h.max);
    spec.value_name = "how many", spec.label_name = range.c_str();
    spec.hover = [&](int i) {
        ui::plainf("from %s to %s", ui::full_precision(h.min + step * i).c_str(),
                    ui::full_precision(h.min + step * (i + 1)).c_str());
    };
    spec.height = std::max(px(60), ImGui::GetContentRegionAvail().y);
    ui::vertical_bars(spec);
}

void ModelPanel::draw_times(const Snapshot& s, View& view) {
    ui::section("Time per layer and operation");
    const OpTimesChanged& t = s.times;
    std::vector<size_t> kinds;  // those that took time: an answer runs no optimizer
    int cols = 0;
    for (size_t k = 0; k < std::min(t.kinds.size(), t.ms_by_kind_and_layer.size()); ++k) {
        const auto& ms = t.ms_by_kind_and_layer[k];
        if (std::any_of(ms.begin(), ms.end(), [](double v) { return v > 0; })) kinds.push_back(k);
        cols = std::max(cols, static_cast<int>(ms.size()));
    }
    const int rows = static_cast<int>(kinds.size());
    if (s.model->gpu != kCpu) {
        ui::empty_state("Not measured on a GPU", "Times by layer and operation are taken on the CPU only.");
        return;
    }
    if (rows == 0 || cols == 0 || t.n_tokens <= 0) {
        ui::empty_state("Not measured yet",
                        "Ask something: the next answer's time shows up here by layer and operation.");
        return;
    }
    ms_.assign(static_cast<size_t>(rows) * cols, std::nanf(""));
    std::vector<double> by_kind(rows, 0);
    double total = 0;
    for (int r = 0; r < rows; ++r)
        for (size_t l = 0; l < t.ms_by_kind_and_layer[kinds[r]].size(); ++l) {
            const double ms = t.ms_by_kind_and_layer[kinds[r]][l] / t.n_tokens;
            ms_[static_cast<size_t>(r) * cols + l] = static_cast<float>(ms);
            by_kind[r] += ms, total += ms;
        }
    ui::text_dim(ui::format_number(total) + " ms a token, mean of " + ui::format_count(t.n_tokens) +
                     (t.n_tokens == 1 ? " token" : " tokens"),
                 "model/times/total");
    ui::value("model/times/total", total);
    ui::HeatmapSpec spec;
    spec.id = "model/times";
    spec.values = ms_;
    spec.rows = rows, spec.cols = cols;
    spec.lo = spec.hi = 0;
    spec.value_name = "time", spec.unit = "ms a token";
    spec.row_name = "", spec.col_name = "layer", spec.has_names = true;
    spec.row_label = [&](int r) {
        return t.kinds[kinds[r]] + " " + ui::format_percent(total > 0 ? by_kind[r] / total : 0);
    };
    spec.col_label = [cols](int l) { return l == cols - 1 ? std::string("head") : std::to_string(l); };
    spec.selected_col = view.cursor.layer;
    const ui::HeatmapResult result = times_.draw(spec);
    if (result.is_clicked && result.hovered_col < s.model->config.n_layers()) view.cursor.layer = result.hovered_col;
}

}  // namespace

std::unique_ptr<Panel> make_model_panel() {
    return std::make_unique<ModelPanel>();
}

}  // namespace vitrine::viz
