// The cache's byte formulas against the specification's figures (v4-spec 4.5, 4.8, 4.9), and the sums of a report.
#include "engine/telemetry/cache_report.h"

#include <gtest/gtest.h>

#include "engine/base/error.h"

namespace vitrine {
namespace {

// The official schedules (v4-spec 1.3) at the real sizes.
ModelConfig real_model(bool is_pro) {
    ModelConfig c;
    c.head_dim = 512, c.rope_dim = 64, c.index_head_dim = 128, c.sliding_window = 128;
    const int n_layers = is_pro ? 61 : 43;
    for (int i = 0; i < n_layers; ++i) {
        const int ratio = i < 2 ? (is_pro ? 128 : 0) : (i % 2 == 0 ? 4 : 128);
        c.layers.push_back({.ratio = ratio});
    }
    return c;
}

uint64_t kind(const std::array<uint64_t, kCacheKinds>& bytes, CacheKind k) {
    return bytes[static_cast<int>(k)];
}

// What the report counts: everything but the compressor state.
uint64_t counted(const std::array<uint64_t, kCacheKinds>& bytes) {
    uint64_t sum = 0;
    for (const uint64_t b : bytes) sum += b;
    return sum - kind(bytes, CacheKind::compressor_state);
}

TEST(CacheReport, RowBytes) {
    EXPECT_EQ(entry_row_bytes(512, 64, true), 584u);
    EXPECT_EQ(entry_row_bytes(512, 64, false), 2048u);
    EXPECT_EQ(index_key_row_bytes(128, true), 68u);
    EXPECT_EQ(index_key_row_bytes(128, false), 512u);
    EXPECT_EQ(entry_row_bytes(64, 16, true), 88u);  // the seedling: 48 + 32 + 1 = 81, padded
    EXPECT_EQ(index_key_row_bytes(32, true), 17u);
    EXPECT_EQ(entry_row_bytes(32, 8, true), 48u);     // 24 + 16 + 1 = 41, padded
    EXPECT_EQ(entry_row_bytes(128, 32, true), 168u);  // 96 + 64 + 2 = 162: a short last block has its own scale
    EXPECT_EQ(index_key_row_bytes(33, true), 19u);    // an odd size: 17 + 2
    EXPECT_THROW(entry_row_bytes(64, 65, true), Error);
    EXPECT_THROW(index_key_row_bytes(0, true), Error);
}

TEST(CacheReport, TotalsOfTheSpecification) {
    struct Row {
        int64_t n_tokens;
        double flash_mib, pro_mib;
    };
    for (const Row r : {Row{8192, 30.5, 43.7}, Row{32768, 112.9, 161.6}, Row{131072, 442.3, 633.3},
                        Row{393216, 1320.9, 1891.1}, Row{1048576, 3517.3, 5035.8}}) {
        EXPECT_NEAR(counted(projected_bytes(real_model(false), r.n_tokens)) / 1048576.0, r.flash_mib, 0.05);
        EXPECT_NEAR(counted(projected_bytes(real_model(true), r.n_tokens)) / 1048576.0, r.pro_mib, 0.05);
    }
    // To the byte: 21 (Flash) or 30 (Pro) CSA layers, 20 or 31 HCA layers, a window of 128 rows in each.
    const uint64_t n = 1 << 20;
    EXPECT_EQ(counted(projected_bytes(real_model(false), n)),
              21 * (n / 4) * 652 + 20 * (n / 128) * 584 + 43 * 128 * 584);
    EXPECT_EQ(counted(projected_bytes(real_model(true), n)),
              30 * (n / 4) * 652 + 31 * (n / 128) * 584 + 61 * 128 * 584);
    // Ratios to V3.2 as the report prints them: 9.5x and 13.7x.
    const double v32 = 61.0 * kV32BytesPerTokenLayer * n;
    EXPECT_NEAR(v32 / counted(projected_bytes(real_model(true), n)), 9.545, 0.001);
    EXPECT_NEAR(v32 / counted(projected_bytes(real_model(false), n)), 13.67, 0.01);
}

TEST(CacheReport, CompressorStateStandsApart) {
    EXPECT_EQ(kind(projected_bytes(real_model(false), 0), CacheKind::compressor_state),
              21u * (65536 + 16384) + 20u * 524288);
    EXPECT_EQ(kind(projected_bytes(real_model(true), 1 << 20), CacheKind::compressor_state),
              30u * (65536 + 16384) + 31u * 524288);
}

TEST(CacheReport, ShortContexts) {
    const ModelConfig flash = real_model(false);
    EXPECT_EQ(counted(projected_bytes(flash, 0)), 0u);
    const auto three = projected_bytes(flash, 3);  // no entry yet, three window rows a layer
    EXPECT_EQ(kind(three, CacheKind::window), 43u * 3 * 584);
    EXPECT_EQ(kind(three, CacheKind::csa_entries), 0u);
    const auto nine = projected_bytes(flash, 9);
    EXPECT_EQ(kind(nine, CacheKind::csa_entries), 21u * 2 * 584);
    EXPECT_EQ(kind(nine, CacheKind::index_keys), 21u * 2 * 68);
    EXPECT_EQ(kind(nine, CacheKind::hca_entries), 0u);
    EXPECT_EQ(kind(projected_bytes(flash, 128), CacheKind::hca_entries), 20u * 584);
    EXPECT_EQ(kind(projected_bytes(flash, 5000), CacheKind::window), 43u * 128 * 584);
    EXPECT_THROW(projected_bytes(flash, -1), Error);
}

TEST(CacheReport, SumsAndTheCheckLight) {
    CacheReport r;
    r.layers.resize(2);
    r.layers[0].allocated = r.layers[0].expected = {1, 2, 3, 4, 5};
    r.layers[1].allocated = r.layers[1].expected = {10, 20, 30, 40, 50};
    EXPECT_EQ(r.allocated(), (std::array<uint64_t, kCacheKinds>{11, 22, 33, 44, 55}));
    EXPECT_EQ(r.total(), 165u);
    EXPECT_TRUE(r.is_consistent());
    r.layers[1].allocated[2] -= 1, r.layers[1].allocated[3] += 1;  // the totals still agree; the check must not
    EXPECT_EQ(r.total(), 165u);
    EXPECT_FALSE(r.is_consistent());
    EXPECT_TRUE(CacheReport{}.is_consistent());
}

TEST(CacheReport, FilledIsWhatRowsAndEntriesTake) {
    const ModelConfig flash = real_model(false);
    for (const int64_t n : {0, 3, 9, 128, 5000}) {
        CacheReport r;
        r.n_tokens = n;
        for (const LayerConfig& l : flash.layers) {
            LayerCacheBytes b;
            b.n_window_rows = std::min<int64_t>(n, 128), b.n_entries = l.ratio ? n / l.ratio : 0;
            r.layers.push_back(b);
        }
        EXPECT_EQ(filled_bytes(r, flash, true), projected_bytes(flash, n)) << n;
        // FP32: 512 numbers an entry, 128 an index key.
        EXPECT_EQ(kind(filled_bytes(r, flash, false), CacheKind::csa_entries), 21u * static_cast<uint64_t>(n / 4) * 2048);
        EXPECT_EQ(kind(filled_bytes(r, flash, false), CacheKind::index_keys), 21u * static_cast<uint64_t>(n / 4) * 512);
    }
}

TEST(CacheReport, KindsHaveNames) {
    EXPECT_STREQ(cache_kind_name(CacheKind::window), "window");
    EXPECT_STREQ(cache_kind_name(CacheKind::compressor_state), "compressor state");
    EXPECT_THROW(cache_kind_name(CacheKind::count), Error);
}

}  // namespace
}  // namespace vitrine
