// Random-weight checkpoints: the presets' sizes, the formats' agreement, and what is written around the weights.
#include "engine/model/init.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "engine/base/reader.h"
#include "engine/device/cpu/formats.h"
#include "engine/model/config.h"
#include "engine/model/roles.h"
#include "engine/text/tokenizer.h"
#include "engine/weights/checkpoint.h"
#include "engine/weights/quantize.h"

namespace vitrine {
namespace {
namespace fs = std::filesystem;

class Init : public testing::Test {
  protected:
    void SetUp() override { folder_ = fs::path(testing::TempDir()) / ("init-" + std::to_string(getpid())); }
    void TearDown() override { fs::remove_all(folder_); }
    std::string out(const std::string& name) const { return (folder_ / name).string(); }
    ModelWeights load(const std::string& name) const { return load_weights(out(name), read_config(out(name)).config); }
    fs::path folder_;
};

// Small, and off every multiple of 128 or 32 that can be off.
ModelConfig odd_config() {
    ModelConfig c = preset_config("tiny");
    c.layers = {{0, true}, {4, false}, {16, false}};
    c.hidden_size = 200, c.n_heads = 4, c.head_dim = 48, c.rope_dim = 16, c.q_lora_rank = 72, c.o_lora_rank = 40;
    c.index_n_heads = 4, c.index_head_dim = 32, c.n_experts = 5, c.n_experts_per_tok = 3, c.expert_width = 136,
    c.vocab_size = 300;
    c.n_mtp_layers = 1;
    return c;
}

TEST(Presets, AreValidAndHaveTheirSizes) {
    for (const Preset& p : presets()) {
        const ModelConfig c = preset_config(p.name);
        EXPECT_TRUE(validate_reference(c, "").empty()) << p.name << ": " << validate_reference(c, "")[0].to_string();
    }
    // What the reference generator (tests/reference/gen_dsv4.py) makes, without the ids of its hash tables.
    EXPECT_EQ(count_params(preset_config("tiny")).total, 30290261);
    EXPECT_EQ(count_params(preset_config("tiny")).active, 8139093);
    EXPECT_EQ(count_params(preset_config("mid")).total, 509391093);
    EXPECT_EQ(count_params(preset_config("mid")).active, 136098037);
    EXPECT_THROW(preset_config("midi"), Error);
    EXPECT_THROW(weights_format_from_name("fp4"), Error);
    EXPECT_EQ(preset_format("mid"), WeightsFormat::bf16);
}

// v4-spec 1.5 and the tensor counts of 7.1, from the slices stretched to the whole models.
TEST(Presets, WholeModelsCountAsPublished) {
    const auto whole = [](const char* slice, int n_layers, int n_experts) {
        ModelConfig c = preset_config(slice);
        const LayerConfig first = c.layers[0];
        c.layers.clear();
        for (int i = 0; i < n_layers; ++i) c.layers.push_back({i < 2 ? first.ratio : i % 2 ? 128 : 4, i < 3});
        c.n_experts = n_experts;
        return c;
    };
    const auto n_tensors = [](const ModelConfig& c) {
        int64_t n = 0;
        auto visit = [&](const std::string&, Param&, const Shape&, Storage s) {
            n += s == Storage::matrix || s == Storage::expert ? 2 : 1;
        };
        ModelWeights w;
        trunk_roles(w, c, visit);
        mtp_roles(w, c, visit);
        return n;
    };
    const ModelConfig flash = whole("flash-slice", 43, 256), pro = whole("pro-slice", 61, 384);
    EXPECT_NEAR(static_cast<double>(count_params(flash).total), 284.33e9, 0.005e9);
    EXPECT_NEAR(static_cast<double>(count_params(flash).active), 13.27e9, 0.005e9);
    EXPECT_NEAR(static_cast<double>(count_params(pro).total), 1572.99e9, 0.01e9);
    EXPECT_NEAR(static_cast<double>(count_params(pro).active), 48.85e9, 0.005e9);
    EXPECT_EQ(n_tensors(flash), 69187);
    EXPECT_EQ(n_tensors(pro), 145116);
}

TEST_F(Init, FormatsHoldTheSameNumbers) {
    const ModelConfig c = odd_config();
    for (WeightsFormat f : {WeightsFormat::f32, WeightsFormat::bf16, WeightsFormat::fp8, WeightsFormat::official})
        init_checkpoint(c, 7, f, out(weights_format_name(f)));
    const ModelWeights f32 = load("f32"), bf16 = load("bf16"), fp8 = load("fp8"), official = load("official");
    for (const ModelWeights* w : {&f32, &bf16, &fp8, &official}) {
        EXPECT_TRUE(w->warnings.empty()) << w->warnings[0];
        EXPECT_EQ(w->mtp.size(), 1u);
        EXPECT_EQ(w->n_params, f32.n_params);
    }
    EXPECT_EQ(f32.embed.view.dtype, DType::f32);
    EXPECT_EQ(bf16.embed.view.dtype, DType::bf16);
    EXPECT_EQ(bf16.blocks[1].attn.sink.view.dtype, DType::f32);
    EXPECT_EQ(fp8.blocks[1].ffn.experts[4].w2.view.scale_dtype, DType::f32);
    EXPECT_EQ(fp8.blocks[1].attn.wq_b.view.scale_dtype, DType::f8_e8m0);
    EXPECT_EQ(official.blocks[1].ffn.experts[4].w2.view.dtype, DType::fp4_e2m1);
    std::vector<const Param*> a, b, e, o;
    for (auto [w, list] : {std::pair{&f32, &a}, {&bf16, &b}, {&fp8, &e}, {&official, &o}})
        for_each_param(*w, [list = list](const Param& p) { list->push_back(&p); });
    ASSERT_EQ(a.size(), b.size());
    ASSERT_EQ(a.size(), o.size());
    for (size_t i = 0; i < a.size(); ++i) {
        if (a[i]->view.dtype == DType::i64) continue;
        std::vector<float> x(static_cast<size_t>(a[i]->view.in)), y(x.size());
        for (int64_t r = 0; r < a[i]->view.out; ++r) {
            a[i]->widen_row(r, x.data());
            b[i]->widen_row(r, y.data());
            ASSERT_EQ(x, y) << a[i]->name;
            e[i]->widen_row(r, y.data());  // FP8 keeps 3 bits of mantissa; a power-of-two scale never overflows
            for (size_t k = 0; k < x.size(); ++k) ASSERT_NEAR(x[k], y[k], std::fabs(x[k]) / 16 + 1e-3) << e[i]->name;
            o[i]->widen_row(r,
                            y.data());  // FP4's worst step is 2 of 6 times the scale: a sixth of amax and a half step
            float amax = 0;
            for (float v : x) amax = std::max(amax, std::fabs(v));
            for (size_t k = 0; k < x.size(); ++k) ASSERT_NEAR(x[k], y[k], amax / 3) << o[i]->name;
        }
    }
}

// From F32 or BF16, which hold the same numbers, every format comes out as it is made from nothing: byte for byte.
TEST_F(Init, WritesAModelAgainInAnotherFormat) {
    const ModelConfig c = odd_config();
    for (WeightsFormat f : {WeightsFormat::f32, WeightsFormat::bf16}) {
        const std::string from = std::string("from ") + weights_format_name(f);
        init_checkpoint(c, 7, f, out(from));
        for (WeightsFormat to : {WeightsFormat::f32, WeightsFormat::bf16, WeightsFormat::fp8, WeightsFormat::official}) {
            const std::string name = weights_format_name(to), made = "made " + name + from, again = "again " + name + from;
            init_checkpoint(c, 7, to, out(made));
            repack_checkpoint(out(from), to, out(again));
            for (const char* file : {"model.safetensors", "config.json", "tokenizer.json", "chat.json", "generation_config.json"}) {
                EXPECT_TRUE(read_file(out(made) + "/" + file, 1 << 28) == read_file(out(again) + "/" + file, 1 << 28))
                    << file << ", " << name << " " << from;
            }
        }
    }
    EXPECT_THROW(repack_checkpoint(out("nowhere"), WeightsFormat::bf16, out("x")), Error);
}

TEST_F(Init, ShardsAreAsLargeAsAskedForAndHoldTheSame) {
    const ModelConfig c = odd_config();
    InitOptions options;
    options.shard_bytes = 50'000;
    init_checkpoint(c, 7, WeightsFormat::official, out("whole"));
    init_checkpoint(c, 7, WeightsFormat::official, out("cut"), options);
    EXPECT_FALSE(std::filesystem::exists(out("cut") + "/model.safetensors"));
    const auto whole = read_folder(out("whole")), cut = read_folder(out("cut"));
    EXPECT_FALSE(fs::exists(out("cut") + "/model.safetensors"));
    EXPECT_TRUE(fs::exists(out("cut") + "/model.safetensors.index.json"));
    ASSERT_EQ(whole.size(), cut.size());
    for (const auto& [name, t] : whole) {
        const RawTensor& other = cut.at(name);
        ASSERT_EQ(t.bytes, other.bytes) << name;
        EXPECT_EQ(std::memcmp(t.data, other.data, t.bytes), 0) << name;
    }
}

TEST_F(Init, ValuesDependOnSeedAndNameAlone) {
    ModelConfig c = odd_config();
    init_checkpoint(c, 7, WeightsFormat::f32, out("a"));
    c.layers = {{0, true}, {4, false}};  // fewer layers: what is left keeps its numbers
    init_checkpoint(c, 7, WeightsFormat::f32, out("b"));
    init_checkpoint(c, 8, WeightsFormat::f32, out("c"));
    const ModelWeights a = load("a"), b = load("b"), other = load("c");
    const auto row = [](const Param& p) {
        std::vector<float> x(static_cast<size_t>(p.view.in));
        p.widen_row(p.view.out - 1, x.data());
        return x;
    };
    EXPECT_EQ(row(a.blocks[1].ffn.experts[4].w2), row(b.blocks[1].ffn.experts[4].w2));
    EXPECT_NE(row(a.blocks[1].ffn.experts[4].w2), row(a.blocks[1].ffn.experts[3].w2));
    EXPECT_NE(row(a.head), row(other.head));
    for (const WeightScan& s : scan_weights(a)) {
        EXPECT_EQ(s.n_nan + s.n_inf, 0);
        EXPECT_LT(s.max_abs, 6) << s.name;
        EXPECT_GT(s.max_abs, 0.01) << s.name;
    }
    const WeightScan embed = scan_param(a.embed);  // 60,000 values of deviation 1
    EXPECT_LT(std::fabs(embed.mean), 0.02);
    EXPECT_LT(embed.max_abs, 3.5);
    EXPECT_GT(embed.max_abs, 3);
}

TEST_F(Init, TheFolderIsComplete) {
    init_checkpoint(odd_config(), 1, WeightsFormat::official, out("m"));
    EXPECT_TRUE(read_config(out("m")).warnings.empty());
    for (const char* f : {"config.json", "chat.json", "tokenizer.json", "generation_config.json", "model.safetensors"})
        EXPECT_TRUE(fs::exists(folder_ / "m" / f)) << f;
    EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "m"), fs::directory_iterator()), 5);
    const auto t = text::Tokenizer::load(out("m") + "/tokenizer.json");
    EXPECT_EQ(t->n_ids(), 272);
    const std::vector<int32_t> ids = t->encode("<｜begin▁of▁sentence｜><｜User｜>Hé 74\n<｜Assistant｜><think>");
    EXPECT_EQ(ids, (std::vector<int32_t>{0, 3, 16 + 'H', 16 + 0xC3, 16 + 0xA9, 16 + ' ', 16 + '7', 16 + '4', 16 + '\n',
                                         4, 5}));
    EXPECT_EQ(t->decode(ids), "<｜begin▁of▁sentence｜><｜User｜>Hé 74\n<｜Assistant｜><think>");
    EXPECT_THROW(init_checkpoint(odd_config(), 1, WeightsFormat::f32, out("m")), Error);  // never over a model
}

TEST_F(Init, CancelLeavesNothing) {
    std::stop_source stop;
    InitOptions progress;
    progress.stop = stop.get_token();
    uint64_t last = 0;
    progress.report = [&](uint64_t done, uint64_t total) {
        EXPECT_GT(done, last);
        EXPECT_LE(done, total);
        last = done;
        if (done > total / 2) stop.request_stop();
    };
    EXPECT_THROW(init_checkpoint(odd_config(), 1, WeightsFormat::f32, out("m"), progress), Error);
    EXPECT_TRUE(fs::is_empty(folder_ / "m"));
}

TEST_F(Init, RefusesWhatItCannotMake) {
    ModelConfig c = odd_config();
    c.vocab_size = 271;
    EXPECT_THROW(init_checkpoint(c, 1, WeightsFormat::f32, out("m")), Error);
    std::ofstream(folder_.string() + "-file") << "x";
    EXPECT_THROW(init_checkpoint(odd_config(), 1, WeightsFormat::f32, folder_.string() + "-file"), Error);
    fs::remove(folder_.string() + "-file");
}

// v4-spec 15.3.
TEST(Quantise, SpecificationVectors) {
    float v[64];
    for (int i = 0; i < 64; ++i) v[i] = cpu::round_bf16(static_cast<float>(3.1 * std::sin(0.37 * i)));
    EXPECT_EQ(v[5], 2.984375f);
    const PackedBytes fp8 = pack_fp8(v, 1, 64, DType::f8_e8m0);
    ASSERT_EQ(fp8.scale.size(), 1u);
    EXPECT_EQ(cpu::e8m0_to_f32(static_cast<uint8_t>(fp8.scale[0])), 0x1p-7f);
    const float expected8[] = {0, 1.125, 2, 2.75, 3, 3, 2.5, 1.625};
    for (int i = 0; i < 8; ++i)
        EXPECT_EQ(cpu::fp8_decode(static_cast<uint8_t>(fp8.data[static_cast<size_t>(i)])) * 0x1p-7f, expected8[i]);
    const PackedBytes fp4 = pack_fp4(v, 1, 32);
    ASSERT_EQ(fp4.scale.size(), 1u);
    ASSERT_EQ(fp4.data.size(), 16u);
    EXPECT_EQ(cpu::e8m0_to_f32(static_cast<uint8_t>(fp4.scale[0])), 1.0f);
    const float expected4[] = {0, 1, 2, 3, 3, 3, 2, 1.5};
    for (size_t i = 0; i < 8; ++i)
        EXPECT_EQ(cpu::fp4_decode(static_cast<uint8_t>(fp4.data[i / 2] >> (i % 2 * 4)) & 15), expected4[i]);
    const float ties[8] = {0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 6}, rounded[8] = {0, 1, 1, 2, 2, 4, 4, 6};
    const PackedBytes t = pack_fp4(ties, 1, 8);
    for (size_t i = 0; i < 8; ++i)
        EXPECT_EQ(cpu::fp4_decode(static_cast<uint8_t>(t.data[i / 2] >> (i % 2 * 4)) & 15), rounded[i]);
    const PackedBytes base = pack_fp8(v, 1, 64, DType::f32);
    float scale;
    std::memcpy(&scale, base.scale.data(), 4);
    EXPECT_EQ(scale, 3.09375f / 448);
}

}  // namespace
}  // namespace vitrine
