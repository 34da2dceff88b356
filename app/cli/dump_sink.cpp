// Stacks probes over tokens.
#include "app/cli/dump_sink.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace vitrine::cli {
namespace {

bool has_row_per_entry(Probe p) {
    return p == kEntry || p == kEntryWeights;
}

uint32_t filler(Probe p) {
    if (probe_info(p).is_int) return std::bit_cast<uint32_t>(int32_t{-1});
    const bool is_score = p == kIndexScores || p == kIndexTopkScores || p == kIndexCut;
    return std::bit_cast<uint32_t>(is_score ? -std::numeric_limits<float>::infinity() : 0.0f);
}

}  // namespace

void DumpSink::put_words(int token, Probe p, int layer, const void* data, int rows, int cols) {
    Column& c = columns_[{layer, p}];
    const size_t n = size_t(rows) * cols;
    c.rows.push_back({token, rows, cols, c.words.size()});
    c.words.resize(c.words.size() + n);
    if (n) std::memcpy(c.words.data() + c.words.size() - n, data, n * 4);
}
void DumpSink::put(int token, Probe p, int layer, const float* data, int rows, int cols) {
    put_words(token, p, layer, data, rows, cols);
}
void DumpSink::put(int token, Probe p, int layer, const int32_t* data, int rows, int cols) {
    put_words(token, p, layer, data, rows, cols);
}

std::vector<uint32_t> DumpSink::stacked(Probe p, Column& c, int64_t n_tokens, int64_t n_cols,
                                        std::vector<int64_t>& shape) const {
    std::stable_sort(c.rows.begin(), c.rows.end(), [](const Row& a, const Row& b) { return a.token < b.token; });
    int rows = 1, cols = 0;
    for (const Row& r : c.rows) rows = std::max(rows, r.rows), cols = std::max(cols, r.cols);
    if (n_cols >= 0) cols = static_cast<int>(n_cols);
    const int64_t n = has_row_per_entry(p) ? static_cast<int64_t>(c.rows.size()) : n_tokens;
    const bool is_matrix = std::strchr(probe_info(p).shape, ',') != nullptr;
    shape = is_matrix ? std::vector<int64_t>{n, rows, cols} : std::vector<int64_t>{n, int64_t{rows} * cols};
    std::vector<uint32_t> out(size_t(n) * rows * cols, filler(p));
    for (size_t i = 0; i < c.rows.size(); ++i) {
        const Row& r = c.rows[i];
        const int64_t at = has_row_per_entry(p) ? static_cast<int64_t>(i) : r.token;
        if (at < 0 || at >= n)
            throw Error(ErrorKind::internal, std::string(probe_info(p).name) + ": a token out of range");
        const int shift = p == kWindowMass ? cols - r.cols : 0;
        for (int k = 0; k < r.rows; ++k)
            std::copy_n(c.words.data() + r.begin + size_t(k) * r.cols, std::min(r.cols, cols),
                        out.data() + (size_t(at) * rows + k) * cols + shift);
    }
    return out;
}

std::vector<NamedArray> DumpSink::arrays(int64_t n_tokens, const ModelConfig& config) {
    storage_.clear();
    // Columns that depend on the number of entries, by layer and probe; those without a row are made here.
    std::map<std::pair<int, int>, int64_t> widths;
    for (int l = 0; l < config.n_layers(); ++l) {
        const LayerConfig& layer = config.layers[l];
        if (layer.ratio == 0) continue;
        const int64_t n_entries = n_tokens / layer.ratio;
        const bool is_csa = layer.kind() == LayerKind::csa;
        widths[{l, kEntry}] = config.head_dim;
        widths[{l, kEntryWeights}] = is_csa ? 2 * layer.ratio : layer.ratio;
        if (!is_csa) continue;
        for (const Probe p : {kIndexTopk, kIndexTopkScores}) widths[{l, p}] = std::min<int64_t>(config.index_topk, n_entries);
        widths[{l, kIndexScores}] = n_entries;
    }
    for (const auto& [key, width] : widths) columns_[key];
    std::vector<NamedArray> out;
    for (auto& [key, column] : columns_) {
        const auto p = static_cast<Probe>(key.second);
        const ProbeInfo& info = probe_info(p);
        std::vector<int64_t> shape;
        const auto width = widths.find(key);
        storage_.push_back(stacked(p, column, n_tokens, width == widths.end() ? -1 : width->second, shape));
        std::string name = info.name;
        if (info.is_per_layer) name = "blocks." + std::to_string(key.first) + "." + name;
        out.push_back(
            {name, info.is_int ? DType::i32 : DType::f32, shape, storage_.back().data(), storage_.back().size() * 4});
    }
    return out;
}

}  // namespace vitrine::cli
