// Scales of packed weight matrices, and what survives packing.
#include "engine/device/cpu/weight_formats.h"

#include <algorithm>
#include <cmath>

#include "engine/device/cpu/formats.h"

namespace vitrine::cpu {
namespace {

// largest: the code of the largest magnitude; all of its bits but the sign's are set in `magnitude`.
void count(float before, uint8_t code, uint8_t magnitude, uint8_t largest, RoundingCount& c) {
    ++c.n;
    c.saturated += (code & magnitude) == largest;
    c.flushed += (code & magnitude) == 0 && before != 0;
}
void count_fp8(float before, uint8_t code, RoundingCount& c) {
    count(before, code, 0x7f, 0x7e, c);
}
void count_fp4(float before, uint8_t code, RoundingCount& c) {
    count(before, code, 7, 7, c);
}

}  // namespace

void RoundingCount::add(const RoundingCount& o) {
    n += o.n, saturated += o.saturated, flushed += o.flushed;
    for (size_t code = 0; code < scales.size(); ++code) scales[code] += o.scales[code];
}

float block_amax(const float* w, int64_t rows, int64_t cols, int64_t ld, float floor) {
    float amax = floor;
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < cols; ++c) {
            const float a = std::fabs(w[r * ld + c]);
            if (!(a <= amax)) amax = a;
            if (amax != amax) return amax;
        }
    return amax;
}

uint8_t fp8_block_scale(const float* w, int64_t rows, int64_t cols, int64_t ld) {
    return fp8_scale(block_amax(w, rows, cols, ld, kFp8MinAmax));
}
uint8_t fp4_block_scale(const float* w, int64_t cols) { return fp4_scale(block_amax(w, 1, cols, cols, kFp4MinAmax)); }

RoundingCount fp8_round_weight(float* w, int64_t cols, int64_t r0, int64_t r1) {
    RoundingCount counted;
    for (int64_t r = r0; r < r1; r += kFp8WeightBlock)
        for (int64_t c = 0; c < cols; c += kFp8WeightBlock) {
            const int64_t rows = std::min(kFp8WeightBlock, r1 - r), n = std::min(kFp8WeightBlock, cols - c);
            const uint8_t scale = fp8_block_scale(w + r * cols + c, rows, n, cols);
            const float s = e8m0_to_f32(scale);
            ++counted.scales[scale];
            for (int64_t i = 0; i < rows; ++i)
                for (float* v = w + (r + i) * cols + c; v < w + (r + i) * cols + c + n; ++v) {
                    const uint8_t code = fp8_encode(*v / s);
                    count_fp8(*v, code, counted);
                    *v = fp8_decode(code) * s;
                }
        }
    return counted;
}

void fp4_round_weight(float* w, int64_t cols, int64_t r0, int64_t r1) {
    for (int64_t r = r0; r < r1; ++r) fp4_simulate(w + r * cols, cols, kFp4WeightBlock);
}

RoundingCount count_fp8_rounding(const float* x, int64_t cols, int64_t block) {
    RoundingCount counted;
    for (int64_t c = 0; c < cols; c += block) {
        const int64_t n = std::min(block, cols - c);
        counted.add(count_fp8_rounding_by(fp8_block_scale(x + c, 1, n, n), x + c, n));
    }
    return counted;
}

RoundingCount count_fp8_rounding_by(uint8_t scale, const float* x, int64_t n) {
    RoundingCount counted;
    const float s = e8m0_to_f32(scale);
    ++counted.scales[scale];
    for (int64_t i = 0; i < n; ++i) count_fp8(x[i], fp8_encode(x[i] / s), counted);
    return counted;
}

RoundingCount count_fp4_rounding(const float* x, int64_t cols, int64_t block) {
    RoundingCount counted;
    for (int64_t c = 0; c < cols; c += block) {
        const int64_t n = std::min(block, cols - c);
        const uint8_t scale = fp4_block_scale(x + c, n);
        const float s = e8m0_to_f32(scale);
        ++counted.scales[scale];
        for (int64_t i = c; i < c + n; ++i) count_fp4(x[i], fp4_encode(x[i] / s), counted);
    }
    return counted;
}

}  // namespace vitrine::cpu
