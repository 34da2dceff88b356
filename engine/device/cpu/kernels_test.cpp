// Every table of kernels against sums in double precision, for every weight format and sizes that fit no vector.
#include "engine/device/cpu/kernels.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "engine/base/rng.h"
#include "engine/device/cpu/formats.h"
#include "engine/device/cpu/kernel_tables.h"
#include "engine/device/cpu/outer.h"
#include "engine/device/pool.h"

namespace vitrine::cpu {
namespace {

struct Format {
    const char* name;
    DType dtype, scale;
    int block_rows, block_cols;
};
constexpr Format kFormats[] = {
    {"f32", DType::f32, DType::f32, 0, 0},
    {"f64", DType::f64, DType::f32, 0, 0},
    {"f16", DType::f16, DType::f32, 0, 0},
    {"bf16", DType::bf16, DType::f32, 0, 0},
    {"fp8 e8m0", DType::f8_e4m3, DType::f8_e8m0, 128, 128},
    {"fp8 f32", DType::f8_e4m3, DType::f32, 128, 128},
    {"fp8 odd blocks", DType::f8_e4m3, DType::f32, 16, 48},
    {"fp4", DType::fp4_e2m1, DType::f8_e8m0, 1, 32},
};

std::vector<float> normals(int64_t n, uint64_t seed) {
    std::vector<float> v(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) v[static_cast<size_t>(i)] = CounterRng(seed, 7).normal(static_cast<uint64_t>(i));
    return v;
}

// A random matrix in a format; the buffers end where the matrix ends, so that the address sanitizer sees reads beyond
// it.
struct Matrix {
    std::vector<uint8_t> data, scale;
    PackedMatrix w;
    std::vector<float> wide;  // [out, in]

    Matrix(const Format& f, int64_t out, int64_t in, uint64_t seed) {
        const CounterRng rng(seed, 3);
        const std::vector<float> v = normals(out * in, seed);
        const int64_t row =
            f.dtype == DType::fp4_e2m1 ? (in + 1) / 2 : in * static_cast<int64_t>(dtype_bits(f.dtype) / 8);
        data.resize(static_cast<size_t>(out * row));
        for (int64_t i = 0; i < out * in; ++i) {
            const float x = v[static_cast<size_t>(i)];
            uint8_t* to = data.data();
            const uint16_t half = f.dtype == DType::f16 ? f32_to_f16(x) : f32_to_bf16(x);
            const double wide_x = x;
            switch (f.dtype) {
                case DType::f32:
                    std::memcpy(to + i * 4, &x, 4);
                    break;
                case DType::f64:
                    std::memcpy(to + i * 8, &wide_x, 8);
                    break;
                case DType::f16:
                case DType::bf16:
                    std::memcpy(to + i * 2, &half, 2);
                    break;
                case DType::f8_e4m3:
                    to[i] = rng.bits(static_cast<uint64_t>(i)) % 16 ? fp8_encode(x * 60) : static_cast<uint8_t>(i % 8);
                    break;
                default:
                    to[i / in * row + i % in / 2] |= static_cast<uint8_t>(fp4_encode(x * 2) << (i % in % 2 * 4));
            }
        }
        if (f.block_cols) {
            const int64_t n = (out + f.block_rows - 1) / f.block_rows * ((in + f.block_cols - 1) / f.block_cols);
            scale.resize(static_cast<size_t>(n) * (f.scale == DType::f32 ? 4 : 1));
            for (int64_t i = 0; i < n; ++i) {
                const float s = 0.01f + rng.uniform(static_cast<uint64_t>(i));
                if (f.scale == DType::f32)
                    std::memcpy(scale.data() + 4 * i, &s, 4);
                else
                    scale[static_cast<size_t>(i)] = static_cast<uint8_t>(120 + rng.bits(static_cast<uint64_t>(i)) % 12);
            }
        }
        w = {data.data(), scale.empty() ? nullptr : scale.data(), f.dtype, f.scale, out, in, f.block_rows,
             f.block_cols};
        wide.resize(static_cast<size_t>(out * in));
        for (int64_t o = 0; o < out; ++o) widen_row(w, o, wide.data() + o * in);
    }
};

// Largest error of y against double sums, in units of sum |w x|.
double worst_error(const Matrix& a, const std::vector<float>& x, int64_t ldx, const std::vector<float>& y, int64_t ldy,
                   int64_t m) {
    double worst = 0;
    for (int64_t t = 0; t < m; ++t) {
        for (int64_t o = 0; o < a.w.out; ++o) {
            double sum = 0, size = 0;
            for (int64_t i = 0; i < a.w.in; ++i) {
                const double p = static_cast<double>(a.wide[static_cast<size_t>(o * a.w.in + i)]) *
                                 x[static_cast<size_t>(t * ldx + i)];
                sum += p, size += std::fabs(p);
            }
            const double error = std::fabs(y[static_cast<size_t>(t * ldy + o)] - sum) / (size + 1e-30);
            worst = error <= worst ? worst : error;  // a NaN stays
        }
    }
    return worst;
}

class EveryTable : public ::testing::TestWithParam<const Kernels*> {
  public:
    const Kernels& k() const { return *GetParam(); }
};

// Measured over all cases: 1.0e-7 with FP32 products, 1.2e-7 with BF16 pairs.
TEST_P(EveryTable, Gemm) {
    const std::vector<std::pair<int64_t, int64_t>> sizes{{1, 1},    {17, 31},   {31, 17}, {5, 257},
                                                         {257, 96}, {130, 130}, {9, 2500}};
    double worst[2] = {};
    for (const Format& f : kFormats) {
        for (const auto& [out, in] : sizes) {
            const Matrix a(f, out, in, static_cast<uint64_t>(out * 1000 + in));
            for (int64_t m : {1, 2, 3, 4, 7, 16, 33}) {
                if (out * in * m > 700000) continue;
                const int64_t ldx = in + 3, ldy = out + 5;
                std::vector<float> x = normals(m * ldx, 5), y(static_cast<size_t>(m * ldy), -77.0f);
                for (int bf16 : {0, 1}) {
                    if (bf16)
                        for (float& v : x) v = round_bf16(v);
                    (bf16 ? k().gemm_bf16 : k().gemm)(a.w, x.data(), ldx, m, y.data(), ldy, 0, out);
                    const double error = worst_error(a, x, ldx, y, ldy, m);
                    worst[bf16] = error <= worst[bf16] ? worst[bf16] : error;
                    ASSERT_LE(error, 1e-6) << f.name << " " << out << "x" << in << " m " << m << " bf16 " << bf16;
                    for (int64_t t = 0; t < m; ++t) {  // nothing written beside the outputs
                        for (int64_t o = out; o < ldy; ++o) ASSERT_EQ(y[static_cast<size_t>(t * ldy + o)], -77.0f);
                    }
                }
            }
        }
    }
    RecordProperty("worst_f32", std::to_string(worst[0]));
    std::printf("%s: worst relative error %.2g (FP32), %.2g (BF16)\n", k().name, worst[0], worst[1]);
}

// The same bits wherever the outputs are cut, on however many threads, and (but for tiles) whatever other rows of x
// there are.
TEST_P(EveryTable, GemmBitsDependOnShapesOnly) {
    for (const Format& f : kFormats) {
        const int64_t out = 145, in = 1100, m = 21;
        const Matrix a(f, out, in, 12);
        std::vector<float> x = normals(m * in, 6);
        for (float& v : x) v = round_bf16(v);
        for (auto gemm : {k().gemm, k().gemm_bf16}) {
            std::vector<float> whole(static_cast<size_t>(m * out)), y(whole.size());
            gemm(a.w, x.data(), in, m, whole.data(), out, 0, out);
            for (int64_t cut : {1, 64, 127, 131}) {
                gemm(a.w, x.data(), in, m, y.data(), out, 0, cut);
                gemm(a.w, x.data(), in, m, y.data(), out, cut, out);
                ASSERT_EQ(y, whole) << f.name << " cut at " << cut;
            }
            for (int threads : {1, 2, 3}) {
                Pool pool(threads);
                std::vector<float> z(whole.size());
                pool.parallel_for(out, 10,
                                  [&](int64_t b, int64_t e) { gemm(a.w, x.data(), in, m, z.data(), out, b, e); });
                ASSERT_EQ(z, whole) << f.name << " threads " << threads;
            }
            for (int64_t rows : {1, 2, 3, 4, 5}) {
                if (std::string(k().name) == "amx_bf16" && gemm == k().gemm_bf16)
                    continue;  // tiles sum in another order
                gemm(a.w, x.data(), in, rows, y.data(), out, 0, out);
                for (int64_t i = 0; i < rows * out; ++i)
                    ASSERT_EQ(y[static_cast<size_t>(i)], whole[static_cast<size_t>(i)]) << f.name << " rows " << rows;
            }
        }
    }
}

// A NaN in the weights comes out as NaN: codes 0x7f of E4M3, scale 255.
TEST_P(EveryTable, NanWeightsAreSeen) {
    for (const Format& f : kFormats) {
        Matrix a(f, 9, 300, 3);
        if (f.dtype == DType::f8_e4m3) {
            a.data[300 * 7 + 200] = 0xff;
        } else if (f.dtype == DType::fp4_e2m1) {
            a.scale[7 * 10 + 4] = 255;
        } else {
            continue;
        }
        const std::vector<float> x(300 * 6, 1.0f);
        for (int64_t m : {1, 6}) {
            for (auto gemm : {k().gemm, k().gemm_bf16}) {
                std::vector<float> y(static_cast<size_t>(m * 9));
                gemm(a.w, x.data(), 300, m, y.data(), 9, 0, 9);
                EXPECT_TRUE(std::isnan(y[7])) << f.name << " m " << m;
                EXPECT_FALSE(std::isnan(y[6])) << f.name << " m " << m;
            }
        }
    }
}

// Attention in double precision from the rows as unpacked: out, and probabilities with the sink's last.
void attend_double(const std::vector<std::vector<float>>& rows, const float* q, int64_t c, double scale,
                   const float* sink, std::vector<double>& out, std::vector<double>& probs) {
    std::vector<double> s;
    double top = -1e300;
    for (const auto& row : rows) {
        double dot = 0;
        for (int64_t i = 0; i < c; ++i) dot += static_cast<double>(q[i]) * row[static_cast<size_t>(i)];
        s.push_back(scale * dot);
        top = std::max(top, s.back());
    }
    if (sink) s.push_back(*sink);
    double z = 0;
    for (double& v : s) z += v = std::exp(v - top);
    out.assign(static_cast<size_t>(c), 0.0);
    for (size_t j = 0; j < rows.size(); ++j) {
        for (int64_t i = 0; i < c; ++i) out[static_cast<size_t>(i)] += s[j] / z * rows[j][static_cast<size_t>(i)];
    }
    for (double& v : s) v /= z;
    probs = s;
}

// Measured: outputs within 9e-7 of values of size 1; probabilities within 1.4e-6 of themselves (scores reach 20 in
// size).
TEST_P(EveryTable, Attend) {
    double worst_out = 0, worst_p = 0, worst_rounded = 0;
    for (const auto& [c, rope] : std::vector<std::pair<int, int>>{{512, 64}, {32, 8}, {17, 1}, {100, 31}}) {
        for (int64_t n : {1, 3, 17, 70}) {
            for (bool packed : {false, true}) {
                const int64_t n_heads = 7;
                const EntryFormat format{packed, c, rope};
                std::vector<float> q = normals(n_heads * c, 21);
                const std::vector<float> sinks = normals(n_heads, 22);
                if (n > 3)
                    for (float& v : q) v = round_bf16(v);  // else: a query that BF16 pairs cannot take
                std::vector<std::vector<float>> rows;
                std::vector<std::vector<uint8_t>> bytes;
                std::vector<const void*> at;
                for (int64_t j = 0; j < n; ++j) {
                    rows.push_back(normals(c, 100 + static_cast<uint64_t>(j)));
                    bytes.emplace_back(static_cast<size_t>(format.row_bytes()));
                    if (packed)
                        pack_entry(format, rows.back().data(), bytes.back().data()),
                            unpack_entry(format, bytes.back().data(), rows.back().data());
                    else
                        std::memcpy(bytes.back().data(), rows.back().data(), bytes.back().size());
                }
                for (const auto& b : bytes) at.push_back(b.data());
                const float scale = 1.5f / std::sqrt(static_cast<float>(c));
                std::vector<float> out(static_cast<size_t>(n_heads * c)), rounded = out, cut = out;
                std::vector<float> probs(static_cast<size_t>(n_heads * n)), probs_rounded = probs,
                                                                            sink_probs(static_cast<size_t>(n_heads));
                std::vector<float> scratch(static_cast<size_t>(k().attend_scratch_floats(n, c, n_heads)));
                k().attend(format, at.data(), n, q.data(), 0, n_heads, scale, sinks.data(), false, out.data(),
                           probs.data(), sink_probs.data(), scratch.data());
                k().attend(format, at.data(), n, q.data(), 0, n_heads, scale, sinks.data(), true, rounded.data(),
                           probs_rounded.data(), nullptr, scratch.data());
                for (int64_t h = 0; h < n_heads; ++h) {
                    std::vector<double> want, want_p;
                    attend_double(rows, q.data() + h * c, c, scale, &sinks[static_cast<size_t>(h)], want, want_p);
                    for (int64_t i = 0; i < c; ++i) {
                        worst_out = std::max(
                            worst_out, std::fabs(out[static_cast<size_t>(h * c + i)] - want[static_cast<size_t>(i)]));
                        worst_rounded = std::max(worst_rounded, std::fabs(rounded[static_cast<size_t>(h * c + i)] -
                                                                          want[static_cast<size_t>(i)]));
                    }
                    for (int64_t j = 0; j < n; ++j) {
                        const double p = want_p[static_cast<size_t>(j)];
                        worst_p = std::max(worst_p, std::fabs(probs[static_cast<size_t>(h * n + j)] - p) / p);
                        worst_p = std::max(worst_p, std::fabs(probs_rounded[static_cast<size_t>(h * n + j)] - p) / p);
                    }
                    worst_p = std::max(worst_p,
                                       std::fabs(sink_probs[static_cast<size_t>(h)] - want_p.back()) / want_p.back());
                }
                // Heads cut anywhere give the same bits.
                for (int64_t h : {1, 4}) {
                    for (bool p_bf16 : {false, true}) {
                        for (const auto& [a, b] : {std::pair<int64_t, int64_t>{0, h}, {h, n_heads}})
                            k().attend(format, at.data(), n, q.data(), a, b, scale, sinks.data(), p_bf16, cut.data(),
                                       nullptr, nullptr, scratch.data());
                        ASSERT_EQ(cut, p_bf16 ? rounded : out);
                    }
                }
            }
        }
    }
    std::printf("%s: attend: outputs %.2g, probabilities %.2g (relative), with BF16 p %.2g\n", k().name, worst_out,
                worst_p, worst_rounded);
    EXPECT_LE(worst_out, 5e-6);
    EXPECT_LE(worst_p, 1e-5);
    EXPECT_GT(worst_rounded, 1e-4);  // p is rounded indeed
    EXPECT_LE(worst_rounded, 1e-2);
}

// With one key at score 0 and one at -x the second probability is e^-x / (1 + e^-x): the exponential over its whole
// range.
TEST_P(EveryTable, Exponential) {
    double worst = 0;
    std::vector<float> scratch(4096);
    const float q = 1, zero = 0;
    for (int i = 0; i < 8600; ++i) {
        const float x = -0.01f * static_cast<float>(i) - 0.0003f;
        const void* rows[2] = {&zero, &x};
        float out, probs[2];
        k().attend({false, 1, 0}, rows, 2, &q, 0, 1, 1.0f, nullptr, false, &out, probs, nullptr, scratch.data());
        const double e = std::exp(static_cast<double>(x)), want = e / (1 + e);
        worst = std::max(worst, std::fabs(probs[1] - want) / want);
    }
    std::printf("%s: exponential: %.2g relative\n", k().name, worst);
    EXPECT_LE(worst, 1e-6);
    // Far away: no weight, no NaN; a sink far above all keys takes everything.
    const float far = -1000, sink = 500;
    const void* rows[2] = {&zero, &far};
    float out, probs[2], sink_prob;
    k().attend({false, 1, 0}, rows, 2, &q, 0, 1, 1.0f, &sink, false, &out, probs, &sink_prob, scratch.data());
    EXPECT_EQ(out, 0.0f);
    EXPECT_EQ(probs[1], 0.0f);
    EXPECT_EQ(sink_prob, 1.0f);
}

// Packed keys with FP4 queries (what the reference does) must agree to the last bits; so must floats but for their
// sums' order.
TEST_P(EveryTable, IndexScores) {
    for (int d : {128, 16, 48, 33}) {
        for (int64_t n_heads : {1, 5, 16}) {
            for (int64_t n : {1, 15, 16, 50}) {
                for (bool packed : {false, true}) {
                    const IndexKeyFormat format{packed, d};
                    std::vector<float> q = normals(n_heads * d, 31), w = normals(n_heads, 32),
                                       wide(static_cast<size_t>(n * d));
                    if (packed)
                        for (int64_t h = 0; h < n_heads; ++h) fp4_simulate(q.data() + h * d, d, 32);
                    std::vector<uint8_t> keys(static_cast<size_t>(n * format.row_bytes()));
                    for (int64_t j = 0; j < n; ++j) {
                        std::vector<float> key = normals(d, 200 + static_cast<uint64_t>(j));
                        uint8_t* to = keys.data() + j * format.row_bytes();
                        if (packed)
                            pack_index_key(format, key.data(), to), unpack_index_key(format, to, key.data());
                        else
                            std::memcpy(to, key.data(), static_cast<size_t>(d) * 4);
                        std::copy(key.begin(), key.end(), wide.begin() + j * d);
                    }
                    for (bool rounded : {false, true}) {
                        std::vector<float> got(static_cast<size_t>(n)), halves = got;
                        k().index_scores(format, keys.data(), n, q.data(), w.data(), n_heads, rounded, got.data());
                        for (int64_t j = 0; j < n; ++j) {
                            double sum = 0, size = 0;
                            for (int64_t h = 0; h < n_heads; ++h) {
                                double dot = 0;
                                for (int i = 0; i < d; ++i)
                                    dot += static_cast<double>(q[static_cast<size_t>(h * d + i)]) *
                                           wide[static_cast<size_t>(j * d + i)];
                                if (rounded) dot = round_bf16(static_cast<float>(dot));
                                double term = w[static_cast<size_t>(h)] * std::max(dot, 0.0);
                                if (rounded) term = round_bf16(static_cast<float>(term));
                                sum += term,
                                    size += std::fabs(term) + std::fabs(w[static_cast<size_t>(h)]) * std::sqrt(d);
                            }
                            // One BF16 step of a term or of the sum may fall the other way when sums differ in the last
                            // bit.
                            ASSERT_NEAR(got[static_cast<size_t>(j)], sum, size * (rounded ? 8e-3 : 1e-6))
                                << d << " " << n_heads << " " << j;
                        }
                        const int64_t cut = n / 2;
                        k().index_scores(format, keys.data(), cut, q.data(), w.data(), n_heads, rounded, halves.data());
                        k().index_scores(format, keys.data() + cut * format.row_bytes(), n - cut, q.data(), w.data(),
                                         n_heads, rounded, halves.data() + cut);
                        ASSERT_EQ(halves, got);
                    }
                }
            }
        }
    }
}

TEST_P(EveryTable, DotAndAxpy) {
    for (int64_t n : {0, 1, 17, 31, 257, 1000}) {
        const std::vector<float> a = normals(n, 1), b = normals(n, 2);
        std::vector<float> y = b;
        k().axpy(0.5f, a.data(), y.data(), n);
        double sum = 0;
        for (int64_t i = 0; i < n; ++i) {
            const size_t s = static_cast<size_t>(i);
            sum += static_cast<double>(a[s]) * b[s];
            ASSERT_NEAR(y[s], b[s] + 0.5 * a[s], 3e-7);
        }
        EXPECT_NEAR(k().dot(a.data(), b.data(), n), sum, 2e-5);
    }
}

INSTANTIATE_TEST_SUITE_P(Cpu, EveryTable, ::testing::ValuesIn(runnable_kernels()),
                         [](const auto& p) { return std::string(p.param->name); });

// A by rows and by columns, at sizes that fit no tile, against sums in double precision; cut anywhere, the same bits.
TEST(Outer, every_kernel_agrees_with_sums_and_is_cut_anywhere) {
    for (const auto& [m, n, k] :
         {std::array<int64_t, 3>{1, 1, 1}, {8, 32, 64}, {13, 7, 300}, {41, 67, 513}, {23, 130, 3}, {5, 48, 0}})
        for (const bool is_turned : {false, true}) {
            const int64_t a_row = is_turned ? 1 : k + 2, a_k = is_turned ? m + 3 : 1, ldb = n + 5, ldc = n + 1;
            const std::vector<float> a = normals((m + 3) * (k + 2), 1), b = normals((k + 1) * ldb, 2);
            for (size_t kernel = 0; kernel < runnable_outer_kernels().size(); ++kernel)
                for (const bool adds : {false, true}) {
                    const OuterKernel run = runnable_outer_kernels()[kernel];
                    std::vector<float> c(static_cast<size_t>(m * ldc), 0.5f), pieces = c;
                    const OuterProduct whole{a.data(), a_row, a_k, b.data(), ldb, m, n, k, c.data(), ldc, adds};
                    run(whole);
                    for (int64_t i = 0; i < m; ++i) {
                        for (int64_t j = 0; j < n; ++j) {
                            double sum = adds ? 0.5 : 0, size = 1;
                            for (int64_t l = 0; l < k; ++l) {
                                const double x = static_cast<double>(a[static_cast<size_t>(i * a_row + l * a_k)]) *
                                                 b[static_cast<size_t>(l * ldb + j)];
                                sum += x, size += std::abs(x);
                            }
                            ASSERT_NEAR(c[static_cast<size_t>(i * ldc + j)], sum, 3e-7 * size)
                                << kernel << " " << m << " " << n << " " << k;
                        }
                        EXPECT_EQ(c[static_cast<size_t>(i * ldc + n)], 0.5f) << "beyond the row";
                    }
                    const int64_t top = m / 3, left = n / 2;
                    for (const auto& [i, rows, j, cols] : {std::array<int64_t, 4>{0, top, 0, n},
                                                           {top, m - top, 0, left},
                                                           {top, m - top, left, n - left}}) {
                        OuterProduct p = whole;
                        p.a += i * a_row, p.b += j, p.m = rows, p.n = cols, p.c = pieces.data() + i * ldc + j;
                        run(p);
                    }
                    EXPECT_EQ(c, pieces) << kernel << " " << m << " " << n << " " << k;
                }
        }
}

}  // namespace
}  // namespace vitrine::cpu
