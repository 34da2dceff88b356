// The table of kernels in plain loops: what the fast ones are tested against, and what runs on any processor.
#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/device/cpu/formats.h"
#include "engine/device/cpu/kernels.h"

namespace vitrine::cpu {
namespace {

// Sixteen partial sums in a fixed order: what the compiler can vectorise without reassociating.
float dot(const float* a, const float* b, int64_t n) {
    constexpr int kLanes = 16;
    float sum[kLanes] = {};
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        for (int l = 0; l < kLanes; ++l) sum[l] += a[i + l] * b[i + l];
    }
    for (int l = 0; i < n; ++i, ++l) sum[l] += a[i] * b[i];
    for (int half = kLanes / 2; half > 0; half /= 2) {
        for (int l = 0; l < half; ++l) sum[l] += sum[l + half];
    }
    return sum[0];
}

void axpy(float a, const float* x, float* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i] += a * x[i];
}

void gemm(const PackedMatrix& w, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy, int64_t o0,
          int64_t o1) {
    thread_local std::vector<float> row;
    row.resize(static_cast<size_t>(w.in));
    for (int64_t o = o0; o < o1; ++o) {
        widen_row(w, o, row.data());
        for (int64_t t = 0; t < m; ++t) y[t * ldy + o] = dot(row.data(), x + t * ldx, w.in);
    }
}

int64_t attend_scratch_floats(int64_t n, int64_t c, int64_t n_heads) {
    return n_heads * n + c;
}

// A row as floats: in place, or unpacked into `buffer`.
const float* row_floats(const EntryFormat& format, const void* row, float* buffer) {
    if (!format.is_packed) return static_cast<const float*>(row);
    unpack_entry(format, row, buffer);
    return buffer;
}

void attend(const EntryFormat& format, const void* const* rows, int64_t n, const float* q, int64_t h0, int64_t h1,
            float scale, const float* sinks, bool p_bf16, float* out, float* probs, float* sink_probs, float* scratch) {
    const int64_t c = format.c;
    float* p = scratch;  // [h1-h0, n]
    float* buffer = scratch + (h1 - h0) * n;
    for (int64_t j = 0; j < n; ++j) {
        const float* row = row_floats(format, rows[j], buffer);
        for (int64_t h = h0; h < h1; ++h) p[(h - h0) * n + j] = scale * dot(q + h * c, row, c);
    }
    for (int64_t h = h0; h < h1; ++h) {
        float* ph = p + (h - h0) * n;
        const float largest = n > 0 ? *std::max_element(ph, ph + n) : 0.0f;
        const float sink = sinks ? std::exp(sinks[h] - largest) : 0.0f;
        float z = 0;
        for (int64_t j = 0; j < n; ++j) z += ph[j] = std::exp(ph[j] - largest);
        z += sink;
        for (int64_t j = 0; probs && j < n; ++j) probs[h * n + j] = ph[j] / z;
        if (sink_probs) sink_probs[h] = std::isinf(z) ? 1.0f : sink / z;
        for (int64_t j = 0; j < n; ++j) ph[j] = p_bf16 ? round_bf16(ph[j]) : ph[j];
        std::fill(out + h * c, out + (h + 1) * c, 0.0f);
        for (int64_t j = 0; j < n; ++j) axpy(ph[j], row_floats(format, rows[j], buffer), out + h * c, c);
        for (int64_t i = 0; i < c; ++i) out[h * c + i] /= z;
    }
}

void index_scores(const IndexKeyFormat& format, const void* keys, int64_t n, const float* q, const float* w,
                  int64_t n_heads, bool bf16_scores, float* scores) {
    const int64_t d = format.d;
    thread_local std::vector<float> buffer;
    buffer.resize(static_cast<size_t>(d));
    for (int64_t s = 0; s < n; ++s) {
        const char* at = static_cast<const char*>(keys) + s * format.row_bytes();
        const float* key = reinterpret_cast<const float*>(at);
        if (format.is_packed) unpack_index_key(format, at, buffer.data()), key = buffer.data();
        float sum = 0;
        for (int64_t h = 0; h < n_heads; ++h) {
            float score = dot(q + h * d, key, d);
            if (bf16_scores) score = round_bf16(score);
            const float term = w[h] * (score < 0 ? 0.0f : score);
            sum += bf16_scores ? round_bf16(term) : term;
        }
        scores[s] = bf16_scores ? round_bf16(sum) : sum;
    }
}

void round_row(float* x, int64_t n) {
    for (int64_t i = 0; i < n; ++i) x[i] = round_bf16(x[i]);
}

void weighted_sum(const float* const* rows, const float* a, int64_t n_rows, int64_t n, bool bf16, float* y) {
    for (int64_t i = 0; i < n; ++i) {
        float sum = 0;
        for (int64_t j = 0; j < n_rows; ++j) sum += a[j] * rows[j][i];
        y[i] = bf16 ? round_bf16(sum) : sum;
    }
}

void rms_row(const float* x, const float* w, int64_t n, float eps, bool bf16, float* y) {
    const float f = 1.0f / std::sqrt(dot(x, x, n) / static_cast<float>(n) + eps);
    for (int64_t i = 0; i < n; ++i) {
        const float v = w ? w[i] * (x[i] * f) : x[i] * f;
        y[i] = bf16 ? round_bf16(v) : v;
    }
}

void swiglu_row(const float* gate, const float* up, int64_t n, float limit, float weight, bool bf16, float* h) {
    for (int64_t i = 0; i < n; ++i) {
        const float g = std::min(bf16 ? round_bf16(gate[i]) : gate[i], limit);
        const float u = std::clamp(bf16 ? round_bf16(up[i]) : up[i], -limit, limit);
        const float v = weight * (g / (1.0f + std::exp(-g))) * u;
        h[i] = bf16 ? round_bf16(v) : v;
    }
}

void sum_rows(const float* x, int64_t n_rows, int64_t n, double* y) {
    std::fill_n(y, n, 0.0);
    for (int64_t r = 0; r < n_rows; ++r)
        for (int64_t j = 0; j < n; ++j) y[j] += x[r * n + j];
}

double sum(const float* x, int64_t n) {
    double eight[8] = {}, total = 0;
    const int64_t whole = n / 8 * 8;
    for (int64_t i = 0; i < whole; ++i) eight[i % 8] += x[i];
    for (int64_t i = whole; i < n; ++i) total += x[i];
    for (double one : eight) total += one;
    return total;
}

float exp_row(const float* x, int64_t n, float top, float* y) {
    float sum = 0;
    for (int64_t i = 0; i < n; ++i) {
        const float e = std::exp(x[i] - top);
        sum += e;
        if (y) y[i] = e;
    }
    return sum;
}

void exp_axpy(float a, const float* x, int64_t n, float top, float* y) {
    for (int64_t i = 0; i < n; ++i) y[i] += a * std::exp(x[i] - top);
}

float swiglu_backward_row(const float* gate, const float* up, const float* dh, int64_t n, float limit, float weight, float* h,
                          float* dgate, float* dup) {
    float dweight = 0;
    for (int64_t i = 0; i < n; ++i) {
        const float g = std::min(gate[i], limit), u = std::clamp(up[i], -limit, limit);
        const float sigma = 1.0f / (1.0f + std::exp(-g)), silu = g * sigma, dh_i = dh[i], d = weight * dh_i;
        dweight += dh_i * (silu * u);
        h[i] = weight * silu * u;
        dgate[i] = gate[i] <= limit ? d * u * sigma * (1.0f + g * (1.0f - sigma)) : 0.0f;
        dup[i] = up[i] == u ? d * silu : 0.0f;
    }
    return dweight;
}

}  // namespace

const Kernels& scalar_kernels() {
    static const Kernels table{"scalar",     gemm,      gemm,         dot,     axpy,      attend, attend_scratch_floats,
                               index_scores, round_row, weighted_sum, rms_row, swiglu_row, sum_rows,   sum,
                               exp_row,      exp_axpy,  swiglu_backward_row, &plain_hyper_kernels<float>()};
    return table;
}

}  // namespace vitrine::cpu
