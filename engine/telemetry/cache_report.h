// What fills the KV cache, in bytes by kind, as the allocator holds it and as the formulas say.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/base/config/numerics.h"

namespace vitrine {

enum class CacheKind : uint8_t { window, csa_entries, index_keys, hca_entries, compressor_state, count };
inline constexpr int kCacheKinds = static_cast<int>(CacheKind::count);
const char* cache_kind_name(CacheKind k);

struct LayerCacheBytes {
    std::array<uint64_t, kCacheKinds> allocated{};  // read from the storage itself
    std::array<uint64_t, kCacheKinds> expected{};   // from the formulas below, computed apart
    int64_t n_entries = 0, n_window_rows = 0;
};

struct CacheReport {
    int64_t n_tokens = 0;
    std::vector<LayerCacheBytes> layers;
    uint64_t snapshot_bytes = 0;                    // kept states to go back to
    uint64_t drafter_bytes = 0;                     // the MTP module's window and the streams that it reads; not in total()
    std::array<uint64_t, kCacheKinds> allocated() const;
    uint64_t total() const;
    bool is_consistent() const;                     // allocated == expected, to the byte, in every layer and kind
};

// Bytes of one row. packed: (c-R) + 2R + ceil((c-R)/64) rounded up to 8, and ceil(D/2) + ceil(D/32); else 4c and 4D.
uint64_t entry_row_bytes(int head_dim, int rope_dim, bool packed);
uint64_t index_key_row_bytes(int index_head_dim, bool packed);

// Bytes at `n_tokens` in the packed formats with no slack, as the V4 report counts (v4-spec 4.9): the window, entries and
// index keys; compressor state apart.
std::array<uint64_t, kCacheKinds> projected_bytes(const ModelConfig& c, int64_t n_tokens);
// What of the allocated bytes holds something: rows of the window and entries that exist, times the bytes of a row; states whole.
// packed: numerics `reference`.
std::array<uint64_t, kCacheKinds> filled_bytes(const CacheReport& r, const ModelConfig& c, bool packed);
inline constexpr uint64_t kV32BytesPerTokenLayer = 788, kGqa8BytesPerTokenLayer = 4096;

}  // namespace vitrine
