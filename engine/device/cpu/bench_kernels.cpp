// Micro benchmark of the CPU kernels: rates, and ratios to the bandwidth and peak measured in the same run.
//
//     ninja -C build/release bench_kernels && build/release/bin/bench_kernels [table] [threads]
//
// One thread by default, timed by its CPU time: waiting for a processor that other programs hold does not count; what
// they take through shared caches, memory and hyper-threads does. Therefore every kernel runs in turn with its
// yardstick (reading a buffer larger than the caches, or independent multiply-adds): the rate is that of the fastest
// run, the ratio is the median over the pairs. With more threads the wall clock is used, which means something on a
// quiet machine only.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include "engine/base/rng.h"
#include "engine/device/cpu/bandwidth.h"
#include "engine/device/cpu/formats.h"
#include "engine/device/cpu/kernel_tables.h"
#include "engine/device/cpu/peak.h"
#include "engine/device/pool.h"

namespace vitrine::cpu {
namespace {

struct Rate {
    double best = 0;   // of the kernel, work per nanosecond
    double limit = 0;  // of the yardstick
    double ratio = 0;  // median over pairs of runs
};

struct Bench {
    const Kernels& k;
    Pool pool;
    std::vector<uint64_t> memory = std::vector<uint64_t>(size_t{32} << 20, 1);  // 256 MiB

    double now() const {
        timespec t;
        clock_gettime(pool.n_threads() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
        return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
    }
    // `work` of f against `yard_work` of g, run in turn for about `seconds`.
    template <class F, class G>
    Rate compare(double work, F&& f, double yard_work, G&& g, double seconds = 0.3) {
        std::vector<double> ratios;
        Rate r;
        f(), g();
        const double start = now();
        while (now() - start < seconds * 1e9 || ratios.size() < 9) {
            const double a = now();
            f();
            const double b = now();
            g();
            const double c = now();
            r.best = std::max(r.best, work / (b - a)), r.limit = std::max(r.limit, yard_work / (c - b));
            ratios.push_back(work / (b - a) / (yard_work / (c - b)));
        }
        std::sort(ratios.begin(), ratios.end());
        r.ratio = ratios[ratios.size() / 2];
        return r;
    }
    // Against independent multiply-adds (FP32 or BF16 pairs) on all threads.
    template <class F>
    Rate against_peak(double flops, F&& f, bool bf16, double seconds = 0.2) {
        double (*const work)(int64_t) = bf16 && has_bf16_work() ? bf16_dot_work : fma_work;
        const auto all = [&] { pool.parallel_for(pool.n_threads(), 1, [&](int64_t, int64_t) { work(20000); }); };
        return compare(flops, f, work(0) * 20000 * pool.n_threads(), all, seconds);
    }
    // Against reading 64 MiB of a buffer, another part each time.
    template <class F>
    Rate against_memory(double bytes, F&& f, double seconds = 0.3) {
        constexpr int64_t kWords = int64_t{8} << 20;
        int64_t at = 0;
        const auto read = [&] {
            at = (at + kWords) % static_cast<int64_t>(memory.size());
            pool.parallel_for(kWords, kWords / 16,
                              [&](int64_t b, int64_t e) { sum += read_words(memory.data() + at + b, e - b); });
        };
        return compare(bytes, f, 8.0 * kWords, read, seconds);
    }
    std::atomic<uint64_t> sum{0};
};

struct Weights {
    std::vector<uint8_t> data, scale;
    PackedMatrix w;
    Weights(DType t, int64_t out, int64_t in) {
        const uint64_t bits = dtype_bits(t);
        data.resize(static_cast<size_t>(out) * static_cast<size_t>(in) * bits / 8);
        for (size_t i = 0; i < data.size(); ++i)
            data[i] = static_cast<uint8_t>(mix64(i) & (bits == 16 && i % 2 ? 0x3f : 0x77));
        const bool is_fp4 = t == DType::fp4_e2m1, is_fp8 = t == DType::f8_e4m3;
        const int rows = is_fp4 ? 1 : 128, columns = is_fp4 ? 32 : 128;
        if (is_fp4 || is_fp8)
            scale.assign(static_cast<size_t>((out + rows - 1) / rows * ((in + columns - 1) / columns)), 120);
        w = {data.data(), scale.empty() ? nullptr : scale.data(), t, DType::f8_e8m0, out, in, rows, columns};
    }
};

// One row of x against matrices that fit no cache: what decoding does.
void bench_gemv(Bench& b) {
    std::printf("\nGEMV, 64 MiB at a time of 256 MiB: GB/s of weights, ratio to reading\n");
    for (DType t : {DType::bf16, DType::f8_e4m3, DType::fp4_e2m1, DType::f32}) {
        for (int64_t in : {1024, 4096}) {
            const int64_t out = (int64_t{256} << 20) / (in * static_cast<int64_t>(dtype_bits(t)) / 8);
            const Weights a(t, out, in);
            const std::vector<float> x(static_cast<size_t>(in), 0.5f);
            std::vector<float> y(static_cast<size_t>(out));
            for (bool bf16 : {false, true}) {
                const auto gemm = bf16 ? b.k.gemm_bf16 : b.k.gemm;
                int64_t at = 0;
                const auto f = [&] {
                    at = (at + out / 4) % out;
                    b.pool.parallel_for(out / 4, 512, [&](int64_t o0, int64_t o1) {
                        gemm(a.w, x.data(), in, 1, y.data(), out, at + o0, at + o1);
                    });
                };
                const Rate r = b.against_memory(static_cast<double>(a.w.bytes()) / 4, f);
                std::printf("  %-8s %-9s K %-5ld %6.1f of %5.1f GB/s  %3.0f %%\n", dtype_name(t),
                            bf16 ? "gemm_bf16" : "gemm", static_cast<long>(in), r.best, r.limit, 100 * r.ratio);
            }
        }
    }
}

void bench_gemm(Bench& b) {
    std::printf("\nGEMM: GFLOP/s, ratio to the peak of the instruction used\n");
    for (DType t : {DType::f32, DType::bf16, DType::f8_e4m3, DType::fp4_e2m1}) {
        for (const auto& [out, in] :
             std::vector<std::pair<int64_t, int64_t>>{{1024, 1024}, {1024, 256}, {2048, 4096}}) {
            const Weights a(t, out, in);
            for (int64_t m : {4, 16, 48, 512}) {
                const std::vector<float> x(static_cast<size_t>(m * in), 0.5f);
                std::vector<float> y(static_cast<size_t>(m * out));
                for (bool bf16 : {false, true}) {
                    if (bf16 && t == DType::f32) continue;
                    const auto gemm = bf16 ? b.k.gemm_bf16 : b.k.gemm;
                    const auto f = [&] {
                        b.pool.parallel_for(out, 256, [&](int64_t o0, int64_t o1) {
                            gemm(a.w, x.data(), in, m, y.data(), out, o0, o1);
                        });
                    };
                    const Rate r = b.against_peak(2.0 * static_cast<double>(m * out * in), f, bf16, 0.1);
                    std::printf("  %-8s %-9s %4ldx%-4ld M %-3ld %6.1f of %5.1f  %3.0f %%\n", dtype_name(t),
                                bf16 ? "gemm_bf16" : "gemm", static_cast<long>(out), static_cast<long>(in),
                                static_cast<long>(m), r.best, r.limit, 100 * r.ratio);
                }
            }
        }
    }
}

void bench_attend(Bench& b) {
    std::printf("\nAttention, 16 heads of 512: microseconds a token, GFLOP/s, ratio to the FP32 peak\n");
    const int64_t c = 512, n_heads = 16;
    for (bool packed : {false, true}) {
        for (int64_t n : {128, 640, 2000}) {
            const EntryFormat format{packed, 512, 64};
            std::vector<uint8_t> rows(static_cast<size_t>(n * format.row_bytes()), 0x33);
            std::vector<const void*> at;
            for (int64_t j = 0; j < n; ++j) at.push_back(rows.data() + j * format.row_bytes());
            const std::vector<float> q(static_cast<size_t>(n_heads * c), 0x1p-7f),
                sinks(static_cast<size_t>(n_heads), 0.0f);
            std::vector<float> out(q.size());
            const int64_t per = b.k.attend_scratch_floats(n, c, n_heads / 2);
            std::vector<float> scratch(static_cast<size_t>(2 * per));
            const double flops = 4.0 * static_cast<double>(n * n_heads * c);
            const auto f = [&] {
                b.pool.parallel_for(n_heads, n_heads / 2, [&](int64_t h0, int64_t h1) {
                    b.k.attend(format, at.data(), n, q.data(), h0, h1, 0.04f, sinks.data(), packed, out.data(), nullptr,
                               nullptr, scratch.data() + (h0 ? per : 0));
                });
            };
            const Rate r = b.against_peak(flops, f, false);
            std::printf("  %-7s n %-5ld %8.1f us  %6.1f  %3.0f %%\n", packed ? "packed" : "floats",
                        static_cast<long>(n), flops / r.best * 1e-3, r.best, 100 * r.ratio);
        }
    }
}

void bench_index(Bench& b) {
    std::printf("\nIndex scores, 16 heads of 128, 16384 keys: microseconds a token\n");
    for (bool packed : {false, true}) {
        const IndexKeyFormat format{packed, 128};
        const int64_t n = 16384, n_heads = 16;
        std::vector<uint8_t> keys(static_cast<size_t>(n * format.row_bytes()));
        for (size_t i = 0; i < keys.size(); ++i)
            keys[i] = packed && i % 68 >= 64 ? 127 : static_cast<uint8_t>(mix64(i) & 0x3f);
        std::vector<float> q(static_cast<size_t>(n_heads * 128)), w(static_cast<size_t>(n_heads), 0.3f),
            scores(static_cast<size_t>(n));
        for (size_t i = 0; i < q.size(); ++i) q[i] = std::sin(static_cast<float>(i));
        if (packed) fp4_simulate(q.data(), static_cast<int64_t>(q.size()), 32);
        const auto f = [&] {
            b.pool.parallel_for(n, 2048, [&](int64_t k0, int64_t k1) {
                b.k.index_scores(format, keys.data() + k0 * format.row_bytes(), k1 - k0, q.data(), w.data(), n_heads,
                                 packed, scores.data() + k0);
            });
        };
        const double flops = 2.0 * 128 * static_cast<double>(n * n_heads);
        const Rate r = b.against_peak(flops, f, false);
        std::printf("  %-7s %8.1f us, %6.1f GFLOP/s  %3.0f %%\n", packed ? "packed" : "floats", flops / r.best * 1e-3,
                    r.best, 100 * r.ratio);
    }
}

int run(int argc, char** argv) {
    const Kernels* table = &kernels();
    for (const Kernels* k : runnable_kernels()) {
        if (argc > 1 && std::strcmp(k->name, argv[1]) == 0) table = k;
    }
    const std::string only = argc > 3 ? argv[3] : "";
    Bench b{*table, Pool(argc > 2 ? std::atoi(argv[2]) : 1)};
    const Bandwidth read = measure_read_bandwidth(b.pool);
    std::printf("%s, %d threads; read bandwidth by the wall clock %.1f GB/s (median %.1f)\n", table->name,
                b.pool.n_threads(), read.best_gb_per_s, read.median_gb_per_s);
    if (only.empty() || only == "gemv") bench_gemv(b);
    if (only.empty() || only == "gemm") bench_gemm(b);
    if (only.empty() || only == "attend") bench_attend(b);
    if (only.empty() || only == "index") bench_index(b);
    return 0;
}

}  // namespace
}  // namespace vitrine::cpu

int main(int argc, char** argv) {
    return vitrine::cpu::run(argc, argv);
}
