// SHA-256 (FIPS 180-4), for tests that pin the bytes of a file.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace vitrine::test {

// The fractional parts of the cube roots of the first 64 primes, computed instead of listed.
inline std::array<uint32_t, 64> sha256_constants() {
    std::array<uint32_t, 64> k{};
    int n = 0;
    for (uint64_t p = 2; n < 64; ++p) {
        bool is_prime = true;
        for (uint64_t d = 2; d * d <= p; ++d) is_prime = is_prime && p % d != 0;
        if (!is_prime) continue;
        unsigned __int128 low = 0, high = static_cast<unsigned __int128>(8) << 32;  // cube root of p in units of 2^-32
        while (high - low > 1) {
            const unsigned __int128 mid = (low + high) / 2;
            // mid^3 <= p * 2^96, without overflowing 128 bits: mid < 2^36
            (mid * mid * mid <= static_cast<unsigned __int128>(p) << 96 ? low : high) = mid;
        }
        k[n++] = static_cast<uint32_t>(low);
    }
    return k;
}

inline std::string sha256_hex(std::string_view data) {
    static const auto k = sha256_constants();
    std::array<uint32_t, 8> h = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::string m(data);
    m += static_cast<char>(0x80);
    while (m.size() % 64 != 56) m += '\0';
    for (int i = 7; i >= 0; --i) m += static_cast<char>((uint64_t{data.size()} * 8) >> (8 * i));
    const auto turn = [](uint32_t x, int n) { return (x >> n) | (x << (32 - n)); };
    for (size_t at = 0; at < m.size(); at += 64) {
        std::array<uint32_t, 64> w{};
        for (size_t i = 0; i < 64; ++i) w[i / 4] = (w[i / 4] << 8) | static_cast<unsigned char>(m[at + i]);
        for (int i = 16; i < 64; ++i)
            w[i] = w[i - 16] + (turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ (w[i - 15] >> 3)) + w[i - 7] +
                   (turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ (w[i - 2] >> 10));
        auto v = h;
        for (int i = 0; i < 64; ++i) {
            const uint32_t t1 = v[7] + (turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25)) +
                                ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
            const uint32_t t2 =
                (turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            for (int j = 7; j > 0; --j) v[j] = v[j - 1];
            v[4] += t1;
            v[0] = t1 + t2;
        }
        for (int j = 0; j < 8; ++j) h[j] += v[j];
    }
    std::string hex;
    for (uint32_t x : h)
        for (int s = 28; s >= 0; s -= 4) hex += "0123456789abcdef"[(x >> s) & 15];
    return hex;
}

}  // namespace vitrine::test
