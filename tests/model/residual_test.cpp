// Residual variants: where they start, what their matrices are, and one model for inference and for the tape.
#include "engine/model/residual/residual.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/model/config.h"
#include "engine/model/init.h"
#include "engine/model/masters.h"
#include "engine/model/v4.h"
#include "engine/telemetry/derive_streams.h"
#include "tests/support/op_fixture.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {

ModelConfig config_of(ResidualKind kind) {
    ModelConfig c = preset_config("tiny");
    c.hidden_size = 40, c.n_heads = 2, c.head_dim = 24, c.rope_dim = 8, c.q_lora_rank = 24, c.o_lora_rank = 16;
    c.index_n_heads = 2, c.index_head_dim = 16, c.index_topk = 3, c.sliding_window = 9;
    c.n_experts = 4, c.n_experts_per_tok = 2, c.expert_width = 24, c.vocab_size = 272;
    c.layers = {{0, true}, {4, false}, {6, false}};
    c.variants.residual = kind;
    c.hc_mult = kind == ResidualKind::plain ? 1 : kind == ResidualKind::mhc_lite ? 3 : 4;
    return c;
}

TEST(Residual, EveryKindHasItsRowAndName) {
    ModelConfig c;
    for (ResidualKind kind : {ResidualKind::mhc, ResidualKind::mhc_lite, ResidualKind::hc, ResidualKind::plain}) {
        c.variants.residual = kind;
        EXPECT_EQ(residual_for(c).kind, kind);
    }
    EXPECT_EQ(residuals().size(), 4u);
    c.hc_mult = 4, c.variants.residual = ResidualKind::mhc_lite;
    EXPECT_EQ(residual_for(c).n_rows(c, false), 2 * 4 + 24);
    EXPECT_EQ(residual_for(c).n_rows(c, true), 4);
    c.hc_mult = 3;
    EXPECT_EQ(residual_for(c).n_rows(c, false), 2 * 3 + 6);
}

TEST(Residual, TooManyStreamsAreAnIssue) {
    ModelConfig c = config_of(ResidualKind::plain);
    EXPECT_TRUE(validate(c, "f").empty());
    c.hc_mult = 2;
    ASSERT_EQ(validate(c, "f").size(), 1u);
    EXPECT_EQ(validate(c, "f")[0].key, "hc_mult");
    EXPECT_EQ(validate(c, "f")[0].expected, "expected 1 with residual connections \"plain\"");
    c = config_of(ResidualKind::mhc_lite);
    c.hc_mult = 5;
    EXPECT_EQ(validate(c, "f")[0].expected, "expected at most 4 with residual connections \"mhc_lite\"");
}

// Streams that differ, one site at its start with alpha 0.01.
struct Started {
    test::OpFixture f;
    ModelConfig c;
    HyperSite site;
    Tensor x;
    Started(ResidualKind kind, double identity, const std::string& prefix) : c(config_of(kind)) {
        const Residual& r = residual_for(c);
        const int64_t rows = r.n_rows(c, false), n = c.hc_mult, d = c.hidden_size;
        std::vector<float> base(static_cast<size_t>(rows)), scale(3);
        EXPECT_TRUE(start_hyper_weight(c, prefix + "_base", 0.01, identity, base));
        EXPECT_TRUE(start_hyper_weight(c, prefix + "_scale", 0.01, identity, scale));
        EXPECT_FALSE(start_hyper_weight(c, prefix + "_fn", 0.01, identity, scale));
        EXPECT_FALSE(start_hyper_weight(c, "layers.1.attn_norm.weight", 0.01, identity, scale));
        EXPECT_EQ(scale, std::vector<float>(3, 0.01f));
        const HyperWeights w{test::make_param(test::noise(static_cast<size_t>(rows * n * d), 1), {rows, n * d}),
                             test::make_param(base, {rows}), test::make_param(scale, {3})};
        x = f.tensor({5, n, d}, test::noise(static_cast<size_t>(5 * n * d), 2));
        site = r.site(f.ctx, x, w, test::make_param(std::vector<float>(static_cast<size_t>(d), 1.0f), {d}), c);
    }
};

TEST(Residual, DoublyStochasticVariantsStartNearTheIdentity) {
    for (ResidualKind kind : {ResidualKind::mhc, ResidualKind::mhc_lite}) {
        const Started s(kind, 5, "layers.1.hc_ffn"), even(kind, 0, "layers.1.hc_ffn");
        const int n = s.c.hc_mult;
        for (int64_t t = 0; t < 5; ++t) {
            const MixingStats m = mixing_stats({s.site.comb_TNN.row<float>(t), static_cast<size_t>(n * n)}, n);
            // Columns of C come last and are exact; near the identity twenty iterations leave 1e-3 in its rows.
            EXPECT_LT(m.row_error, kind == ResidualKind::mhc ? 5e-3 : 3e-6);
            EXPECT_LT(m.column_error, 3e-6);
            EXPECT_LT(m.distance_identity, 0.1);
            EXPECT_LT(mixing_stats({even.site.comb_TNN.row<float>(t), static_cast<size_t>(n * n)}, n).distance_uniform, 0.1);
            EXPECT_NEAR(s.site.post_TN.row<float>(t)[0], 1, 0.1);
        }
    }
}

// Sub-layer k reads stream k mod n, writes to all, and nothing mixes: an ordinary residual connection.
TEST(Residual, HyperConnectionsStartAsOrdinaryOnes) {
    const Started s(ResidualKind::hc, 0, "layers.1.hc_ffn");  // site 3
    for (int64_t t = 0; t < 5; ++t)
        for (int j = 0; j < 4; ++j) {
            EXPECT_NEAR(s.site.pre_TN.row<float>(t)[j], j == 3, 0.011);
            EXPECT_NEAR(s.site.post_TN.row<float>(t)[j], 1, 0.011);
            for (int k = 0; k < 4; ++k) EXPECT_NEAR(s.site.comb_TNN.row<float>(t)[4 * j + k], j == k, 0.011);
        }
}

TEST(Residual, PlainAddsAndHasNoWeights) {
    test::OpFixture f;
    const ModelConfig c = config_of(ResidualKind::plain);
    const Residual& r = residual_for(c);
    EXPECT_EQ(r.n_rows(c, false) + r.n_rows(c, true), 0);
    const Tensor x = f.tensor({3, 1, 7}, test::noise(21, 1)), sub = f.tensor({3, 7}, test::noise(21, 2));
    Tape tape;
    f.ctx.tape = &tape;
    const HyperSite site = r.site(f.ctx, x, {}, test::make_param(std::vector<float>(7, 1.0f), {7}), c);
    const Tensor y = hyper_mix(f.ctx, x, site, sub);
    for (int i = 0; i < 21; ++i) {
        EXPECT_EQ(y.f32()[i], x.f32()[i] + sub.f32()[i]);
        tape.grad(y).f32()[i] = static_cast<float>(i);
    }
    tape.backward(f.ctx);
    for (int i = 0; i < 21; ++i) {
        EXPECT_EQ(tape.grad(x).f32()[i], i);
        EXPECT_EQ(tape.grad(sub).f32()[i], i);
    }
}

// A checkpoint of each variant: cached inference in two chunks and the tape give the same logits, with gains that stay sane.
TEST(Residual, InferenceAndTapeAgreeOnAWholeModel) {
    for (ResidualKind kind : {ResidualKind::mhc, ResidualKind::mhc_lite, ResidualKind::hc, ResidualKind::plain}) {
        const ModelConfig c = config_of(kind);
        SCOPED_TRACE(residual_for(c).name);
        test::TempFolder folder;
        init_checkpoint(c, 7, WeightsFormat::f32, folder.path() + "/model");
        ModelWeights w = load_weights(folder.path() + "/model", c);
        std::vector<int32_t> tokens;
        for (int t = 0; t < 29; ++t) tokens.push_back((t * 7 + t * t) % 200);

        test::OpFixture f;
        f.ctx.layer = -1;
        SequenceCache cache(c, Numerics::exact);
        std::vector<float> cached;
        for (const auto& [begin, end] : {std::pair{0, 17}, {17, 29}}) {
            const std::vector<Segment> segments = {{&cache, 0, end - begin, begin}};
            const Batch batch{std::span<const int32_t>(tokens).subspan(begin, end - begin), segments, nullptr};
            const Tensor logits = forward(f.ctx, c, w, batch, LogitRows::all);
            cached.insert(cached.end(), logits.f32(), logits.f32() + logits.count());
            cache.length = end;
        }
        Masters masters(w, c, DType::f32);
        Tape tape(false);
        f.ctx.tape = &tape;
        const std::vector<Segment> whole = {{nullptr, 0, 29, 0}};
        const Tensor logits = forward(f.ctx, c, w, {tokens, whole, nullptr}, LogitRows::all);
        float largest = 0;
        for (float v : cached) largest = std::max(largest, std::abs(v));
        EXPECT_LT(largest, 50);
        for (size_t i = 0; i < cached.size(); ++i) ASSERT_NEAR(logits.f32()[i], cached[i], 1e-5f * largest) << i;
    }
}

}  // namespace
}  // namespace vitrine
