// config.json in both forms, from the checkpoints we have.
#include "engine/model/config.h"

#include <gtest/gtest.h>

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

TEST(Config, WritesWhatItReads) {
    for (const char* name :
         {"/tests/golden/flashlike", "/tests/golden/prolike", "/tests/golden/official", "/assets/models/seedling"}) {
        const ModelConfig c = read_config(kRoot + name).config;
        const std::string text = config_to_json(c);
        const ParsedConfig again = parse_config(text, "again");
        EXPECT_TRUE(again.warnings.empty());
        EXPECT_EQ(config_to_json(again.config), text);
        EXPECT_EQ(schedule(again.config), schedule(c));
        EXPECT_EQ(again.config.has_yarn, c.has_yarn);
    }
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
