// Loops of independent multiply-adds, each compiled for its instruction set by attribute (nothing here is inlined
// elsewhere).
#include "engine/device/cpu/peak.h"

#include <cstddef>

#include "engine/device/cpu/support.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace vitrine::cpu {
namespace {

constexpr int kSums = 16;  // enough to hide any latency

// Uses the result, so that the loop is not removed.
void keep(const void* sums, size_t bytes) {
    const auto* p = static_cast<const volatile unsigned char*>(sums);
    for (size_t i = 0; i < bytes; i += 64) (void)p[i];
}

double fma_plain(int64_t rounds) {
    float s[kSums];
    for (int i = 0; i < kSums; ++i) s[i] = 0.01f * static_cast<float>(i);
    for (int64_t r = 0; r < rounds; ++r)
        for (int i = 0; i < kSums; ++i) s[i] = s[i] * 0.999f + 0.001f;
    keep(s, sizeof(s));
    return kSums * 2;
}

#if defined(__x86_64__)
[[gnu::target("avx512f")]] double fma_512(int64_t rounds) {
    __m512 s[kSums];
    for (int i = 0; i < kSums; ++i) s[i] = _mm512_set1_ps(0.01f * static_cast<float>(i));
    const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
    for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
        for (int i = 0; i < kSums; ++i) s[i] = _mm512_fmadd_ps(s[i], a, b);
    }
    keep(s, sizeof(s));
    return kSums * 16 * 2;
}

[[gnu::target("avx2,fma")]] double fma_256(int64_t rounds) {
    constexpr int kFew = 12;  // of 16 registers
    __m256 s[kFew];
    for (int i = 0; i < kFew; ++i) s[i] = _mm256_set1_ps(0.01f * static_cast<float>(i));
    const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
    for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
        for (int i = 0; i < kFew; ++i) s[i] = _mm256_fmadd_ps(s[i], a, b);
    }
    keep(s, sizeof(s));
    return kFew * 8 * 2;
}

[[gnu::target("avx512f,avx512bw,avx512vl,avx512bf16")]] double dot_512(int64_t rounds) {
    __m512 s[kSums];
    for (int i = 0; i < kSums; ++i) s[i] = _mm512_set1_ps(0.01f * static_cast<float>(i));
    const __m512bh a = (__m512bh)_mm512_set1_epi16(0x3f80), b = (__m512bh)_mm512_set1_epi16(0x3c00);
    for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
        for (int i = 0; i < kSums; ++i) s[i] = _mm512_dpbf16_ps(s[i], a, b);
    }
    keep(s, sizeof(s));
    return kSums * 32 * 2;
}

#endif

}  // namespace

#if defined(__x86_64__)
double fma_work(int64_t rounds) {
    return features().avx512 ? fma_512(rounds) : features().avx2 ? fma_256(rounds) : fma_plain(rounds);
}
double bf16_dot_work(int64_t rounds) {
    return dot_512(rounds);
}
bool has_bf16_work() {
    return features().avx512_bf16;
}
#else
double fma_work(int64_t rounds) {
    return fma_plain(rounds);
}
double bf16_dot_work(int64_t) {
    return 0;
}
bool has_bf16_work() {
    return false;
}
#endif

}  // namespace vitrine::cpu
