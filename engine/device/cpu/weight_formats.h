// Scales of packed weight matrices, and what survives packing: shared by the checkpoint writer and by training.
#pragma once
#include <array>
#include <cstdint>

namespace vitrine::cpu {

constexpr int64_t kFp8WeightBlock = 128, kFp4WeightBlock = 32;

// What happened to values that were rounded, and by which scales.
struct RoundingCount {
    int64_t n = 0, saturated = 0, flushed = 0;  // saturated: at the format's largest magnitude; flushed: not 0 before, 0 after
    std::array<int64_t, 256> scales{};          // blocks by E8M0 code: a scale of 2^(code - 127)
    void add(const RoundingCount& o);
};

// Largest magnitude of rows x cols values that lie `ld` apart, at least `floor`; NaN if there is one.
float block_amax(const float* w, int64_t rows, int64_t cols, int64_t ld, float floor);
// E8M0 codes of the smallest power of two with which the block fits (v4-spec 5.3, 5.4).
uint8_t fp8_block_scale(const float* w, int64_t rows, int64_t cols, int64_t ld);
uint8_t fp4_block_scale(const float* w, int64_t cols);

// w [rows, cols], contiguous, in place: the values that pack_fp8 (E8M0 scales) and pack_fp4 write, widened again; FP8 rows
// [r0, r1) start and end at a block's edge or the matrix's end.
RoundingCount fp8_round_weight(float* w, int64_t cols, int64_t r0, int64_t r1);
void fp4_round_weight(float* w, int64_t cols, int64_t r0, int64_t r1);

// Counts for values x in blocks of `block` along each row of `cols`, before fp8_simulate and fp4_simulate.
RoundingCount count_fp8_rounding(const float* x, int64_t cols, int64_t block);
RoundingCount count_fp8_rounding_by(uint8_t scale, const float* x, int64_t n);  // one block, scale: E8M0
RoundingCount count_fp4_rounding(const float* x, int64_t cols, int64_t block);

}  // namespace vitrine::cpu
