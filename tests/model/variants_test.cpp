// Departures from V4 in config.json: read, written, refused; a session on a kind that it has no cache for.
#include "engine/model/variants.h"

#include <gtest/gtest.h>

#include "engine/base/json.h"
#include "engine/engine.h"
#include "engine/model/config.h"
#include "engine/model/init.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {

const std::string kRoot = VITRINE_SOURCE_DIR;

Json with_variants(const std::string& text) {
    Json j = Json::parse(config_to_json(read_config(kRoot + "/tests/golden/official").config), "config.json");
    j.set("vitrine", Json::parse(text, "config.json"));
    return j;
}

std::string refusal(const std::string& text) {
    try {
        parse_config(with_variants(text).dump(), "config.json");
    } catch (const Error& e) {
        EXPECT_EQ(e.kind(), ErrorKind::bad_input);
        return e.what();
    }
    return "";
}

TEST(Variants, are_read_and_written) {
    const ModelConfig plain = read_config(kRoot + "/tests/golden/official").config;
    EXPECT_EQ(Json::parse(config_to_json(plain), "").find("vitrine"), nullptr);
    const std::string text = R"({"attention": ["mla", "none", "none", "none"], "residual": "hc", "router": "top_p",
        "router_top_p": 0.5, "q_norm": false, "kv_norm": false, "n_kv_heads": 1, "kv_lora_rank": 24,
        "attention_softcap": 30.5})";
    const ParsedConfig p = parse_config(with_variants(text).dump(), "config.json");
    EXPECT_TRUE(p.warnings.empty());
    const Variants& v = p.config.variants;
    EXPECT_EQ(p.config.layers[0].attention, AttentionOverride::mla);
    EXPECT_EQ(p.config.layers[1].attention, AttentionOverride::none);
    EXPECT_EQ(v.residual, ResidualKind::hc);
    EXPECT_EQ(v.router, RouterKind::top_p);
    EXPECT_EQ(v.router_top_p, 0.5);
    EXPECT_FALSE(v.q_norm || v.kv_norm);
    EXPECT_EQ(v.n_kv_heads, 1);
    EXPECT_EQ(v.kv_lora_rank, 24);
    EXPECT_EQ(v.attention_softcap, 30.5);
    EXPECT_EQ(Json::parse(config_to_json(p.config), "").at("vitrine"), Json::parse(text, ""));
}

TEST(Variants, what_is_wrong_is_named) {
    const auto names = [](const std::string& text, const char* part) {
        const std::string message = refusal(text);
        EXPECT_NE(message.find(part), std::string::npos) << text << ": " << message;
    };
    names(R"([])", "vitrine");
    names(R"({"attenton": []})", "did you mean \"attention\"");
    names(R"({"attention": ["full"]})", "4 names");
    names(R"({"attention": ["ful", "none", "none", "none"]})", "vitrine.attention[0] = \"ful\"");
    names(R"({"attention": ["none", "full", "none", "none"]})", "vitrine.attention[1]");  // a CSA layer
    names(R"({"attention": ["mla", "none", "none", "none"]})", "vitrine.kv_lora_rank");
    names(R"({"attention": ["gqa", "none", "none", "none"], "n_kv_heads": 3})", "divisor");
    names(R"({"q_norm": 1})", "vitrine.q_norm");
    names(R"({"router_top_p": 0})", "vitrine.router_top_p");
    names(R"({"attention_softcap": -1})", "vitrine.attention_softcap");
    names(R"({"kv_lora_rank": -1})", "vitrine.kv_lora_rank");
    names(R"({"residual": "hcm"})", "\"mhc_lite\"");
}

TEST(Variants, a_checkpoint_loads_and_a_session_refuses_it_by_layer_and_kind) {
    for (const auto kind : {AttentionOverride::full, AttentionOverride::gqa, AttentionOverride::mla}) {
        ModelConfig c = read_config(kRoot + "/tests/golden/flashlike").config;
        c.vocab_size = 300;
        c.variants.kv_lora_rank = 12, c.variants.n_kv_heads = 2;
        for (LayerConfig& l : c.layers)
            if (l.ratio == 0) l.attention = kind;
        const test::TempFolder folder;
        init_checkpoint(c, 1, WeightsFormat::f32, folder.path() + "/m");
        const auto engine = Engine::load(folder.path() + "/m", {});
        EXPECT_TRUE(engine->info().warnings.empty());
        try {
            engine->new_session();
            ADD_FAILURE();
        } catch (const Error& e) {
            EXPECT_EQ(e.kind(), ErrorKind::bad_input);
            EXPECT_NE(std::string(e.what()).find("layer 0"), std::string::npos) << e.what();
            EXPECT_NE(std::string(e.what()).find(attention_name(kind)), std::string::npos) << e.what();
        }
    }
}

}  // namespace
}  // namespace vitrine
