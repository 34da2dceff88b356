// The tables of kernels that were compiled in; kernels.cpp chooses among those the processor can run.
#pragma once
#include <vector>

#include "engine/device/cpu/kernels.h"

namespace vitrine::cpu {

const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
const Kernels& avx512_bf16_kernels();
const Kernels& amx_kernels();

// For avx512_bf16_kernels(): packed rows with p_bf16 and queries of BF16 values; anything else takes the FP32 path.
int64_t attend_scratch_floats_bf16(int64_t n, int64_t c, int64_t n_heads);
void attend_bf16(const EntryFormat& format, const void* const* rows, int64_t n, const float* q, int64_t h0, int64_t h1,
                 float scale, const float* sinks, bool p_bf16, float* out, float* probs, float* sink_probs,
                 float* scratch);
// For the same: falls back to the FP32 path for queries that are not FP4 values, floats, or dims other than 128.
void index_scores_vnni(const IndexKeyFormat& format, const void* keys, int64_t n, const float* q, const float* w,
                       int64_t n_heads, bool bf16_scores, float* scores);

// Every table that this processor can run, slowest first: for tests and measurements.
std::vector<const Kernels*> runnable_kernels();

}  // namespace vitrine::cpu
