// Measures the read bandwidth of memory by summing a large buffer.
#include "engine/device/cpu/bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "engine/base/error.h"

namespace vitrine::cpu {
// Eight sums, so that additions never wait for each other.
uint64_t read_words(const uint64_t* p, int64_t n) {
    uint64_t s[8] = {};
    for (int64_t i = 0; i + 8 <= n; i += 8) {
        for (int l = 0; l < 8; ++l) s[l] += p[i + l];
    }
    return s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
}

namespace {

constexpr int64_t kPiece = int64_t{1} << 17;  // words: 1 MiB

// n words of 1, written by the threads that will read them.
std::unique_ptr<uint64_t[]> ones(Pool& pool, int64_t n) {
    std::unique_ptr<uint64_t[]> buffer(new (std::nothrow) uint64_t[static_cast<size_t>(n)]);
    if (!buffer)
        throw Error(ErrorKind::out_of_memory, "no " + std::to_string(n >> 17) + " MiB to measure bandwidth with");
    pool.parallel_for(n, kPiece, [&](int64_t b, int64_t e) { std::fill(buffer.get() + b, buffer.get() + e, 1); });
    return buffer;
}

}  // namespace

ReadMeter::ReadMeter(Pool& pool, uint64_t buffer_bytes)
    : pool_(pool), n_(static_cast<int64_t>(buffer_bytes / 8) / (2 * kPiece) * 2 * kPiece), buffer_(ones(pool, n_)) {}

double ReadMeter::slice() {
    const int64_t n = n_ / 2;
    const uint64_t* half = buffer_.get() + n_slices_++ % 2 * n;
    std::atomic<uint64_t> sum{0};
    const auto start = std::chrono::steady_clock::now();
    pool_.parallel_for(n, kPiece, [&](int64_t b, int64_t e) { sum += read_words(half + b, e - b); });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    VITRINE_ASSERT(sum == static_cast<uint64_t>(n));  // every word was read
    bytes_read_ += static_cast<uint64_t>(n) * 8;
    return static_cast<double>(n) * 8 / seconds * 1e-9;
}

Bandwidth measure_read_bandwidth(Pool& pool, uint64_t total_bytes, uint64_t buffer_bytes) {
    const int64_t n = static_cast<int64_t>(buffer_bytes / 8) / kPiece * kPiece;
    VITRINE_ASSERT(n > 0);
    const std::unique_ptr<uint64_t[]> buffer = ones(pool, n);

    std::vector<double> rates;
    std::atomic<uint64_t> sum{0};
    Bandwidth result;
    while (result.bytes_read < total_bytes || rates.size() < 5) {
        const auto start = std::chrono::steady_clock::now();
        pool.parallel_for(n, kPiece, [&](int64_t b, int64_t e) { sum += read_words(buffer.get() + b, e - b); });
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        rates.push_back(static_cast<double>(n) * 8 / seconds * 1e-9);
        result.bytes_read += static_cast<uint64_t>(n) * 8;
    }
    VITRINE_ASSERT(sum == static_cast<uint64_t>(n) * rates.size());  // every word was read
    std::sort(rates.begin(), rates.end());
    result.best_gb_per_s = rates.back();
    result.median_gb_per_s = rates[rates.size() / 2];
    result.n_threads = pool.n_threads();
    return result;
}

}  // namespace vitrine::cpu
