// Loading by role: the four checkpoints we have, other layouts of the same tensors, and what does not fit.
#include "engine/model/weights.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include "engine/model/config.h"
#include "engine/weights/checkpoint.h"
#include "engine/weights/names_v4.h"
#include "tests/support/message_of.h"

namespace vitrine {
namespace {

using test::message_of;

namespace fs = std::filesystem;

const std::string kRoot = VITRINE_SOURCE_DIR;
const std::string kFlash = kRoot + "/tests/golden/flashlike";

ModelWeights load(const std::string& folder) {
    return load_weights(folder, read_config(folder).config);
}

bool contains(const std::string& s, const std::string& part) {
    return s.find(part) != std::string::npos;
}

// Expected values and counts: printed from the files with numpy.
TEST(LoadWeights, Flashlike) {
    const ModelWeights w = load(kFlash);
    EXPECT_TRUE(w.warnings.empty()) << w.warnings.front();
    EXPECT_EQ(w.tensors.size(), 304u);
    EXPECT_EQ(w.n_params, 570977);
    EXPECT_EQ(w.n_active_params, 333345);
    EXPECT_EQ(w.bytes, 2292132u);
    ASSERT_EQ(w.blocks.size(), 6u);
    const CompressorWeights& c = w.blocks[2].attn.compressor;
    EXPECT_EQ(c.ape.shape, (Shape{4, 64}));
    EXPECT_EQ(c.ape.value(2 * 64 + 5), -0.08312932401895523f);
    EXPECT_EQ(w.blocks[5].ffn.experts[3].w2.value(10 * 32 + 7), 0.181237131357193f);
    EXPECT_EQ(w.blocks[3].attn.compressor.wkv.shape, (Shape{32, 64}));
    EXPECT_TRUE(w.blocks[0].attn.compressor.wkv.empty());
    EXPECT_TRUE(w.blocks[3].attn.indexer.wq_b.empty());
    EXPECT_FALSE(w.blocks[4].attn.indexer.compressor.norm.empty());
    EXPECT_TRUE(w.blocks[0].ffn.bias.empty());
    EXPECT_FALSE(w.blocks[0].ffn.tid2eid.empty());
    EXPECT_FALSE(w.blocks[2].ffn.bias.empty());
}

TEST(LoadWeights, ProlikeAndSeedlingUseTheExportedNames) {
    const ModelWeights p = load(kRoot + "/tests/golden/prolike");
    EXPECT_TRUE(p.warnings.empty()) << p.warnings.front();
    EXPECT_EQ(p.n_params, 535963);
    EXPECT_EQ(p.n_active_params, 335195);
    EXPECT_EQ(p.blocks[1].attn.kv_norm.value(31), 1.099083662033081f);
    const ModelWeights s = load(kRoot + "/assets/models/seedling");
    EXPECT_TRUE(s.warnings.empty()) << s.warnings.front();
    EXPECT_EQ(s.tensors.size(), 600u);
    EXPECT_EQ(s.n_params, 16365621);
    EXPECT_EQ(s.n_active_params, 5285941);
    EXPECT_EQ(s.blocks[3].attn.kv_norm.value(63), 1.0234375f);
    EXPECT_EQ(s.blocks[7].hc_ffn.fn.value(23 * 1024 + 1023), -0.0888671875f);
    EXPECT_EQ(s.head.name, "head.weight");
    EXPECT_EQ(s.embed.name, "model.embed_tokens.weight");
}

TEST(LoadWeights, OfficialPackedFormats) {
    const ModelWeights w = load(kRoot + "/tests/golden/official");
    EXPECT_TRUE(w.warnings.empty()) << w.warnings.front();
    EXPECT_EQ(w.n_params, 6124805);
    EXPECT_EQ(w.n_active_params, 3634437);
    EXPECT_EQ(w.bytes, 6018212u);
    const Param& index = w.blocks[1].attn.indexer.wq_b;
    EXPECT_EQ(index.view.dtype, DType::f8_e4m3);
    EXPECT_EQ(index.value(1023 * 192 + 191), -0.03125f);
    EXPECT_EQ(w.blocks[0].attn.wq_b.value(300 * 192 + 150), -0.05859375f);
    EXPECT_EQ(w.blocks[3].ffn.shared.w2.value(255 * 128 + 127), -0.002197265625f);
    const ExpertWeights& e = w.blocks[2].ffn.experts[7];
    EXPECT_EQ(e.w1.view.dtype, DType::fp4_e2m1);
    EXPECT_EQ(e.w1.shape, (Shape{128, 256}));
    EXPECT_EQ(e.w1.value(100 * 256 + 201), -0.015625f);
    EXPECT_EQ(e.w2.value(255 * 128 + 100), -0.03125f);
    EXPECT_EQ(w.blocks[0].ffn.experts[0].w3.value(5 * 256 + 32), 0.09375f);
    EXPECT_EQ(w.embed.value(511 * 256 + 255), -0.357421875f);
    EXPECT_FLOAT_EQ(w.blocks[1].attn.sink.value(3), 0.09640004f);
    std::vector<float> row(256);
    e.w1.widen_row(100, row.data());
    EXPECT_EQ(row[201], -0.015625f);
    int64_t n = 0;
    for (const WeightScan& s : scan_weights(w)) {
        n += s.n_values;
        EXPECT_EQ(s.n_nan + s.n_inf, 0) << s.name;
    }
    EXPECT_EQ(n, w.n_params);
    int64_t n_listed = 0;  // block scales are no parameters, tables of experts neither
    for (const TensorInfo& t : w.tensors) {
        if (t.has_real_values()) n_listed += t.n_params;
        EXPECT_FALSE(t.dtype == "F8_E8M0" && t.has_real_values()) << t.name;
    }
    EXPECT_EQ(n_listed, w.n_params);
}

// ---- the flashlike checkpoint, changed
// -----------------------------------------------------------------------------------

class Changed : public testing::Test {
  protected:
    struct Entry {
        DType dtype;
        std::vector<int64_t> shape;
        std::string bytes;
    };
    void SetUp() override {
        folder_ = fs::path(testing::TempDir()) / ("weights-" + std::to_string(getpid()));
        fs::create_directories(folder_);
        for (auto& [name, t] : read_folder(kFlash))
            tensors_[name] = {t.dtype, t.shape, std::string(reinterpret_cast<const char*>(t.data), t.bytes)};
        config_ = read_config(kFlash).config;
    }
    void TearDown() override { fs::remove_all(folder_); }
    ModelWeights load_changed() {
        std::vector<NamedArray> list;
        for (const auto& [name, e] : tensors_) list.push_back({name, e.dtype, e.shape, e.bytes.data(), e.bytes.size()});
        write_safetensors((folder_ / "model.safetensors").string(), list);
        return load_weights(folder_.string(), config_);
    }
    std::string problem() {
        return message_of([&] { load_changed(); });
    }
    void rename(const std::string& from, const std::string& to) {
        auto node = tensors_.extract(from);
        ASSERT_FALSE(node.empty()) << from;
        node.key() = to;
        tensors_.insert(std::move(node));
    }
    fs::path folder_;
    std::map<std::string, Entry> tensors_;
    ModelConfig config_;
};

std::string all_values(const ModelWeights& w) {
    std::string s;
    for_each_param(w, [&](const Param& p) {
        std::vector<float> row(static_cast<size_t>(p.view.in));
        if (p.view.dtype == DType::i64) return;
        for (int64_t r = 0; r < p.view.out; ++r) {
            p.widen_row(r, row.data());
            s.append(reinterpret_cast<const char*>(row.data()), row.size() * 4);
        }
    });
    return s;
}

// transformers' module names; experts fused as [E, 2I, d] and [E, d, I], or single.
std::string module_name(const std::string& official) {
    static const std::pair<const char*, const char*> whole[] = {
        {"embed.weight", "model.embed_tokens.weight"}, {"head.weight", "lm_head.weight"},
        {"norm.weight", "model.norm.weight"},          {"hc_head_fn", "model.hc_head.hc_fn"},
        {"hc_head_base", "model.hc_head.hc_base"},     {"hc_head_scale", "model.hc_head.hc_scale"}};
    for (const auto& [a, b] : whole)
        if (official == a) return b;
    static const std::pair<const char*, const char*> parts[] = {
        {".attn_norm.", ".input_layernorm."},
        {".ffn_norm.", ".post_attention_layernorm."},
        {".hc_attn_", ".attn_hc."},
        {".hc_ffn_", ".ffn_hc."},
        {".attn.indexer.compressor.wkv", ".self_attn.compressor.indexer.kv_proj"},
        {".attn.indexer.compressor.wgate", ".self_attn.compressor.indexer.gate_proj"},
        {".attn.indexer.compressor.norm", ".self_attn.compressor.indexer.kv_norm"},
        {".attn.indexer.compressor.ape", ".self_attn.compressor.indexer.position_bias"},
        {".attn.indexer.wq_b", ".self_attn.compressor.indexer.q_b_proj"},
        {".attn.indexer.weights_proj", ".self_attn.compressor.indexer.scorer.weights_proj"},
        {".attn.compressor.wkv", ".self_attn.compressor.kv_proj"},
        {".attn.compressor.wgate", ".self_attn.compressor.gate_proj"},
        {".attn.compressor.norm", ".self_attn.compressor.kv_norm"},
        {".attn.compressor.ape", ".self_attn.compressor.position_bias"},
        {".attn.wq_a", ".self_attn.q_a_proj"},
        {".attn.q_norm", ".self_attn.q_a_norm"},
        {".attn.wq_b", ".self_attn.q_b_proj"},
        {".attn.wkv", ".self_attn.kv_proj"},
        {".attn.wo_a", ".self_attn.o_a_proj"},
        {".attn.wo_b", ".self_attn.o_b_proj"},
        {".attn.attn_sink", ".self_attn.sinks"},
        {".attn.kv_norm", ".self_attn.kv_norm"},
        {".ffn.gate.bias", ".mlp.gate.e_score_correction_bias"},
        {".ffn.shared_experts.w1", ".mlp.shared_experts.gate_proj"},
        {".ffn.shared_experts.w2", ".mlp.shared_experts.down_proj"},
        {".ffn.shared_experts.w3", ".mlp.shared_experts.up_proj"},
        {".ffn.", ".mlp."}};
    std::string s = "model." + official;
    for (const auto& [a, b] : parts)
        if (const size_t at = s.find(a); at != s.npos) return s.replace(at, std::strlen(a), b);
    return s;
}

TEST_F(Changed, ModuleNamesWithSingleAndFusedExperts) {
    const std::string expected = all_values(load_changed());
    const auto original = tensors_;
    tensors_.clear();
    for (const auto& [name, e] : original) {
        EXPECT_EQ(canonical_name(module_name(name)).name, name) << module_name(name);
        tensors_[module_name(name)] = e;
    }
    EXPECT_EQ(all_values(load_changed()), expected);
    for (int layer = 0; layer < 6; ++layer) {
        const std::string p = "model.layers." + std::to_string(layer) + ".mlp.experts.";
        Entry gate_up{DType::f32, {8, 64, 64}, ""}, down{DType::f32, {8, 64, 32}, ""};
        for (int e = 0; e < 8; ++e) {
            const std::string q = p + std::to_string(e) + ".";
            gate_up.bytes += tensors_.at(q + "w1.weight").bytes + tensors_.at(q + "w3.weight").bytes;
            down.bytes += tensors_.at(q + "w2.weight").bytes;
            for (const char* k : {"w1.weight", "w2.weight", "w3.weight"}) tensors_.erase(q + k);
        }
        tensors_[p + "gate_up_proj"] = gate_up;
        tensors_[p + "down_proj"] = down;
    }
    const ModelWeights w = load_changed();
    EXPECT_EQ(all_values(w), expected);
    EXPECT_EQ(w.n_params, 570977);
    EXPECT_EQ(w.blocks[1].ffn.experts[2].w3.name, "model.layers.1.mlp.experts.gate_up_proj[2].up");
    tensors_["model.layers.0.mlp.experts.down_proj"].shape = {8, 32, 64};
    EXPECT_TRUE(contains(problem(), "down_proj = F32 [8, 32, 64]: expected F32, F16 or BF16 [8, 64, 32]")) << problem();
}

TEST(CanonicalName, ConverterQuirks) {
    EXPECT_EQ(canonical_name("model.layers.3.self_attn.wq_a.weight_scale_inv").name, "layers.3.attn.wq_a.scale");
    EXPECT_EQ(canonical_name("layers.12.mlp.gate.e_score_correction_bias").name, "layers.12.ffn.gate.bias");
    EXPECT_EQ(canonical_name("model.layers.0.mlp.experts.7.gate_proj.weight").name, "layers.0.ffn.experts.7.w1.weight");
    EXPECT_EQ(canonical_name("model.layers.0.attn.norm.weight").name, "layers.0.attn.kv_norm.weight");
    EXPECT_EQ(canonical_name("model.layers.0.attn.compressor.norm.weight").name,
              "layers.0.attn.compressor.norm.weight");
    EXPECT_EQ(canonical_name("layers.1.attn.indexer.compressor.wkv.weight").name,
              "layers.1.attn.indexer.compressor.wkv.weight");
    EXPECT_EQ(canonical_name("mtp.0.hc_head_fn").name, "mtp.0.hc_head_fn");
    EXPECT_TRUE(canonical_name("mtp.0.emb.tok_emb.weight").is_redundant);
    EXPECT_TRUE(canonical_name("mtp.0.head.weight").is_redundant);
    EXPECT_FALSE(canonical_name("head.weight").is_redundant);
    EXPECT_EQ(canonical_name("layers.x.attn").name, "layers.x.attn");
}

TEST_F(Changed, EveryMismatchAtOnce) {
    tensors_.erase("layers.2.attn.wq_a.weight");
    tensors_["layers.3.attn.wkv.weight"].shape = {64, 32};
    auto& sink = tensors_["layers.1.attn.attn_sink"];
    sink = {DType::i32, {4}, sink.bytes};
    rename("layers.4.ffn_norm.weight", "layers.4.fnn_norm.weight");
    const std::string p = problem();
    EXPECT_TRUE(contains(
        p, "layers.2.attn.wq_a.weight = (missing): expected F32, F16, BF16 or F8_E4M3 [32, 64], by config.json"))
        << p;
    EXPECT_TRUE(contains(p, "layers.3.attn.wkv.weight = F32 [64, 32]: expected F32, F16, BF16 or F8_E4M3 [32, 64]"))
        << p;
    EXPECT_TRUE(contains(p, "layers.1.attn.attn_sink = I32 [4]: expected F32, F16 or BF16 [4]")) << p;
    EXPECT_TRUE(contains(p, "layers.4.ffn_norm.weight = (missing)") && contains(p, "found layers.4.fnn_norm.weight"))
        << p;
}

TEST_F(Changed, UnknownTensorsWarn) {
    tensors_["extra.weight"] = {DType::f32, {1}, std::string(4, '\0')};
    const ModelWeights w = load_changed();
    ASSERT_EQ(w.warnings.size(), 1u);
    EXPECT_EQ(w.warnings[0], "extra.weight: unknown tensor, not used");
    EXPECT_EQ(w.bytes, 2292132u);
    for (int i = 0; i < 30; ++i) tensors_["extra." + std::to_string(i)] = {DType::f32, {0}, ""};
    EXPECT_EQ(load_changed().warnings.size(), 21u);
    EXPECT_EQ(load_changed().warnings.back(), "... and 11 more unknown tensors");
}

TEST_F(Changed, TwoNamesOfOneTensor) {
    tensors_["model.norm.weight"] = tensors_["norm.weight"];
    EXPECT_TRUE(contains(problem(), "norm.weight = F32 [64]: expected one tensor of this meaning")) << problem();
}

TEST_F(Changed, HashTableIsChecked) {
    auto& t = tensors_["layers.0.ffn.gate.tid2eid"];
    const auto poke = [&](int row, int k, int64_t v) { std::memcpy(t.bytes.data() + (row * 2 + k) * 8, &v, 8); };
    const std::string before = t.bytes;
    poke(9, 1, 8);
    EXPECT_TRUE(contains(problem(),
                         "layers.0.ffn.gate.tid2eid = wrong in 1 rows, the first is that of token 9: expected "
                         "experts in [0, 7]"))
        << problem();
    poke(9, 1, -1);
    EXPECT_TRUE(contains(problem(), "token 9"));
    t.bytes = before;
    int64_t same;
    std::memcpy(&same, t.bytes.data() + 200 * 16, 8);
    poke(200, 1, same);  // an expert that is used twice: the published implementations take it, and so do we
    const ModelWeights w = load_changed();
    ASSERT_EQ(w.warnings.size(), 1u);
    EXPECT_EQ(w.warnings[0], "layers.0.ffn.gate.tid2eid: 1 of 257 rows name an expert twice: its output counts twice");
    t.bytes = before;
    std::string narrow;  // I32 is fine
    for (size_t i = 0; i < before.size(); i += 8) narrow += before.substr(i, 4);
    t = {DType::i32, t.shape, narrow};
    EXPECT_EQ(problem(), "accepted");
}

TEST_F(Changed, NotFiniteValuesAreCounted) {
    auto& t = tensors_["layers.2.attn_norm.weight"];
    const float bad[3] = {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity(), 1e-42f};
    std::memcpy(t.bytes.data() + 8, bad, 12);
    const ModelWeights w = load_changed();
    ASSERT_EQ(w.warnings.size(), 1u);
    EXPECT_EQ(w.warnings[0], "layers.2.attn_norm.weight: 1 NaN and 1 infinite of 64 values");
    auto& big = tensors_["layers.2.attn.wq_b.weight"];  // matrices wait for the scan
    std::memcpy(big.bytes.data(), bad, 12);
    EXPECT_EQ(load_changed().warnings.size(), 1u);
    int64_t n_nan = 0, n_inf = 0;
    for (const WeightScan& s : scan_weights(load_changed())) n_nan += s.n_nan, n_inf += s.n_inf;
    EXPECT_EQ(n_nan, 2);
    EXPECT_EQ(n_inf, 2);
}

TEST_F(Changed, MtpIsAllOrNothing) {
    config_.n_mtp_layers = 1;
    const ModelWeights none = load_changed();
    EXPECT_TRUE(none.mtp.empty());
    ASSERT_EQ(none.warnings.size(), 1u);
    EXPECT_TRUE(contains(none.warnings[0], "num_nextn_predict_layers is 1 but the files hold no mtp.*"));
    // A block of the mtp module has the roles of a sliding layer routed by score: take layer 2's, which has the same
    // sizes.
    const auto original = tensors_;
    for (const auto& [name, e] : original)
        if (name.starts_with("layers.2.") && name.find("compressor") == name.npos && name.find("indexer") == name.npos)
            tensors_["mtp.0." + name.substr(9)] = e;
    for (const char* k : {"enorm.weight", "hnorm.weight", "norm.weight"})
        tensors_[std::string("mtp.0.") + k] = original.at("norm.weight");
    for (const char* k : {"fn", "base", "scale"})
        tensors_[std::string("mtp.0.hc_head_") + k] = original.at(std::string("hc_head_") + k);
    tensors_["mtp.0.e_proj.weight"] = {DType::f32, {64, 64}, std::string(64 * 64 * 4, '\0')};
    EXPECT_EQ(problem().substr(problem().find(": ") + 2),
              "mtp.0.h_proj.weight = (missing): expected F32, F16, BF16 or F8_E4M3 [64, 64], by config.json");
    tensors_["mtp.0.h_proj.weight"] = tensors_["mtp.0.e_proj.weight"];
    tensors_["mtp.0.emb.tok_emb.weight"] = original.at("embed.weight");
    const ModelWeights w = load_changed();
    ASSERT_EQ(w.mtp.size(), 1u);
    EXPECT_TRUE(w.warnings.empty()) << w.warnings[0];
    EXPECT_EQ(w.mtp[0].block.ffn.experts.size(), 8u);
    EXPECT_EQ(w.n_params, 570977);  // the trunk's
    config_.n_mtp_layers = 0;
    EXPECT_TRUE(contains(problem(), "accepted"));
}

TEST_F(Changed, MisalignedDataIsCopied) {
    // One odd byte ahead of everything: no F32 in this file lies at a multiple of four.
    std::vector<TensorPlan> plan = {{"odd", DType::u8, {1}}};
    for (const auto& [name, e] : tensors_) plan.push_back({name, e.dtype, e.shape});
    SafetensorsWriter writer((folder_ / "model.safetensors").string(), plan);
    writer.write("x", 1);
    for (const auto& [name, e] : tensors_) writer.write(e.bytes.data(), e.bytes.size());
    writer.finish();
    const ModelWeights w = load_weights(folder_.string(), config_);
    for_each_param(w, [](const Param& p) {
        EXPECT_EQ(reinterpret_cast<uintptr_t>(p.view.data) % (dtype_bits(p.view.dtype) / 8), 0u) << p.name;
    });
    EXPECT_EQ(all_values(w), all_values(load(kFlash)));
}

TEST_F(Changed, HalfPrecisionAndScalesInF32) {
    auto& e = tensors_["layers.0.attn.wkv.weight"];  // [32, 64] in FP8 with one F32 scale: 0x38 is 1.0
    e = {DType::f8_e4m3, {32, 64}, std::string(32 * 64, '\x38')};
    EXPECT_TRUE(contains(problem(), "layers.0.attn.wkv.scale = (missing): expected F8_E8M0 or F32 [1, 1]"))
        << problem();
    const float scale = 0.3f;
    tensors_["layers.0.attn.wkv.weight_scale_inv"] = {
        DType::f32, {1, 1}, std::string(reinterpret_cast<const char*>(&scale), 4)};
    const uint16_t half[4] = {0x3C00, 0xC000, 0x0001, 0x7BFF};  // 1, -2, 2^-24, 65504
    tensors_["layers.1.attn.attn_sink"] = {DType::f16, {4}, std::string(reinterpret_cast<const char*>(half), 8)};
    const ModelWeights w = load_changed();
    EXPECT_EQ(w.blocks[0].attn.wkv.value(2047), 0.3f);
    EXPECT_EQ(w.blocks[1].attn.sink.value(1), -2.0f);
    EXPECT_EQ(w.blocks[1].attn.sink.value(2), 0x1p-24f);
    EXPECT_EQ(w.blocks[1].attn.sink.value(3), 65504.0f);
    // FP8 is for projections; a norm is not one
    tensors_["norm.weight"] = {DType::f8_e4m3, {64}, std::string(64, '\x38')};
    EXPECT_TRUE(contains(problem(), "norm.weight = F8_E4M3 [64]: expected F32, F16 or BF16 [64]")) << problem();
}

}  // namespace
}  // namespace vitrine
