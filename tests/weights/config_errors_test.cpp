// Bad configurations, made systematically: every key missing, of the wrong type, out of its range, misspelt; and
// contradictions. Each message names file, key, value, what was expected and the place.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/base/json.h"
#include "engine/base/reader.h"
#include "engine/model/config.h"

namespace vitrine {
namespace {

const std::string kRoot = VITRINE_SOURCE_DIR;

std::string error_of(const std::string& text) {
    try {
        parse_config(text, "dir/config.json");
    } catch (const Error& e) {
        EXPECT_EQ(e.kind(), ErrorKind::bad_input);
        return e.what();
    }
    return "accepted";
}

// "line 3, column 8" of the value of `key` in pretty-printed JSON.
std::string place_of(const std::string& text, const std::string& key) {
    const size_t at = text.find("\n \"" + key + "\": ") + key.size() + 6;
    const std::string before = text.substr(0, at);
    return "line " + std::to_string(1 + std::count(before.begin(), before.end(), '\n')) + ", column " +
           std::to_string(at - before.rfind('\n'));
}

int n_cases = 0;

void expect_all(const std::string& text, const std::vector<std::string>& parts, const std::string& what) {
    ++n_cases;
    const std::string e = error_of(text);
    for (const std::string& part : parts)
        EXPECT_NE(e.find(part), std::string::npos) << what << ": wanted " << part << "\n" << e;
    for (char c : e) EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << what;
}

struct Range {
    const char* key;
    double lo, hi;
    bool is_integer;
};
const std::vector<Range> kRanges = {{"vocab_size", 1, 4194304, true},
                                    {"hidden_size", 1, 65536, true},
                                    {"num_attention_heads", 1, 4096, true},
                                    {"head_dim", 2, 4096, true},
                                    {"q_lora_rank", 1, 65536, true},
                                    {"o_groups", 1, 4096, true},
                                    {"o_lora_rank", 1, 65536, true},
                                    {"sliding_window", 1, 65536, true},
                                    {"index_n_heads", 1, 4096, true},
                                    {"index_head_dim", 2, 4096, true},
                                    {"index_topk", 1, 1048576, true},
                                    {"n_routed_experts", 1, 65536, true},
                                    {"n_shared_experts", 1, 64, true},
                                    {"num_experts_per_tok", 1, 65536, true},
                                    {"moe_intermediate_size", 1, 65536, true},
                                    {"hc_mult", 1, 16, true},
                                    {"hc_sinkhorn_iters", 1, 1000, true},
                                    {"num_nextn_predict_layers", 0, 16, true},
                                    {"num_hidden_layers", 1, 1024, true},
                                    {"max_position_embeddings", 1, 2147483648.0, true},
                                    {"hc_eps", 0, 0.1, false},
                                    {"rms_norm_eps", 0, 0.1, false},
                                    {"routed_scaling_factor", 1e-6, 1e6, false}};

Json seed(const char* folder) {
    return Json::parse(read_file(kRoot + folder + "/config.json", 1 << 20), "seed");
}
Json without(const Json& j, const std::string& key, const std::string& other = "", Json value = {}) {
    Json out = Json::object();
    for (const auto& [k, v] : j.members())
        if (k != key)
            out.set(k, v);
        else if (!other.empty())
            out.set(other, value.is_null() ? v : value);
    return out;
}
Json with(const Json& j, const std::string& key, Json value) {
    Json out = j;
    out.set(key, std::move(value));
    return out;
}

TEST(ConfigErrors, EveryNumber) {
    for (const char* folder : {"/tests/golden/official", "/tests/golden/prolike"}) {
        const Json good = seed(folder);
        ASSERT_EQ(error_of(good.dump(1)), "accepted");
        for (const Range& r : kRanges) {
            const std::string key = r.key, kind = r.is_integer ? "expected an integer in [" : "expected a number in [";
            expect_all(without(good, key).dump(1), {"dir/config.json: " + key + " = (missing): " + kind},
                       key + " missing");
            std::vector<Json> bad = {Json("7"), Json(true), Json(), Json::array(), Json(uint64_t{1} << 63)};
            if (r.is_integer) {
                for (int64_t v : {static_cast<int64_t>(r.lo) - 1, static_cast<int64_t>(r.hi) + 1, int64_t{1} << 40,
                                  INT64_MIN, INT64_MAX})
                    bad.emplace_back(v);
                bad.emplace_back(r.lo + 0.5);
            } else {
                for (double v : {-1.0, r.hi * 2, 1e300}) bad.emplace_back(v);
            }
            for (const Json& v : bad) {
                const std::string text = with(good, key, v).dump(1);
                const std::string shown = v.is_array() ? "an array" : v.dump();
                expect_all(text, {key + " = " + shown + " (" + place_of(text, key) + "): " + kind},
                           key + " = " + shown);
            }
            // NaN and 1e400 are no JSON: the place is named by the parser
            for (const char* v : {"NaN", "1e400", "-Infinity"}) {
                std::string text = with(good, key, Json("@")).dump(1);
                const std::string place = place_of(text, key);
                text.replace(text.find("\"@\""), 3, v);
                expect_all(text, {"dir/config.json: not valid JSON (" + place.substr(0, place.find(',')) + ","},
                           key + " = " + v);
            }
            std::string misspelt = key;
            std::swap(misspelt[1], misspelt[2]);
            if (misspelt == key) misspelt += "x";
            expect_all(without(good, key, misspelt).dump(1), {key + " = (missing)", "is \"" + misspelt + "\" (line "},
                       misspelt);
        }
    }
    EXPECT_GE(n_cases, 200);
}

TEST(ConfigErrors, ChoicesAndStructures) {
    const Json o = seed("/tests/golden/official"), t = seed("/tests/golden/flashlike");
    const auto both = [](const Json& j, const std::string& key, Json v, const std::string& expected) {
        const std::string text = with(j, key, std::move(v)).dump(1);
        expect_all(text, {"dir/config.json: " + key, place_of(text, key), expected}, key);
    };
    both(o, "model_type", "deepseek_v3", "= \"deepseek_v3\"");
    both(o, "scoring_func", "sigmoid", "expected \"sqrtsoftplus\", nothing else is implemented");
    both(o, "topk_method", "greedy", "expected \"noaux_tc\"");
    both(o, "hidden_act", "gelu", "expected \"silu\"");
    both(o, "attention_bias", true, "expected false");
    both(o, "tie_word_embeddings", true, "expected false");
    both(o, "tie_word_embeddings", "no", "expected false");
    both(o, "norm_topk_prob", 1, "expected true or false");
    both(o, "swiglu_limit", -1, "expected a number in [1e-06, 1000000]");
    both(o, "swiglu_limit", "10", "expected a number in [1e-06, 1000000]");
    both(o, "bos_token_id", -1, "expected an integer in [0, 4194303]");
    both(o, "bos_token_id", Json::array(), "expected an integer in [0, 4194303]");
    both(o, "eos_token_id", 1.5, "expected an integer in [0, 4194303]");
    both(o, "eos_token_id", true, "expected an integer in [0, 4194303]");
    both(o, "num_key_value_heads", 4, "expected 1");
    both(o, "expert_dtype", "int4", "expected \"fp4\" or \"fp8\"");
    both(o, "quantization_config", "fp8", "expected an object");
    both(o, "compress_ratios", "0,4", "expected at least 4 numbers");
    both(o, "rope_scaling", 16, "expected an object of YaRN's numbers, or null");
    both(t, "rope_parameters", 1, "expected an object with main and compress");
    both(t, "mlp_layer_types", Json::array(), "expected 6 strings");
    both(t, "layer_types", Json::array(), "expected 6 strings");
    both(t, "layer_types", 3, "expected 6 strings");
    both(t, "compress_rates", 4, "expected an object with compressed_sparse_attention");
    for (const char* key : {"model_type", "scoring_func", "hidden_act", "norm_topk_prob", "compress_ratios",
                            "num_hash_layers", "rope_scaling", "swiglu_limit", "bos_token_id", "eos_token_id"})
        expect_all(without(o, key).dump(1), {std::string(key) + " = (missing)"}, key);
    for (const char* key : {"compress_rates", "mlp_layer_types"})
        expect_all(without(t, key).dump(1), {"(missing)"}, key);
    expect_all(without(t, "layer_types").dump(1), {"compress_ratios = (missing)", "or layer_types"}, "neither form");
    expect_all("[]", {"dir/config.json: an array (line 1, column 1): expected an object"}, "an array");
}

TEST(ConfigErrors, InsideLists) {
    const Json o = seed("/tests/golden/official"), t = seed("/tests/golden/flashlike");
    const auto list = [](const char* text) { return Json::parse(text, "t"); };
    expect_all(with(o, "compress_ratios", list("[0, 4, -16, 4]")).dump(1),
               {"compress_ratios[2] = -16 (line ", "expected 0 (window only), 4 (CSA)"}, "negative");
    expect_all(with(o, "compress_ratios", list("[0, 4, 16.5, 4]")).dump(1), {"compress_ratios[2] = 16.5"}, "real");
    expect_all(with(o, "compress_ratios", list("[0, 4, 16, 99999]")).dump(1), {"compress_ratios[3] = 99999"}, "large");
    expect_all(with(o, "compress_ratios", list("[0, 4, 16]")).dump(1),
               {"expected at least 4 numbers, one per layer, found 3"}, "short");
    EXPECT_EQ(error_of(with(o, "compress_ratios", list("[0, 4, 16, 4, 0, 0]")).dump(1)), "accepted");
    expect_all(
        with(
            t, "layer_types",
            list(
                R"(["sliding_attention", "sliding", "compressed_sparse_attention", "heavily_compressed_attention", "x", 3])"))
            .dump(1),
        {"layer_types[1] = \"sliding\"", "layer_types[4] = \"x\"", "layer_types[5] = 3",
         "expected \"sliding_attention\""},
        "kinds");
    expect_all(with(t, "mlp_layer_types", list(R"(["hash_moe", "dense", "moe", "moe", "moe", "moe"])")).dump(1),
               {"mlp_layer_types[1] = \"dense\""}, "mlp");
    expect_all(with(o, "eos_token_id", list("[1, -2]")).dump(1), {"eos_token_id[1] = -2 (line "}, "end tokens");
    expect_all(with(o, "eos_token_id", list("[1, 512]")).dump(1), {"eos_token_id = 512", "below vocab_size = 512"}, "end tokens");
    const Json rope = *t.find("rope_parameters");
    const Json half = with(*rope.find("compress"), "partial_rotary_factor", 0.5);
    expect_all(with(t, "rope_parameters", with(rope, "compress", half)).dump(1),
               {"rope_parameters.compress.partial_rotary_factor = 0.5", "expected it to agree with main"}, "two sizes");
    const auto yarn = [&](const char* text) { return with(o, "rope_scaling", list(text)).dump(1); };
    expect_all(yarn(R"({"type": "linear", "factor": 2})"),
               {"rope_scaling.type = \"linear\"", "expected \"yarn\" or \"default\""}, "linear");
    expect_all(yarn(R"({"type": "yarn"})"),
               {"rope_scaling.factor = (missing)", "rope_scaling.beta_fast = (missing)",
                "rope_scaling.original_max_position_embeddings = (missing)"},
               "empty yarn");
    expect_all(
        yarn(
            R"({"type": "yarn", "factor": 0.5, "beta_fast": 1, "beta_slow": 32, "original_max_position_embeddings": 0})"),
        {"rope_scaling.factor = 0.5 (line ", "rope_scaling.beta_fast = 1", "expected more than beta_slow = 32",
         "rope_scaling.original_max_position_embeddings = 0"},
        "odd yarn");
    expect_all(yarn(R"({"type": "yarn", "rope_type": "default", "factor": 4})"),
               {"expected it to agree with rope_type"}, "two types");
}

TEST(ConfigErrors, Contradictions) {
    const Json o = seed("/tests/golden/official"), t = seed("/tests/golden/flashlike");
    const auto one = [](const Json& j, const char* key, Json v, const std::string& expected) {
        const std::string text = with(j, key, std::move(v)).dump(1);
        expect_all(text, {std::string("dir/config.json: ") + key + " = ", place_of(text, key), expected}, key);
    };
    one(o, "num_experts_per_tok", 9, "expected at most n_routed_experts = 8");
    one(o, "o_groups", 3, "expected a divisor of num_attention_heads = 4");
    one(o, "qk_rope_head_dim", 130, "expected an even integer in [2, 128], head_dim");
    one(o, "qk_rope_head_dim", 31, "expected an even integer");
    one(o, "index_head_dim", 16, "expected at least qk_rope_head_dim = 32");
    one(o, "bos_token_id", 512, "expected a token below vocab_size = 512");
    one(o, "eos_token_id", 100000, "expected a token below vocab_size = 512");
    one(o, "num_hash_layers", 1025, "expected an integer in [0, 1024]");
    expect_all(with(o, "num_hidden_layers", 9).dump(1),
               {"compress_ratios = an array (line ", "expected at least 9 numbers, one per layer, found 4"}, "layers");
    expect_all(with(t, "num_hash_layers", 1).dump(1),
               {"mlp_layer_types[1] = \"hash_moe\"", "expected it to agree with num_hash_layers"}, "hash layers");
    const Json types = Json::parse(
        R"(["sliding_attention", "compressed_sparse_attention", "compressed_sparse_attention", "compressed_sparse_attention"])",
        "t");
    expect_all(with(o, "layer_types", types).dump(1),
               {"layer_types[2] = ", "expected it to agree with compress_ratios[2] = 16"}, "two schedules");
}

// What follows from a key that is missing or wrong is not told beside it.
TEST(ConfigErrors, OnlyTheCauseIsTold) {
    for (const char* folder : {"/tests/golden/official", "/tests/golden/prolike", "/tests/golden/flashlike"}) {
        const Json good = seed(folder);
        const auto one_line = [](const Json& j, const std::string& what) {
            const std::string e = error_of(j.dump(1));
            EXPECT_EQ(std::count(e.begin(), e.end(), '\n'), 0) << what << ": " << e;
        };
        for (const auto& [key, value] : good.members()) {
            one_line(without(good, key), key + " missing");
            one_line(with(good, key, Json("x")), key + " of another type");
        }
    }
    // Two causes are still two.
    const std::string e = error_of(with(without(seed("/tests/golden/official"), "vocab_size"), "o_groups", 3).dump(1));
    EXPECT_NE(e.find("vocab_size = (missing)"), std::string::npos) << e;
    EXPECT_NE(e.find("o_groups = 3"), std::string::npos) << e;
    EXPECT_EQ(e.find("bos_token_id"), std::string::npos) << e;
}

TEST(ConfigErrors, UpToTwentyAtOnce) {
    Json j = seed("/tests/golden/official");
    for (const Range& r : kRanges) j = with(j, r.key, "x");
    const std::string e = error_of(j.dump(1));
    EXPECT_EQ(std::count(e.begin(), e.end(), '\n'), 20);
    EXPECT_NE(e.find("... and "), std::string::npos);
}

TEST(ConfigErrors, UnknownKeysWarnWithTheNearestName) {
    Json j = with(seed("/tests/golden/official"), "swiglu_limt", 3);
    const ParsedConfig p = parse_config(j.dump(1), "f");
    ASSERT_EQ(p.warnings.size(), 1u);
    EXPECT_NE(p.warnings[0].find("swiglu_limt"), std::string::npos);
    EXPECT_NE(p.warnings[0].find("did you mean \"swiglu_limit\"?"), std::string::npos) << p.warnings[0];
    EXPECT_NE(p.warnings[0].find("line "), std::string::npos);
    EXPECT_EQ(p.config.swiglu_limit, 10);
}

TEST(ConfigErrors, LongAndHostileValuesAreCutAndEscaped) {
    Json j = with(seed("/tests/golden/official"), "hidden_act", std::string(1000000 / 2, 'x') + "\x1B[2J");
    EXPECT_LT(error_of(j.dump(1)).size(), 400u);
    j = with(j, "hidden_act", "\x1B]0;title\x07\xE2\x80\xAE");
    expect_all(j.dump(1), {"<U+202E>"}, "escapes");
    EXPECT_NE(error_of(std::string((1 << 20) + 1, ' ')).find("at most 1048576"), std::string::npos);
}

}  // namespace
}  // namespace vitrine
