// Weights rounded to a narrower number format when they are loaded: what is asked for, and what it did.
#pragma once
#include <cstdint>

namespace vitrine {

// Matrices of one part of the model, MTP modules left out. Norms, biases, sinks, position biases, tables and the mixing
// of mHC belong to none: every format keeps them wide (v4-spec 5.5).
enum class WeightPart : uint8_t {
    routed_experts,
    shared_experts,
    attention,    // projections of queries, keys and outputs
    indexer,      // query projection, head weights and key compressor
    compressors,  // of CSA and HCA entries
    router,       // gates
    embedding,
    head,
    everything  // all of these
};
inline constexpr int kWeightParts = static_cast<int>(WeightPart::everything);
const char* weight_part_name(WeightPart p);  // "routed experts"

// As checkpoints store it: FP8 with a scale per 128 x 128, FP4 with one per row and 32 columns, both powers of two.
enum class NumberFormat : uint8_t { bf16, fp8, fp4 };
const char* number_format_name(NumberFormat f);  // "FP8"

struct WeightRounding {
    WeightPart part;
    NumberFormat to;
};

struct RoundedWeights {
    int64_t n_values = 0, n_changed = 0;
    uint64_t stored_bytes = 0, rounded_bytes = 0;  // scales included: in the file, and in the new format
    double signal = 0, noise = 0;                  // sums of squares: of the values, of what rounding changed
    double sqnr_db() const;                        // 10 log10(signal / noise); infinity when nothing changed
};

}  // namespace vitrine
