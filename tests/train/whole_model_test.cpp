// The whole model's gradients against central differences in FP64: all layer kinds, MTP, every variant, recomputation.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/base/config/model_config.h"
#include "engine/model/init.h"
#include "engine/model/masters.h"
#include "engine/model/v4.h"
#include "engine/ops/quantize/quantize_tape.h"
#include "engine/ops/training.h"
#include "tests/support/op_fixture.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {

ModelConfig small_model() {
    ModelConfig c;
    c.vocab_size = 272, c.hidden_size = 16;
    c.n_heads = 2, c.head_dim = 12, c.rope_dim = 4, c.q_lora_rank = 8, c.o_groups = 2, c.o_lora_rank = 6;
    c.sliding_window = 5;
    c.index_n_heads = 2, c.index_head_dim = 8, c.index_topk = 2;
    c.n_experts = 4, c.n_shared_experts = 1, c.n_experts_per_tok = 2, c.expert_width = 8;
    c.hc_mult = 2, c.hc_sinkhorn_iters = 20, c.hc_eps = 1e-6;
    c.rms_norm_eps = 1e-6, c.routed_scaling_factor = 1.5, c.swiglu_limit = 10;
    c.rope_theta = 1e4, c.compress_rope_theta = 1.6e5;
    c.max_position = 1024;
    c.n_mtp_layers = 1;
    c.layers = {{0, true}, {4, false}, {6, false}, {0, false}};
    return c;
}

// A model in FP64, the loss on two packed samples, and its gradients.
class Model {
  public:
    explicit Model(const ModelConfig& config) : c(config) {
        init_checkpoint(c, 7, WeightsFormat::f32, folder.path() + "/model");
        w = load_weights(folder.path() + "/model", c);
        masters = std::make_unique<Masters>(w, c, DType::f64);
        uint32_t seed = 1;
        for (Leaf& l : masters->leaves()) {  // away from zeros and ones, so that every path carries something
            const auto noise = test::noise(static_cast<size_t>(l.param->master.count()), ++seed);
            for (size_t i = 0; i < noise.size(); ++i) l.param->master.as<double>()[i] += 0.2 * noise[i];
        }
        for (int t = 0; t < 31; ++t) tokens.push_back((t * 7 + t * t) % 13);
        next.assign(tokens.begin() + 1, tokens.end());
        next.push_back(3);
    }

    double loss(bool with_gradients) {
        arena.clear();
        Tape tape(with_gradients);
        masters->clear_gradients();
        masters->bind(tape);
        step.losses.clear(), step.loads.clear();
        Ctx ctx{arena, pool, Numerics::exact, nullptr, nullptr, {}, nullptr, -1};
        ctx.tape = &tape, ctx.dtype = DType::f64, ctx.training = &step;
        const std::vector<Segment> segments = {{nullptr, 0, 19, 0}, {nullptr, 19, 31, 0}};
        const Batch batch{tokens, segments, nullptr};
        const Tensor x = trunk(ctx, c, w, batch);
        const Tensor logits = head(ctx, c, w.hc_head, w.norm, w.head, x);
        double total = cross_entropy_here(tape, logits, next, 1.0);
        for (const MtpWeights& m : w.mtp) total += cross_entropy_here(tape, mtp_logits(ctx, c, w, m, x, next, batch), tokens, 0.3);
        for (const AuxiliaryLoss& l : step.losses) total += l.weight * l.value;
        if (with_gradients) tape.backward(ctx);
        return total;
    }

    // Every leaf at a few places. `is_free`: leaves that must get no gradient; `is_left_out`: leaves not looked at.
    using Names = std::function<bool(const std::string&)>;
    void compare(const Names& is_free, const Names& is_left_out = [](const std::string&) { return false; }) {
        const double at = loss(true);
        ASSERT_TRUE(std::isfinite(at));
        std::vector<std::vector<double>> g;
        for (const Leaf& l : masters->leaves()) {
            g.emplace_back();
            if (!l.gradient.empty()) g.back().assign(l.gradient.span<double>().begin(), l.gradient.span<double>().end());
        }
        size_t n_compared = 0;
        for (size_t i = 0; i < g.size(); ++i) {
            const Leaf& l = masters->leaves()[i];
            if (g[i].empty() || is_left_out(l.name)) continue;
            double largest = 0;
            for (double v : g[i]) largest = std::max(largest, std::abs(v));
            if (is_free(l.name)) {
                EXPECT_EQ(largest, 0) << l.name;
                continue;
            }
            EXPECT_GT(largest, 0) << l.name << " gets no gradient";
            const size_t stride = g[i].size() / 3 + 1;
            for (size_t e = 0; e < g[i].size(); e += stride) {
                double& v = l.param->master.as<double>()[e];
                const double kept = v, h = 1e-6;
                v = kept + h;
                const double up = loss(false);
                v = kept - h;
                const double down = loss(false);
                v = kept;
                EXPECT_NEAR(g[i][e], (up - down) / (2 * h), 2e-6 * std::max(largest, 1e-2)) << l.name << " [" << e << "]";
                ++n_compared;
            }
        }
        EXPECT_GT(n_compared, 10u);
    }

    std::vector<std::vector<double>> gradients() const {
        std::vector<std::vector<double>> all;
        for (const Leaf& l : masters->leaves())
            if (!l.gradient.empty()) all.emplace_back(l.gradient.span<double>().begin(), l.gradient.span<double>().end());
        return all;
    }

    ModelConfig c;
    TrainingStep step;
    std::unique_ptr<Masters> masters;

  private:
    // Written here, apart from the engine's own: mean cross-entropy, its gradient to the tape.
    double cross_entropy_here(Tape& tape, const Tensor& logits, const std::vector<int32_t>& targets, double weight) {
        const int64_t n = logits.dim(0), v = logits.dim(1);
        double sum = 0;
        for (int64_t t = 0; t < n; ++t) {
            const double* z = logits.row<double>(t);
            double top = z[0], total = 0;
            for (int64_t i = 0; i < v; ++i) top = std::max(top, z[i]);
            for (int64_t i = 0; i < v; ++i) total += std::exp(z[i] - top);
            const int32_t target = targets[static_cast<size_t>(t)];
            sum += top + std::log(total) - z[target];
            if (!tape.is_recording()) continue;
            double* g = tape.grad(logits).row<double>(t);
            for (int64_t i = 0; i < v; ++i)
                g[i] += weight / static_cast<double>(n) * (std::exp(z[i] - top) / total - (i == target));
        }
        return weight * sum / static_cast<double>(n);
    }

    test::TempFolder folder;
    ModelWeights w;
    Arena arena;
    Pool pool{2};
    std::vector<int32_t> tokens, next;
};

bool is_indexer(const std::string& name) { return name.find("indexer") != std::string::npos; }
bool is_nothing(const std::string&) { return false; }

TEST(WholeModel, gradients_match_differences) {
    Model m(small_model());
    m.compare(is_indexer);  // selection alone gives the indexer no gradient
}

TEST(WholeModel, recomputation_changes_nothing) {
    Model m(small_model());
    m.step.recomputes = true;
    m.compare(is_indexer);
}

TEST(WholeModel, auxiliary_losses_reach_the_router) {
    Model m(small_model());
    m.step.balance_weight = 0.05, m.step.sequence_weight = 0.03, m.step.z_weight = 0.01;
    m.compare(is_indexer);
}

TEST(WholeModel, the_indexer_learns_from_its_own_loss) {
    // What it reads is detached: differences of the other leaves would see the loss, their gradients must not.
    Model m(small_model());
    m.step.indexer_weight = 0.5;
    for (IndexerPhase phase : {IndexerPhase::sparse, IndexerPhase::warm_up}) {
        m.step.indexer = phase;
        m.compare(is_nothing, [](const std::string& name) { return !is_indexer(name); });
    }
}

TEST(WholeModel, dense_phase) {
    Model m(small_model());
    m.step.indexer = IndexerPhase::dense;
    m.compare(is_indexer);
}

TEST(WholeModel, residual_variants) {
    for (ResidualKind r : {ResidualKind::mhc_lite, ResidualKind::hc, ResidualKind::plain}) {
        ModelConfig c = small_model();
        c.variants.residual = r;
        if (r == ResidualKind::plain) c.hc_mult = 1;
        Model m(c);
        m.compare(is_indexer);
    }
}

TEST(WholeModel, attention_variants) {
    for (AttentionOverride a : {AttentionOverride::full, AttentionOverride::gqa, AttentionOverride::mla}) {
        ModelConfig c = small_model();
        for (LayerConfig& l : c.layers) l.ratio = 0, l.attention = a;
        c.variants.n_kv_heads = 1, c.variants.kv_lora_rank = 6;
        Model m(c);
        m.compare(is_indexer);
    }
}

TEST(WholeModel, soft_cap) {
    for (AttentionOverride a : {AttentionOverride::none, AttentionOverride::gqa}) {
        ModelConfig c = small_model();
        c.variants.attention_softcap = 0.7, c.variants.n_kv_heads = 1, c.variants.kv_lora_rank = 6;
        for (LayerConfig& l : c.layers)
            if (a != AttentionOverride::none) l.ratio = 0, l.attention = a;
        Model m(c);
        m.compare(is_indexer);
    }
}

// Straight through: the loss and all gradients are those of a model that has the rounded weights.
TEST(WholeModel, rounded_weights_are_as_weights_that_were_round_before) {
    Model m(small_model());
    const double exact = m.loss(true);
    m.step.quant = {.fp8_weights = true, .fp4_experts = true};
    const double rounded = m.loss(true);
    EXPECT_GT(std::abs(rounded - exact), 1e-4);
    const auto gradients = m.gradients();
    int n_dense = 0, n_experts = 0;
    for (Leaf& l : m.masters->leaves()) {
        const auto at = m.step.rounded->by_master.find(l.param->master.data);
        const auto has = [&](const char* part) { return l.name.find(part) != std::string::npos; };
        const bool is_expert = has(".ffn.experts.") || has(".ffn.shared_experts.");
        const bool is_projection = has(".attn.w") || has("attn.indexer.wq_b") || has("e_proj") || has("h_proj");
        const bool is_used = at != m.step.rounded->by_master.end();
        EXPECT_TRUE(is_used || !is_expert) << l.name;
        EXPECT_TRUE(is_used || !is_projection || has("indexer")) << l.name;
        EXPECT_TRUE(!is_used || is_expert || is_projection) << l.name;
        if (!is_used) continue;
        (has(".ffn.experts.") ? n_experts : n_dense) += 1;
        std::copy_n(reinterpret_cast<const double*>(at->second.data()), l.param->master.count(), l.param->master.as<double>());
    }
    EXPECT_GT(n_dense, 20);
    EXPECT_GT(n_experts, 20);
    m.step.quant = {}, m.step.rounded.reset();
    EXPECT_EQ(m.loss(true), rounded);
    EXPECT_EQ(m.gradients(), gradients);
}

// Everything rounded: the values are those of the packed formats, so what is measured is that each part takes part, that
// gradients reach every weight, and that a block run again gives the same.
TEST(WholeModel, every_part_can_be_rounded) {
    for (AttentionOverride a : {AttentionOverride::none, AttentionOverride::full, AttentionOverride::gqa, AttentionOverride::mla}) {
        ModelConfig c = small_model();
        c.variants.n_kv_heads = 1, c.variants.kv_lora_rank = 6;
        for (LayerConfig& l : c.layers)
            if (a != AttentionOverride::none) l.ratio = 0, l.attention = a;
        Model m(c);
        const double exact = m.loss(true);
        for (bool FakeQuant::*part : {&FakeQuant::fp8_weights, &FakeQuant::fp4_experts, &FakeQuant::fp8_activations,
                                      &FakeQuant::fp8_cache}) {
            m.step.quant = {}, m.step.quant.*part = true, m.step.rounded.reset();
            const double loss = m.loss(true);
            EXPECT_GT(std::abs(loss - exact), 1e-5);
            EXPECT_LT(std::abs(loss - exact), 0.3);
        }
        m.step.quant = {.fp8_weights = true, .fp4_experts = true, .fp8_activations = true, .fp8_cache = true, .fp4_index = true};
        m.step.rounded.reset();
        const double all = m.loss(true);
        const auto gradients = m.gradients();
        size_t i = 0;
        for (const Leaf& l : m.masters->leaves()) {
            if (l.gradient.empty()) continue;
            double largest = 0;
            for (double g : gradients[i++]) largest = std::max(largest, std::abs(g));
            EXPECT_TRUE(std::isfinite(largest)) << l.name;
            EXPECT_EQ(largest > 0, !is_indexer(l.name)) << l.name;
        }
        m.step.recomputes = true, m.step.rounded.reset();
        EXPECT_EQ(m.loss(true), all);
        EXPECT_EQ(m.gradients(), gradients);
    }
}

// What of a layer a cache would hold: the window rows; keys and values by group; the latent and the rotary part.
TEST(WholeModel, rounded_cache_values_are_those_that_a_cache_would_hold) {
    const ModelConfig base = small_model();
    const auto count = [&](AttentionOverride a) {
        ModelConfig c = base;
        c.variants.n_kv_heads = 1, c.variants.kv_lora_rank = 6, c.n_mtp_layers = 0;
        for (LayerConfig& l : c.layers) l.ratio = 0, l.attention = a;
        Model m(c);
        m.step.quant.fp8_cache = m.step.wants_rounding = true;
        m.loss(false);
        return m.step.rounding.cache.n;
    };
    const int64_t rows = 4 * 31;  // layers, tokens; heads of 12 of which 4 rotate
    EXPECT_EQ(count(AttentionOverride::none), rows * 8);
    EXPECT_EQ(count(AttentionOverride::full), rows * 8);
    EXPECT_EQ(count(AttentionOverride::gqa), rows * (8 + 12));
    EXPECT_EQ(count(AttentionOverride::mla), rows * 6);
}

TEST(WholeModel, router_variants_and_norms_off) {
    for (RouterKind r : {RouterKind::topk, RouterKind::top_p}) {
        ModelConfig c = small_model();
        c.variants.router = r;
        Model m(c);
        m.compare(is_indexer);
    }
    ModelConfig c = small_model();
    c.variants.q_norm = c.variants.kv_norm = false;
    Model m(c);
    m.compare([](const std::string& name) {
        return is_indexer(name) || name.ends_with("kv_norm.weight") || name.ends_with("compressor.norm.weight");
    });
}

}  // namespace
}  // namespace vitrine
