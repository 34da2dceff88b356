// Bytes of the KV cache: the formulas of one row, of a context, and sums over a report (v4-spec 4.5, 4.8, 4.9).
#include "engine/telemetry/cache_report.h"

#include <algorithm>

#include "engine/base/checked.h"
#include "engine/base/error.h"

namespace vitrine {
namespace {

// FP32 rows of one compressor: kv and score states [o*r, o*D] each, o = 2 for CSA (overlapping), else 1 (v4-spec 4.5).
Checked compressor_state_bytes(int ratio, bool overlaps, int entry_dim) {
    const Checked o(overlaps ? 2 : 1);
    return o * Checked(ratio) * o * Checked(entry_dim) * Checked(2 * sizeof(float));
}

}  // namespace

const char* cache_kind_name(CacheKind k) {
    switch (k) {
        case CacheKind::window:
            return "window";
        case CacheKind::csa_entries:
            return "CSA entries";
        case CacheKind::index_keys:
            return "index keys";
        case CacheKind::hca_entries:
            return "HCA entries";
        case CacheKind::compressor_state:
            return "compressor state";
        case CacheKind::count:
            break;
    }
    VITRINE_ASSERT(false);
    return "";
}

std::array<uint64_t, kCacheKinds> CacheReport::allocated() const {
    std::array<uint64_t, kCacheKinds> sum{};
    for (const LayerCacheBytes& layer : layers)
        for (int k = 0; k < kCacheKinds; ++k) sum[k] += layer.allocated[k];
    return sum;
}

uint64_t CacheReport::total() const {
    uint64_t sum = 0;
    for (const uint64_t bytes : allocated()) sum += bytes;
    return sum;
}

bool CacheReport::is_consistent() const {
    return std::all_of(layers.begin(), layers.end(), [](const auto& l) { return l.allocated == l.expected; });
}

uint64_t entry_row_bytes(int head_dim, int rope_dim, bool packed) {
    VITRINE_ASSERT(head_dim > 0 && rope_dim >= 0 && rope_dim <= head_dim);
    const Checked c(head_dim), rope(rope_dim), plain = c - rope;
    if (!packed) return (c * sizeof(float)).value();
    return round_up(plain + rope * 2 + ceil_div(plain, 64), 8).value();
}

uint64_t index_key_row_bytes(int index_head_dim, bool packed) {
    VITRINE_ASSERT(index_head_dim > 0);
    const Checked d(index_head_dim);
    return packed ? (ceil_div(d, 2) + ceil_div(d, 32)).value() : (d * sizeof(float)).value();
}

std::array<uint64_t, kCacheKinds> projected_bytes(const ModelConfig& c, int64_t n_tokens) {
    VITRINE_ASSERT(n_tokens >= 0);
    std::array<Checked, kCacheKinds> sum{};
    const auto add = [&sum](CacheKind k, Checked bytes) {
        sum[static_cast<int>(k)] = sum[static_cast<int>(k)] + bytes;
    };
    const Checked row(entry_row_bytes(c.head_dim, c.rope_dim, true));
    const Checked n_window(static_cast<uint64_t>(std::min<int64_t>(n_tokens, c.sliding_window)));
    for (const LayerConfig& layer : c.layers) {
        add(CacheKind::window, n_window * row);
        if (layer.kind() == LayerKind::sliding) continue;
        const bool is_csa = layer.kind() == LayerKind::csa;
        const Checked n_entries = Checked(static_cast<uint64_t>(n_tokens)) / Checked(layer.ratio);
        add(is_csa ? CacheKind::csa_entries : CacheKind::hca_entries, n_entries * row);
        add(CacheKind::compressor_state, compressor_state_bytes(layer.ratio, is_csa, c.head_dim));
        if (!is_csa) continue;
        add(CacheKind::index_keys, n_entries * Checked(index_key_row_bytes(c.index_head_dim, true)));
        add(CacheKind::compressor_state, compressor_state_bytes(layer.ratio, true, c.index_head_dim));
    }
    std::array<uint64_t, kCacheKinds> bytes{};
    for (int k = 0; k < kCacheKinds; ++k) bytes[k] = sum[k].value();
    return bytes;
}

std::array<uint64_t, kCacheKinds> filled_bytes(const CacheReport& r, const ModelConfig& c, bool packed) {
    std::array<Checked, kCacheKinds> sum{};
    const auto add = [&sum](CacheKind k, Checked bytes) {
        sum[static_cast<int>(k)] = sum[static_cast<int>(k)] + bytes;
    };
    const Checked row(entry_row_bytes(c.head_dim, c.rope_dim, packed));
    for (size_t l = 0; l < std::min(r.layers.size(), c.layers.size()); ++l) {
        const LayerConfig& layer = c.layers[l];
        add(CacheKind::window, Checked(static_cast<uint64_t>(r.layers[l].n_window_rows)) * row);
        if (layer.kind() == LayerKind::sliding) continue;
        const bool is_csa = layer.kind() == LayerKind::csa;
        const Checked n_entries(static_cast<uint64_t>(r.layers[l].n_entries));
        add(is_csa ? CacheKind::csa_entries : CacheKind::hca_entries, n_entries * row);
        add(CacheKind::compressor_state, compressor_state_bytes(layer.ratio, is_csa, c.head_dim));
        if (!is_csa) continue;
        add(CacheKind::index_keys, n_entries * Checked(index_key_row_bytes(c.index_head_dim, packed)));
        add(CacheKind::compressor_state, compressor_state_bytes(layer.ratio, true, c.index_head_dim));
    }
    std::array<uint64_t, kCacheKinds> bytes{};
    for (int k = 0; k < kCacheKinds; ++k) bytes[k] = sum[k].value();
    return bytes;
}

}  // namespace vitrine
