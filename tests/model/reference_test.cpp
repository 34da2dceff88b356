// `reference` numerics against the FP64 model with the specification's rounding steps (tests/reference, written apart).
//
// Blocks are compared one at a time, each fed with the vector's own streams and choices: whole random-weight models amplify
// the order of summation until a missing step and a different order look alike (measured in tests/golden/reference/README.md).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "engine/device/cpu/formats.h"
#include "engine/engine.h"
#include "engine/model/config.h"
#include "engine/model/v4.h"
#include "engine/ops/quantize/quantize.h"
#include "tests/support/collector.h"
#include "tests/support/device.h"
#include "tests/support/vectors.h"

namespace vitrine {
namespace {

using test::Array;
using test::Arrays;

struct Case {
    const char* name;
    double largest_one_minus_cosine;  // per block over all tokens: 5 times what the order of summation alone does
};

class Reference : public testing::TestWithParam<Case> {};

Tensor rows(Arena& arena, DType type, const Array& a, int64_t begin, int64_t end) {
    Shape s;
    s.rank = static_cast<int>(a.shape.size());
    for (int i = 0; i < s.rank; ++i) s.n[i] = a.shape[i];
    s.n[0] = end - begin;
    Tensor t = arena.make(type, s);
    for (int64_t i = 0; i < t.count(); ++i) {
        const double v = a.values[begin * a.width() + i];
        if (type == DType::i32) t.as<int32_t>()[i] = static_cast<int32_t>(v);
        else t.f32()[i] = static_cast<float>(v);
    }
    return t;
}

// The same block left free: its index scores, rounded to BF16 three times, against the vector's.
void expect_index_scores(Ctx ctx, const ModelConfig& c, const BlockWeights& w, int l, const Tensor& x,
                         const std::vector<int32_t>& ids, int64_t begin, SequenceCache& cache, const Array& want) {
    test::Collector got;
    Watch watch;
    watch.set(probe_bit(kIndexScores));
    ctx.watch = &watch;
    ctx.probes = &got;
    const Segment segment{&cache, 0, x.dim(0), begin};
    const Batch batch{std::span(ids).subspan(begin, x.dim(0)), {&segment, 1}, nullptr};
    cache.will_write_to(begin + x.dim(0));
    block(ctx, c, w, l, x, batch, batch_angles(ctx, c, batch));
    cache.length = begin + x.dim(0);
    const std::string name = "blocks." + std::to_string(l) + ".attn.indexer.hook_scores";
    double largest = 0;
    for (double v : want.values) largest = std::max(largest, std::isfinite(v) ? std::abs(v) : 0.0);
    int64_t n = 0, n_off = 0;
    for (int64_t t = 0; t < x.dim(0); ++t) {
        const auto& row = got.row(name, static_cast<int>(t));
        for (size_t s = 0; s < row.size(); ++s, ++n) n_off += std::abs(row[s] - want.at(begin + t, s)) > largest / 128;
    }
    // FP4 carries a value that crosses a rounding border to the next code: rare, but not small.
    EXPECT_LE(n_off, n / 100) << name << ": " << n_off << " of " << n << " scores are off by more than 1/128 of the largest";
    if (n > 0) std::printf("%s: %lld of %lld scores off by more than 1/128\n", name.c_str(), (long long)n_off, (long long)n);
}

TEST_P(Reference, EachBlockAgrees) {
    const std::string name = GetParam().name, folder = test::golden_path(name);
    const Arrays want = test::load_arrays(test::golden_path("reference/" + name + ".safetensors"));
    const ModelConfig c = read_config(folder).config;
    const ModelWeights w = load_weights(folder, c);
    const std::vector<int32_t> ids = test::int_list(want.at("input_ids"));
    const auto n_tokens = static_cast<int64_t>(ids.size());
    Pool pool(2);
    double worst = 0;
    for (int l = 0; l < c.n_layers(); ++l) {
        const std::string block_name = "blocks." + std::to_string(l) + ".";
        SequenceCache cache(c, Numerics::reference);
        SequenceCache free_cache(c, Numerics::reference);
        double dot = 0, mine = 0, theirs = 0;
        for (int64_t begin = 0; begin < n_tokens; begin += kMaxChunk) {
            const int64_t end = std::min(begin + kMaxChunk, n_tokens);
            Arena arena;
            Ctx ctx{arena, pool, Numerics::reference, nullptr, nullptr, {}, nullptr, l};
            Forced forced{std::vector<Tensor>(c.n_layers()), std::vector<Tensor>(c.n_layers())};
            forced.experts_TK[l] = rows(arena, DType::i32, want.at(block_name + "mlp.hook_router_indices"), begin, end);
            if (c.layers[l].kind() == LayerKind::csa)
                forced.entries_Tk[l] = rows(arena, DType::i32, want.at(block_name + "attn.indexer.hook_topk"), begin, end);
            const Segment segment{&cache, 0, end - begin, begin};
            const Batch batch{std::span(ids).subspan(begin, end - begin), {&segment, 1}, &forced};
            Tensor x;
            if (l == 0) {
                x = arena.make(DType::f32, {end - begin, c.hc_mult, c.hidden_size});
                for (int64_t t = begin; t < end; ++t)
                    for (int j = 0; j < c.hc_mult; ++j) w.embed.widen_row(ids[t], x.row<float>(t - begin) + j * c.hidden_size);
                round_output(ctx, x);
            } else {
                x = rows(arena, DType::f32, want.at("blocks." + std::to_string(l - 1) + ".hook_out"), begin, end);
            }
            cache.will_write_to(end);
            const Tensor y = block(ctx, c, w.blocks[l], l, x, batch, batch_angles(ctx, c, batch));
            cache.length = end;
            if (c.layers[l].kind() == LayerKind::csa)
                expect_index_scores(ctx, c, w.blocks[l], l, x, ids, begin, free_cache,
                                    want.at(block_name + "attn.indexer.hook_scores"));
            const Array& out = want.at(block_name + "hook_out");
            for (int64_t i = 0; i < y.count(); ++i) {
                const double a = y.f32()[i], b = out.values[begin * out.width() + i];
                dot += a * b, mine += a * a, theirs += b * b;
            }
        }
        const double distance = 1 - dot / std::sqrt(mine * theirs);
        EXPECT_LE(distance, GetParam().largest_one_minus_cosine) << name << " block " << l;
        worst = std::max(worst, distance);
    }
    std::printf("%s: worst block 1 - cosine = %.2g\n", name.c_str(), worst);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Reference,
                         testing::Values(Case{"smooth15", 2e-5}, Case{"tiny15", 2e-5}, Case{"flashlike", 2e-5},
                                         Case{"prolike", 2e-5}, Case{"official", 3e-4}),
                         [](const auto& p) { return std::string(p.param.name); });

// The whole model where nothing is chosen: small differences stay small.
TEST(Reference, WholeModelWithoutChoices) {
    const Arrays want = test::load_arrays(test::golden_path("reference/smooth15.safetensors"));
    auto engine = Engine::load(test::golden_path("smooth15"), test::on_test_device({.numerics = Numerics::reference}));
    const std::vector<int32_t> ids = test::int_list(want.at("input_ids"));
    auto session = engine->new_session();
    const Array& logits = want.at("logits");
    double kl_sum = 0;
    for (size_t t = 0; t < ids.size(); ++t) {
        session->append({&ids[t], 1});
        const auto mine = session->logits();
        double za = 0, zb = 0, kl = 0;
        const auto b = [&](int64_t i) { return logits.at(static_cast<int64_t>(t), i); };
        for (size_t i = 0; i < mine.size(); ++i) za += std::exp(mine[i]), zb += std::exp(b(i));
        for (size_t i = 0; i < mine.size(); ++i) kl += std::exp(b(i)) / zb * ((b(i) - std::log(zb)) - (mine[i] - std::log(za)));
        kl_sum += kl;
    }
    std::printf("smooth15, whole, token by token: mean KL %.2g\n", kl_sum / ids.size());
    EXPECT_LT(kl_sum / ids.size(), 7e-4);
}

// The packed cache is quantise-then-dequantise, bit for bit.
class PackedBytes : public testing::TestWithParam<const char*> {};
TEST_P(PackedBytes, EntriesAndKeysEqualTheReferenceBytes) {
    const Arrays want = test::load_arrays(test::golden_path(std::string("reference/") + GetParam() + ".safetensors"));
    const ModelConfig c = read_config(test::golden_path(GetParam())).config;
    const SequenceCache cache(c, Numerics::reference);
    int n = 0;
    for (const auto& [key, raw] : want) {
        const bool is_key = key.ends_with("hook_key_raw");
        if (!key.ends_with("_raw")) continue;
        const Array& bytes = want.at(key.substr(0, key.size() - 3) + "bytes");
        std::vector<std::byte> row(bytes.width());
        for (int64_t i = 0; i < raw.dim(0); ++i) {
            std::vector<float> v(raw.width());
            for (int64_t k = 0; k < raw.width(); ++k) v[k] = static_cast<float>(raw.at(i, k));
            ASSERT_EQ(bytes.width(), is_key ? cache.index_format.row_bytes() : cache.entry_format.row_bytes());
            is_key ? cache.store_index_key(v.data(), row.data()) : cache.store_entry(v.data(), row.data());
            for (int64_t k = 0; k < bytes.width(); ++k)
                ASSERT_EQ(static_cast<int>(row[k]), static_cast<int>(bytes.at(i, k))) << key << " row " << i << " byte " << k;
            ++n;
        }
    }
    EXPECT_GT(n, 0);
}
INSTANTIATE_TEST_SUITE_P(Checkpoints, PackedBytes, testing::Values("tiny15", "flashlike", "prolike", "official"));

}  // namespace
}  // namespace vitrine
