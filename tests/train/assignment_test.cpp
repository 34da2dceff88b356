// Who moves which weight (v4-spec 10.2), by name.
#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>

#include "engine/train/optimizer.h"
#include "tests/train/small_model.h"

namespace vitrine {
namespace {

// The specification's list, over layer kinds: sliding with hash routing, CSA, HCA, and the MTP module.
const std::regex kMuon(
    R"((layers\.\d+|mtp\.\d+)\.(attn\.(wq_a|wq_b|wkv|wo_a|wo_b|compressor\.(wkv|wgate)|indexer\.(wq_b|weights_proj|)"
    R"(compressor\.(wkv|wgate)))\.weight|ffn\.gate\.weight|ffn\.(experts\.\d+|shared_experts)\.w[123]\.weight|)"
    R"(hc_(attn|ffn)_fn|[eh]_proj\.weight))");
const std::regex kSignRule(R"((layers\.\d+|mtp\.\d+)\.ffn\.gate\.bias)");
const std::regex kAdamW(
    R"(embed\.weight|head\.weight|norm\.weight|hc_head_(fn|base|scale)|mtp\.\d+\.(norm|enorm|hnorm)\.weight|mtp\.\d+\.hc_head_(fn|)"
    R"(base|scale)|(layers\.\d+|mtp\.\d+)\.((attn|ffn)_norm\.weight|hc_(attn|ffn)_(base|scale)|attn\.(q_norm|kv_norm)\.weight|)"
    R"(attn\.attn_sink|attn\.((indexer\.)?compressor)\.(ape|norm\.weight)))");
// Of AdamW's: what decays with decay=matrices.
const std::regex kDecays(R"(embed\.weight|head\.weight)");

TEST(Assignment, is_the_specification_s_by_name) {
    const TrainConfig c = test::small_training();
    ModelConfig m = test::small_model();
    ModelWeights w = fresh_weights(m, c);
    const Masters masters(w, m, DType::f32);
    std::map<MovedBy, int> n;
    for (const Leaf& l : masters.leaves()) {
        const bool is_muon = std::regex_match(l.name, kMuon), is_adamw = std::regex_match(l.name, kAdamW),
                   is_sign = std::regex_match(l.name, kSignRule);
        ASSERT_EQ(is_muon + is_adamw + is_sign, 1) << l.name;
        const MovedBy want = is_muon ? MovedBy::muon : is_adamw ? MovedBy::adamw : MovedBy::sign_rule;
        EXPECT_EQ(moved_by(l, OptimizerKind::muon), want) << l.name;
        EXPECT_EQ(moved_by(l, OptimizerKind::adamw), is_sign ? MovedBy::sign_rule : MovedBy::adamw) << l.name;
        EXPECT_EQ(decays(l, DecayScope::matrices), is_muon || std::regex_match(l.name, kDecays)) << l.name;
        EXPECT_EQ(decays(l, DecayScope::all), !is_sign) << l.name;
        EXPECT_EQ(l.n_matrices, l.name.ends_with(".wo_a.weight") ? m.o_groups : 1) << l.name;
        ++n[want];
    }
    EXPECT_GT(n[MovedBy::muon], 60);
    EXPECT_GT(n[MovedBy::adamw], 30);
    EXPECT_EQ(n[MovedBy::sign_rule], 3) << "two layers routed by score and the MTP module";
}

// What the optimizer keeps says who it was: a momentum for Muon, mean and square for AdamW, nothing for the sign rule.
TEST(Assignment, is_what_a_run_does) {
    TrainConfig c = test::small_training();
    c.optimizer = OptimizerKind::muon;
    const auto t = test::small_trainer(c);
    std::set<std::string> names;
    for (const Trainer::State::Array& a : t->state().arrays) names.insert(a.name);
    for (const Leaf& l : t->masters().leaves()) {
        EXPECT_EQ(names.contains("momentum/" + l.name), std::regex_match(l.name, kMuon)) << l.name;
        for (const char* kind : {"mean/", "square/"})
            EXPECT_EQ(names.contains(kind + l.name), std::regex_match(l.name, kAdamW)) << l.name;
    }
}

// Each group of wo_a is made orthogonal by itself, each expert's matrices too.
TEST(Assignment, output_groups_are_matrices_of_their_own) {
    TrainConfig c = test::small_training();
    c.optimizer = OptimizerKind::muon, c.lr = 1, c.warmup_steps = 0, c.weight_decay = 0, c.clip = 0, c.dtype = TrainDType::f64;
    const auto t = test::small_trainer(c);
    const auto values = [&] {
        for (const Leaf& l : t->masters().leaves())
            if (l.name == "layers.1.attn.wo_a.weight")
                return std::vector<double>(l.param->master.as<double>(), l.param->master.as<double>() + l.param->master.count());
        return std::vector<double>{};
    };
    const std::vector<double> before = values();
    t->step();
    std::vector<double> moved = values();
    for (size_t i = 0; i < moved.size(); ++i) moved[i] -= before[i];
    // Two groups [8, 16]: U_g U_g^T = 1, so that what moved has (0.18 sqrt(16))^2 on the diagonal of each group's Gram matrix.
    const double square = 0.18 * 0.18 * 16;
    double across = 0;
    ASSERT_EQ(moved.size(), 2u * 8 * 16);
    for (size_t i = 0; i < 16; ++i)
        for (size_t j = 0; j < 16; ++j) {
            double dot = 0;
            for (size_t k = 0; k < 16; ++k) dot += moved[i * 16 + k] * moved[j * 16 + k];
            const bool is_same_group = i / 8 == j / 8;
            if (is_same_group) {
                EXPECT_NEAR(dot / square, i == j, 0.02) << i << " " << j;
            } else {
                across = std::max(across, std::abs(dot / square));
            }
        }
    EXPECT_GT(across, 0.05) << "made orthogonal together, all sixteen rows would be";
}

}  // namespace
}  // namespace vitrine
