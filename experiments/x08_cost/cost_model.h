// What one decoded token costs: multiplications and cache, from the configuration alone (v4-spec 4.9, 4.10).
#pragma once
#include <cstdint>
#include <functional>

#include "engine/base/config/model_config.h"

namespace vitrine::lab {

ModelConfig flash_config();  // the published shapes (v4-spec 1.1, 1.3)
ModelConfig pro_config();

// [FLOP], two per multiply-add, of the token that sees n tokens including itself.
struct TokenCost {
    double linear = 0;  // projections, 6 + 1 experts: FP8 or FP4 weights
    double fp32 = 0;    // compressors, router, mHC: kept in FP32
    double head = 0;    // vocabulary, BF16
    double core = 0;    // scores and sums of attention, BF16
    double index = 0;   // scores of the lightning indexer
    double raw() const { return linear + fp32 + head + core + index; }
};

// FP8-equivalent operations: what one operation of each format counts.
struct CostWeights {
    double core = 2, head = 2, fp32 = 4, index = 0.5;
};
inline double equivalent(const TokenCost& c, const CostWeights& w) {
    return c.linear + w.fp32 * c.fp32 + w.head * c.head + w.core * c.core + w.index * c.index;
}

// Error(bad_input) for a config with attention other than V4's.
TokenCost v4_cost(const ModelConfig& c, int64_t n);
// DeepSeek-V3.2: MLA with absorbed projections, 2,048 chosen keys, an FP8 indexer (weigh it with index = 1).
TokenCost v32_cost(int64_t n);
inline constexpr int kV32Layers = 61;

// All tokens up to n [FLOP-equivalents]: summed over every 128th token.
double prefill_total(const std::function<double(const ModelConfig*, int64_t n)>& token, const ModelConfig* c, int64_t n);

// [bytes]: window, entries and index keys in the packed formats; compressor state is not counted, as in the report.
// fp8_keys: index keys of 132 instead of 68 bytes (for index dimension 128).
double v4_cache(const ModelConfig& c, int64_t n, bool fp8_keys = false);
double v32_cache(int64_t n);
double gqa8_cache(int n_layers, int64_t n);  // 8 heads of 128, BF16, key and value

}  // namespace vitrine::lab
