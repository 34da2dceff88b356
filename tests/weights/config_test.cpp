// config.json in both forms, from the checkpoints we have.
#include "engine/model/config.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/base/json.h"
#include "engine/base/reader.h"

namespace vitrine {
namespace {

const std::string kRoot = VITRINE_SOURCE_DIR;

std::string schedule(const ModelConfig& c) {
    std::string s;
    for (const LayerConfig& l : c.layers)
        s += l.is_hash_routed ? static_cast<char>(layer_glyph(l.kind()) | 0x20) : layer_glyph(l.kind());
    return s;
}

TEST(Config, TransformersForm) {
    const ParsedConfig p = read_config(kRoot + "/tests/golden/flashlike");
    const ModelConfig& c = p.config;
    EXPECT_TRUE(p.warnings.empty()) << p.warnings.front();
    EXPECT_EQ(schedule(c), "ssCHCH");
    EXPECT_EQ(c.layers[3].ratio, 16);
    EXPECT_EQ(c.rope_dim, 8);
    EXPECT_TRUE(c.has_yarn);
    EXPECT_EQ(c.yarn.factor, 16);
    EXPECT_EQ(c.yarn.original_max_position, 4096);
    EXPECT_EQ(c.compress_rope_theta, 160000);
    EXPECT_EQ(schedule(read_config(kRoot + "/tests/golden/prolike").config), "hHCHC");
    EXPECT_FALSE(read_config(kRoot + "/tests/golden/prolike").config.has_yarn);
    EXPECT_EQ(schedule(read_config(kRoot + "/assets/models/seedling").config), "ssCHCHCH");
}

TEST(Config, OfficialForm) {
    const ParsedConfig p = read_config(kRoot + "/tests/golden/official");
    EXPECT_TRUE(p.warnings.empty()) << p.warnings.front();
    EXPECT_EQ(schedule(p.config), "sCHC");
    EXPECT_EQ(p.config.rope_dim, 32);
    EXPECT_TRUE(p.config.has_yarn);
    EXPECT_EQ(p.config.shared_width(), 128);
    EXPECT_EQ(p.config.max_position, 65536);
}

struct Edit {
    const char *key, *value;  // value null: the key is taken out
};
Json edited(const char* folder, const std::vector<Edit>& edits) {
    Json j = Json::parse(read_file(kRoot + folder + "/config.json", 1 << 20), "seed");
    for (const Edit& e : edits) {
        Json out = Json::object();
        for (const auto& [k, v] : j.members())
            if (k != e.key) out.set(k, v);
        if (e.value) out.set(e.key, Json::parse(e.value, e.key));
        j = std::move(out);
    }
    return j;
}
ParsedConfig parsed(const char* folder, const std::vector<Edit>& edits) {
    return parse_config(edited(folder, edits).dump(1), "f");
}
constexpr const char *kFlash = "/tests/golden/flashlike", *kOfficial = "/tests/golden/official";

// The two warnings of a config that transformers saved after rope_parameters alone was given.
TEST(Config, NestedRopeParametersWin) {
    const ParsedConfig p = parsed(
        kFlash,
        {{"rope_theta", "20000"}, {"compress_rope_theta", "1e6"}, {"partial_rotary_factor", "0.125"}, {"qk_rope_head_dim", "4"}});
    EXPECT_EQ(p.config.rope_theta, 10000);
    EXPECT_EQ(p.config.compress_rope_theta, 160000);
    EXPECT_EQ(p.config.rope_dim, 8);
    ASSERT_EQ(p.warnings.size(), 3u);
    EXPECT_NE(p.warnings[0].find("rope_theta = 20000 (line "), std::string::npos) << p.warnings[0];
    EXPECT_NE(p.warnings[0].find("not used: rope_parameters says 10000"), std::string::npos) << p.warnings[0];
    EXPECT_NE(p.warnings[1].find("rope_parameters says 160000"), std::string::npos) << p.warnings[1];
    EXPECT_NE(p.warnings[2].find("rope_parameters rotates 8"), std::string::npos) << p.warnings[2];
    EXPECT_EQ(parsed(kFlash, {{"qk_rope_head_dim", nullptr}, {"partial_rotary_factor", "0.5"}}).config.rope_dim, 8);
}

// rope_parameters as rope_scaling was: for compressed layers, with the thetas of the top.
TEST(Config, FlatRopeParametersAreForCompressedLayers) {
    const ModelConfig whole = parsed(kFlash, {}).config;
    const char* yarn = R"({"rope_type": "yarn", "factor": 16, "original_max_position_embeddings": 4096, "beta_fast": 32,
                           "beta_slow": 1})";
    const ParsedConfig p = parsed(kFlash, {{"rope_parameters", yarn}});
    EXPECT_EQ(p.config, whole);
    EXPECT_TRUE(p.warnings.empty()) << p.warnings.front();
    EXPECT_FALSE(parsed(kFlash, {{"rope_parameters", R"({"rope_type": "default"})"}}).config.has_yarn);
}

TEST(Config, WhatThePublishedCodeIgnoresIsAWarning) {
    const ParsedConfig p = parsed(kOfficial, {{"norm_topk_prob", "false"}});
    EXPECT_TRUE(p.config.norm_topk_prob);
    ASSERT_EQ(p.warnings.size(), 1u);
    EXPECT_NE(p.warnings[0].find("norm_topk_prob = false (line "), std::string::npos) << p.warnings[0];
    const char* yarn = R"({"type": "yarn", "factor": 16, "original_max_position_embeddings": 4096, "beta_fast": 32,
                           "beta_slow": 1, "truncate": false})";
    ASSERT_EQ(parsed(kOfficial, {{"rope_scaling", yarn}}).warnings.size(), 1u);
}

// The one place where transformers, given the same file, computes something else.
TEST(Config, AMissingAttentionFactorIsTold) {
    const ParsedConfig p = parsed(kFlash, {{"rope_parameters", R"({"main": {"rope_type": "default", "rope_theta": 10000.0},
        "compress": {"rope_type": "yarn", "rope_theta": 160000.0, "factor": 16, "original_max_position_embeddings": 4096,
                     "beta_fast": 32, "beta_slow": 1}})"}});
    ASSERT_EQ(p.warnings.size(), 1u);
    EXPECT_NE(p.warnings[0].find("attention_factor = (missing)"), std::string::npos) << p.warnings[0];
    EXPECT_EQ(p.config, parsed(kFlash, {}).config);
}

TEST(Config, EveryLayerMayBeHashRouted) {
    EXPECT_EQ(schedule(parsed(kOfficial, {{"num_hash_layers", "9"}, {"num_nextn_predict_layers", "0"}}).config), "schc");
}

// A module of another kind than ours would guess with another model's numbers.
TEST(Config, AnMtpModuleOfAnotherKindIsNotUsed) {
    for (const Edit& e : {Edit{"compress_ratios", "[0, 4, 16, 4, 4]"}, Edit{"num_hash_layers", "5"}}) {
        const ParsedConfig p = parsed(kOfficial, {{"num_nextn_predict_layers", "1"}, e});
        EXPECT_EQ(p.config.n_mtp_layers, 0);
        ASSERT_EQ(p.warnings.size(), 1u);
        EXPECT_NE(p.warnings[0].find("the MTP module is not used"), std::string::npos) << p.warnings[0];
    }
    const ParsedConfig p = parsed(kOfficial, {{"num_nextn_predict_layers", "1"}, {"compress_ratios", "[0, 4, 16, 4, 0]"}});
    EXPECT_EQ(p.config.n_mtp_layers, 1);
    EXPECT_TRUE(p.warnings.empty());
}

TEST(Config, EndTokens) {
    const ModelConfig one = parsed(kOfficial, {{"eos_token_id", "[3, 7]"}, {"bos_token_id", "null"}}).config;
    EXPECT_EQ(one.bos_id, -1);
    EXPECT_EQ(one.eos_id, 3);
    EXPECT_TRUE(one.ends_text(3));
    EXPECT_TRUE(one.ends_text(7));
    EXPECT_FALSE(one.ends_text(1));
    const ModelConfig none = parsed(kOfficial, {{"eos_token_id", "null"}}).config;
    EXPECT_EQ(none.eos_id, -1);
    EXPECT_FALSE(none.ends_text(-1));
    EXPECT_FALSE(none.ends_text(1));
}

TEST(Config, NoClamp) {
    for (const char* none : {"0", "0.0", "null"})
        EXPECT_TRUE(std::isinf(parsed(kOfficial, {{"swiglu_limit", none}}).config.swiglu_limit)) << none;
}

// Whatever is accepted is written so that it reads as the same model.
TEST(Config, WritesWhatItReads) {
    int n = 0;
    const auto expect_same = [&](const ModelConfig& c, const std::string& what) {
        ++n;
        const std::string text = config_to_json(c);
        try {
            const ParsedConfig again = parse_config(text, "again");
            EXPECT_TRUE(again.warnings.empty()) << what << ": " << again.warnings.front();
            EXPECT_TRUE(again.config == c) << what << "\n" << text;
            EXPECT_EQ(config_to_json(again.config), text) << what;
        } catch (const Error& e) {
            ADD_FAILURE() << what << ": " << e.what();
        }
    };
    for (const char* name : {kFlash, "/tests/golden/prolike", kOfficial, "/assets/models/seedling", "/assets/models/nano"})
        expect_same(parsed(name, {}).config, name);
    // One choice of each row, all combinations; what the reader refuses is not asked for.
    const std::vector<std::vector<std::vector<Edit>>> rows = {
        {{},
         {{"layer_types", R"(["sliding_attention", "sliding_attention", "sliding_attention"])"}},
         {{"layer_types", R"(["heavily_compressed_attention", "sliding_attention", "heavily_compressed_attention"])"},
          {"compress_rates", R"({"heavily_compressed_attention": 7})"}},
         {{"layer_types", R"(["sliding_attention", "compressed_sparse_attention", "compressed_sparse_attention"])"}},
         {{"layer_types", nullptr}, {"compress_rates", nullptr}, {"compress_ratios", "[3, 0, 4, 0, 0]"}}},
        {{},
         {{"mlp_layer_types", R"(["moe", "moe", "moe"])"}},
         {{"mlp_layer_types", R"(["moe", "hash_moe", "moe"])"}},
         {{"mlp_layer_types", R"(["hash_moe", "moe", "hash_moe"])"}},
         {{"mlp_layer_types", nullptr}, {"num_hash_layers", "99"}}},
        {{},
         {{"index_n_heads", nullptr}, {"index_head_dim", nullptr}, {"index_topk", nullptr}}},
        {{},
         {{"rope_parameters", nullptr}, {"rope_scaling", "null"}},
         {{"rope_parameters", nullptr}, {"rope_scaling", "null"}, {"compress_rope_theta", nullptr}},
         {{"compress_rope_theta", nullptr}, {"rope_theta", nullptr}},
         {{"rope_parameters", R"({"main": {"rope_type": "default", "rope_theta": 1234.5678, "partial_rotary_factor": 0.5}})"}}},
        {{},
         {{"eos_token_id", "[1, 5, 9]"}, {"pad_token_id", "2"}},
         {{"eos_token_id", "null"}, {"bos_token_id", "null"}, {"swiglu_limit", "null"}},
         {{"swiglu_limit", "0.1"}, {"hc_eps", "1e-7"}, {"routed_scaling_factor", "0.1"}, {"norm_topk_prob", "false"}}},
        {{},
         {{"num_nextn_predict_layers", "2"}, {"vitrine", R"({"residual": "hc", "q_norm": false, "router": "topk"})"}},
         {{"partial_rotary_factor", "1.0"}, {"qk_rope_head_dim", nullptr}, {"rms_norm_eps", "0"}}}};
    std::vector<size_t> at(rows.size());
    for (bool is_done = false; !is_done;) {
        std::vector<Edit> edits = {
            {"num_hidden_layers", "3"},
            {"layer_types", R"(["sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"])"},
            {"mlp_layer_types", R"(["hash_moe", "moe", "moe"])"}};
        std::string what;
        for (size_t r = 0; r < rows.size(); ++r) {
            edits.insert(edits.end(), rows[r][at[r]].begin(), rows[r][at[r]].end());
            what += std::to_string(at[r]) + " ";
        }
        const std::string text = edited(kFlash, edits).dump(1);
        try {
            expect_same(parse_config(text, "first").config, what);
        } catch (const Error&) {
        }
        is_done = true;
        for (size_t r = 0; r < rows.size() && is_done; ++r) is_done = ++at[r] == rows[r].size() && (at[r] = 0, true);
    }
    EXPECT_GE(n, 500);
}

TEST(Config, ReferenceNeedsAPowerOfTwo) {
    ModelConfig c = read_config(kRoot + "/tests/golden/official").config;
    EXPECT_TRUE(validate_reference(c, "f").empty());
    c.index_head_dim = 96;
    EXPECT_TRUE(validate(c, "f").empty());
    ASSERT_EQ(validate_reference(c, "f").size(), 1u);
    EXPECT_EQ(validate_reference(c, "f")[0].key, "index_head_dim");
}

}  // namespace
}  // namespace vitrine
