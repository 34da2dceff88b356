// Compression on the tape: gradients, and the entries against the inference path.
#include "engine/ops/compress/compress_tape.h"

#include "engine/ops/compress/compress.h"
#include "tests/support/gradcheck.h"

namespace vitrine {
namespace {

constexpr int kD = 7, kWidth = 6;  // entry size, model width
const std::vector<double> kFrequencies{1.0, 0.1};

Param param(Shape s, uint32_t seed) { return test::make_param(test::noise(static_cast<size_t>(s.count()), seed), s); }

struct Compressor {
    CompressorWeights w;
    size_t x;
    Compressor(test::GradCheck& check, const Offsets& rows, int ratio) : x(check.input({rows.back(), kWidth})) {
        const int64_t width = (ratio == 4 ? 2 : 1) * kD;
        check.param(w.wkv, {width, kWidth});
        check.param(w.wgate, {width, kWidth}, 2);
        check.param(w.ape, {ratio, width});
        check.param(w.norm, {kD}, 0.2, 1);
    }
};

TEST(CompressTape, gradients_match_differences) {
    for (const int ratio : {4, 3, 8})
        for (const bool is_normed : {true, false}) {
            const Offsets rows{0, 17, 19, 50};
            test::GradCheck check;
            const Compressor p(check, rows, ratio);
            check.run([&](Ctx& ctx) {
                const TapeEntries e = compress_on_tape(ctx, check.at(p.x), rows, p.w, ratio, kD, kFrequencies, 1e-6,
                                                       {.is_normed = is_normed});
                EXPECT_EQ(e.offsets, (Offsets{0, 17 / ratio, 17 / ratio, 17 / ratio + 31 / ratio}));
                return std::vector{e.entries_SD};
            });
        }
}

// Many short segments, some of them without an entry, and entries wider than a warp.
TEST(CompressTape, gradients_of_many_segments_match_differences) {
    for (const auto& [ratio, d] : {std::pair{4, 64}, {4, 130}, {32, 40}}) {
        Offsets rows{0};
        for (const int n : {1, 3, 4, 5, 8, 66, 31, 32, 2, 11, 64}) rows.push_back(rows.back() + n);
        test::GradCheck check;
        CompressorWeights w;
        const int64_t width = (ratio == 4 ? 2 : 1) * d;
        const size_t x = check.input({rows.back(), 3});
        check.param(w.wkv, {width, 3});
        check.param(w.wgate, {width, 3}, 2);
        check.param(w.ape, {ratio, width});
        check.param(w.norm, {d}, 0.2, 1);
        check.run([&](Ctx& ctx) {
            const Tensor k = check.at(x);
            return std::vector{compress_on_tape(ctx, k, rows, w, ratio, d, kFrequencies, 1e-6).entries_SD};
        }, 1e-6, 5);
    }
}

TEST(CompressTape, entries_equal_those_of_the_inference_path) {
    for (const int ratio : {4, 5}) {
        const Offsets rows{0, 23, 30};
        test::OpFixture f;
        const int64_t width = (ratio == 4 ? 2 : 1) * kD;
        const CompressorWeights w{param({width, kWidth}, 1), param({width, kWidth}, 2), param({ratio, width}, 3), param({kD}, 4)};
        const Tensor x = f.tensor({30, kWidth}, test::noise(30 * kWidth, 5));
        Tape tape(false);
        f.ctx.tape = &tape;
        const TapeEntries e = compress_on_tape(f.ctx, x, rows, w, ratio, kD, kFrequencies, 1e-6, {.wants_weights = true});
        f.ctx.tape = nullptr;
        for (size_t s = 0; s < 2; ++s) {
            RowRing ring(2 * width * 4, 64);
            const int64_t n = rows[s + 1] - rows[s];
            const Tensor part{x.row<float>(rows[s]), DType::f32, {n, kWidth}};
            const NewEntries expected = compress(f.ctx, part, 0, w, ratio, kD, kFrequencies, 1e-6, ring);
            ASSERT_EQ(expected.n, e.offsets[s + 1] - e.offsets[s]);
            for (int64_t i = 0; i < expected.n; ++i) {
                for (int64_t j = 0; j < kD; ++j)
                    EXPECT_NEAR(e.entries_SD.row<float>(e.offsets[s] + i)[j], expected.entries_ND.row<float>(i)[j], 3e-6);
                for (int64_t j = 0; j < expected.weights_NS.dim(1); ++j)
                    EXPECT_NEAR(e.weights_SW.row<float>(e.offsets[s] + i)[j], expected.weights_NS.row<float>(i)[j], 1e-6);
            }
        }
    }
}

// Without scores the weights are a softmax of the position biases, channel by channel.
TEST(CompressTape, entropy_of_the_pooling_weights) {
    for (const int ratio : {4, 3}) {
        const bool overlaps = ratio == 4;
        const int64_t width = (overlaps ? 2 : 1) * kD;
        test::OpFixture f;
        Tape tape(false);
        TrainingStep step;
        f.ctx.tape = &tape, f.ctx.training = &step, f.ctx.layer = 2;
        const CompressorWeights w{param({width, kWidth}, 1),
                                  test::make_param(std::vector<float>(static_cast<size_t>(width * kWidth)), {width, kWidth}),
                                  param({ratio, width}, 3), param({kD}, 4)};
        const Offsets rows{0, 13, 20};
        const Tensor x = f.tensor({20, kWidth}, test::noise(20 * kWidth, 5));
        compress_on_tape(f.ctx, x, rows, w, ratio, kD, kFrequencies, 1e-6, {.wants_entropy = true});
        double sum = 0;
        int n = 0;
        for (const int64_t length : {13, 7})
            for (int64_t i = 0; i < length / ratio; ++i)
                for (int ch = 0; ch < kD; ++ch, ++n) {
                    std::vector<double> bias;
                    for (int r = 0; r < ratio; ++r) {
                        if (overlaps && i > 0) bias.push_back(static_cast<const float*>(w.ape.view.data)[r * width + ch]);
                        bias.push_back(static_cast<const float*>(w.ape.view.data)[r * width + (overlaps ? kD : 0) + ch]);
                    }
                    double z = 0, entropy = 0;
                    for (double b : bias) z += std::exp(b);
                    for (double b : bias) entropy -= std::exp(b) / z * (b - std::log(z));
                    sum += entropy / std::log(static_cast<double>(bias.size()));
                }
        ASSERT_EQ(step.compressors.size(), 1u);
        EXPECT_EQ(step.compressors[0].layer, 2);
        EXPECT_NEAR(step.compressors[0].entropy, sum / n, 1e-6) << ratio;
        EXPECT_LT(sum / n, 0.99);
    }
}

// Variances over the slots of every entry and channel, two passes in FP64.
TEST(CompressTape, share_of_the_position_in_the_scores) {
    for (const int ratio : {4, 3}) {
        const bool overlaps = ratio == 4;
        const int64_t width = (overlaps ? 2 : 1) * kD;
        test::OpFixture f;
        Tape tape(false);
        TrainingStep step;
        f.ctx.tape = &tape, f.ctx.training = &step;
        const CompressorWeights w{param({width, kWidth}, 1), param({width, kWidth}, 2), param({ratio, width}, 3),
                                  param({kD}, 4)};
        const Tensor x = f.tensor({20, kWidth}, test::noise(20 * kWidth, 5));
        compress_on_tape(f.ctx, x, Offsets{0, 13, 20}, w, ratio, kD, kFrequencies, 1e-6, {.wants_entropy = true});
        const auto *gate = static_cast<const float*>(w.wgate.view.data),
                   *ape = static_cast<const float*>(w.ape.view.data);
        const auto variance = [](const std::vector<double>& v) {
            double mean = 0, sum = 0;
            for (const double a : v) mean += a / static_cast<double>(v.size());
            for (const double a : v) sum += (a - mean) * (a - mean);
            return sum / static_cast<double>(v.size());
        };
        double by_bias = 0, by_score = 0;
        for (const auto& [first, length] : {std::pair<int64_t, int64_t>{0, 13}, {13, 7}})
            for (int64_t i = 0; i < length / ratio; ++i)
                for (int64_t ch = 0; ch < kD; ++ch) {
                    std::vector<double> bias, score;
                    const auto see = [&](int64_t token, int64_t r, int64_t column) {
                        double s = 0;
                        for (int64_t j = 0; j < kWidth; ++j)
                            s += static_cast<double>(x.row<float>(token)[j]) * gate[column * kWidth + j];
                        score.push_back(s), bias.push_back(ape[r * width + column]);
                    };
                    for (int r = 0; r < ratio; ++r) {
                        if (overlaps && i > 0) see(first + (i - 1) * ratio + r, r, ch);
                        see(first + i * ratio + r, r, overlaps ? kD + ch : ch);
                    }
                    by_bias += variance(bias), by_score += variance(score);
                }
        EXPECT_NEAR(step.compressors.at(0).position, by_bias / (by_bias + by_score), 1e-6) << ratio;
    }
}

// Entries of equal weights are means of their own tokens: what is kept for a probe says so.
TEST(CompressTape, keeps_entries_and_their_tokens_for_a_probe) {
    constexpr int ratio = 3;
    test::OpFixture f;
    Tape tape(false);
    TrainingStep step;
    step.wants_reconstruction = true;
    f.ctx.tape = &tape, f.ctx.training = &step;
    const auto zeros = [](int64_t n) { return std::vector<float>(static_cast<size_t>(n)); };
    const CompressorWeights w{param({kD, kWidth}, 1), test::make_param(zeros(kD * kWidth), {kD, kWidth}),
                              test::make_param(zeros(ratio * kD), {ratio, kD}), param({kD}, 4)};
    const Tensor x = f.tensor({20, kWidth}, test::noise(20 * kWidth, 5));
    compress_on_tape(f.ctx, x, Offsets{0, 13, 20}, w, ratio, kD, kFrequencies, 1e-6, {.wants_entropy = true});
    ASSERT_EQ(step.compressors.size(), 1u);
    const CompressorStats& c = step.compressors[0];
    ASSERT_EQ(c.n_entries, 4 + 2);
    ASSERT_EQ(c.tokens.size(), static_cast<size_t>(6 * ratio * kD));
    for (size_t e = 0; e < 6; ++e)
        for (size_t ch = 0; ch < kD; ++ch) {
            double mean = 0;
            for (size_t r = 0; r < ratio; ++r) mean += c.tokens[(e * ratio + r) * kD + ch] / ratio;
            EXPECT_NEAR(c.entries[e * kD + ch], mean, 1e-6);
        }
}

TEST(CompressTape, nothing_flows_to_a_detached_input_or_from_a_tail) {
    const CompressorWeights w{param({2 * kD, kWidth}, 1), param({2 * kD, kWidth}, 2), param({4, 2 * kD}, 3), param({kD}, 4)};
    for (const bool is_detached : {true, false}) {
        test::OpFixture f;
        Tape tape;
        f.ctx.tape = &tape;
        const Tensor x = f.tensor({10, kWidth}, test::noise(10 * kWidth, 5));
        const Tensor e = compress_on_tape(f.ctx, x, {0, 10}, w, 4, kD, kFrequencies, 1e-6, {.is_input_detached = is_detached})
                             .entries_SD;
        std::fill_n(tape.grad(e).f32(), e.count(), 1.0f);
        tape.backward(f.ctx);
        ASSERT_EQ(tape.has_grad(x), !is_detached);
        for (int64_t t = 0; t < 10 && !is_detached; ++t) EXPECT_EQ(tape.grad(x).row<float>(t)[0] != 0, t < 8) << t;
    }
}

}  // namespace
}  // namespace vitrine
