// Attention sub-layers on the tape: the values of the inference path, and gradients of everything in them.
#include "engine/model/attention/attention.h"

#include "engine/model/roles.h"
#include "engine/ops/linear/linear.h"
#include "engine/ops/rmsnorm/rmsnorm.h"
#include "tests/support/gradcheck.h"

namespace vitrine {
namespace {

ModelConfig small_config(const LayerConfig& layer) {
    ModelConfig c;
    c.hidden_size = 13, c.n_heads = 4, c.head_dim = 10, c.rope_dim = 4, c.q_lora_rank = 7, c.o_groups = 2, c.o_lora_rank = 3;
    c.sliding_window = 6, c.index_n_heads = 3, c.index_head_dim = 8, c.index_topk = 3;
    c.rms_norm_eps = 1e-6, c.rope_theta = 1e4, c.compress_rope_theta = 1.6e5;
    c.layers = {layer};
    return c;
}

// The layer's kinds, and switches that change both paths.
std::vector<ModelConfig> configs() {
    std::vector<ModelConfig> all;
    for (const int ratio : {0, 4, 5}) all.push_back(small_config({.ratio = ratio}));
    all.push_back(all[1]), all.back().variants.q_norm = false;
    all.push_back(all[1]), all.back().variants.kv_norm = false;
    all.push_back(all[2]), all.back().variants.kv_norm = false;
    return all;
}

// Variants that only the tape knows.
std::vector<ModelConfig> tape_configs() {
    std::vector<ModelConfig> all;
    for (const auto kind : {AttentionOverride::full, AttentionOverride::gqa, AttentionOverride::mla}) {
        all.push_back(small_config({.attention = kind}));
        all.back().variants.kv_lora_rank = 5;
        all.push_back(all.back());
        all.back().variants.q_norm = all.back().variants.kv_norm = false;
        all.back().variants.n_kv_heads = 4;
    }
    return all;
}

double scale_of(const Shape& shape) { return shape.rank == 2 ? 1.5 / std::sqrt(static_cast<double>(shape[1])) : 0.3; }
double offset_of(const std::string& name) { return name.ends_with("norm.weight") ? 1 : 0; }

struct Angles {
    std::vector<double> frequencies;
    RopeAngles angles;
    Angles(Ctx& ctx, const ModelConfig& c, const std::vector<Segment>& segments) {
        frequencies = rope_frequencies(c, c.layers[0].ratio > 0);
        std::vector<int64_t> positions;
        for (const Segment& s : segments)
            for (int64_t t = s.begin; t < s.end; ++t) positions.push_back(t - s.begin);
        angles = rope_angles(ctx, positions, frequencies);
    }
};

// A layer with reproducible weights and three sequences.
struct Layer {
    test::OpFixture f;
    ModelConfig c;
    AttentionWeights w;
    std::vector<Segment> segments{{nullptr, 0, 37, 0}, {nullptr, 37, 40, 0}, {nullptr, 40, 71, 0}};
    Tensor x;

    explicit Layer(const ModelConfig& config) : c(config) {
        uint32_t seed = 1;
        auto visit = [&](const std::string& name, Param& p, const Shape& shape, Storage) {
            std::vector<float> v = test::noise(static_cast<size_t>(shape.count()), ++seed);
            for (float& value : v) value = static_cast<float>(value * scale_of(shape) + offset_of(name));
            p = test::make_param(v, shape);
        };
        attention_roles("", w, c.layers[0], c, visit);
        x = f.tensor({71, c.hidden_size}, test::noise(static_cast<size_t>(71 * c.hidden_size), 99));
        f.ctx.layer = 0;
    }
    Tensor run() {
        const Angles a(f.ctx, c, segments);
        return attention_for(c.layers[0])(f.ctx, x, {w, c, 0, segments, a.angles, a.frequencies, {}});
    }
    Tensor on_tape() {
        Tape tape(false);
        f.ctx.tape = &tape;
        const Tensor y = run();
        f.ctx.tape = nullptr;
        return y;
    }
    Tensor with_caches() {
        std::deque<SequenceCache> caches;
        for (Segment& s : segments) s.cache = &caches.emplace_back(c, Numerics::exact);
        const Tensor y = run();
        for (Segment& s : segments) s.cache = nullptr;
        return y;
    }
};

double distance(const Tensor& a, const Tensor& b) {
    double off = 0, largest = 0;
    for (int64_t i = 0; i < a.count(); ++i) {
        largest = std::max<double>(largest, std::abs(b.f32()[i]));
        off = std::max<double>(off, std::abs(a.f32()[i] - b.f32()[i]));
    }
    EXPECT_GT(largest, 0.1);
    return off;
}

TEST(AttentionTape, values_equal_those_of_the_inference_path) {
    for (const ModelConfig& c : configs()) {
        Layer layer(c);
        EXPECT_LE(distance(layer.on_tape(), layer.with_caches()), 3e-6) << "ratio " << c.layers[0].ratio;  // measured: 2.7e-7
    }
}

TEST(AttentionTape, full_is_a_window_over_everything) {
    Layer full(tape_configs()[0]), wide(small_config({}));
    wide.c.sliding_window = 100;
    EXPECT_LE(distance(full.on_tape(), wide.with_caches()), 3e-6);
}

TEST(AttentionTape, tape_variants_see_the_past_of_their_sequence_alone) {
    for (const ModelConfig& c : tape_configs()) {
        Layer layer(c);
        const Tensor before = layer.on_tape();
        for (int64_t i = 0; i < c.hidden_size; ++i) layer.x.row<float>(50)[i] += 1;  // position 10 of the third
        const Tensor after = layer.on_tape();
        for (int64_t t = 0; t < 71; ++t) {
            bool is_same = true;
            for (int64_t i = 0; i < c.hidden_size; ++i) is_same = is_same && before.row<float>(t)[i] == after.row<float>(t)[i];
            EXPECT_EQ(is_same, t < 50) << t;
        }
    }
}

// At position 0 the softmax of one key without sink is 1: the output is the projected value of that token.
TEST(AttentionTape, values_of_gqa_and_mla_are_not_rotated) {
    for (const ModelConfig& c : tape_configs()) {
        if (c.layers[0].attention == AttentionOverride::full) continue;
        Layer layer(c);
        const Tensor y = layer.on_tape();
        Tape tape(false);
        Ctx& ctx = layer.f.ctx;
        ctx.tape = &tape;
        const bool is_gqa = c.layers[0].attention == AttentionOverride::gqa;
        Tensor latent = layer.x;
        if (!is_gqa) latent = linear(ctx, latent, layer.w.wkv_a);
        if (!is_gqa && c.variants.kv_norm) latent = rmsnorm(ctx, latent, layer.w.kv_norm, c.rms_norm_eps);
        const Tensor v = linear(ctx, latent, is_gqa ? layer.w.wv : layer.w.wv_b);
        const int64_t n_heads = c.n_heads, n_groups = v.dim(1) / c.head_dim;
        const Tensor o = ctx.arena.make(DType::f32, {71, n_heads, c.head_dim});
        for (int64_t t = 0; t < 71; ++t)
            for (int64_t h = 0; h < n_heads; ++h)
                std::copy_n(v.row<float>(t) + h * n_groups / n_heads * c.head_dim, c.head_dim,
                            o.row<float>(t) + h * c.head_dim);
        const Tensor expected = output_projection(ctx, o, {layer.w, c, 0, layer.segments, {}, {}, {}});
        for (const int64_t t : {0, 37, 40})
            for (int64_t i = 0; i < c.hidden_size; ++i) EXPECT_NEAR(y.row<float>(t)[i], expected.row<float>(t)[i], 2e-6);
    }
}

// What the indexer's loss alone moves: backward without a gradient at the layer's output.
TEST(AttentionTape, the_indexers_loss_reaches_the_indexer_alone) {
    for (const IndexerPhase phase : {IndexerPhase::dense, IndexerPhase::warm_up, IndexerPhase::sparse}) {
        Layer layer(small_config({.ratio = 4}));
        Ctx& ctx = layer.f.ctx;
        Tape tape;
        TrainingStep step;
        step.indexer = phase, step.indexer_weight = 0.5, step.wants_indexer_recall = true, step.wants_attention_stats = true;
        ctx.tape = &tape, ctx.training = &step;
        std::vector<std::pair<std::string, Tensor>> gradients;
        auto visit = [&](const std::string& name, Param& p, const Shape& shape, Storage) {
            p.master = {const_cast<void*>(p.view.data), DType::f32, shape};
            const Tensor g = ctx.arena.make(DType::f32, shape);
            std::fill_n(g.f32(), g.count(), 0.0f);
            tape.bind(p.master, g);
            gradients.emplace_back(name, g);
        };
        attention_roles("", layer.w, layer.c.layers[0], layer.c, visit);
        layer.run();
        const auto n_training = std::count_if(step.losses.begin(), step.losses.end(), [](auto& l) { return l.weight != 0; });
        ASSERT_EQ(n_training, phase == IndexerPhase::dense ? 0 : 1);
        ASSERT_EQ(step.losses.size(), static_cast<size_t>(n_training) + 1);
        EXPECT_STREQ(step.losses.back().name, "indexer.kl");  // measured with the recall, trains nothing
        EXPECT_GT(step.losses.back().value, 0);
        if (phase == IndexerPhase::warm_up) {
            EXPECT_NEAR(step.losses.back().value, step.losses.front().value, 1e-12);
        }
        tape.backward(ctx);
        EXPECT_FALSE(tape.has_grad(layer.x) && tape.grad(layer.x).f32()[0] != 0);
        for (const auto& [name, g] : gradients) {
            const bool is_moved = std::any_of(g.f32(), g.f32() + g.count(), [](float v) { return v != 0; });
            EXPECT_EQ(is_moved, phase != IndexerPhase::dense && name.starts_with("indexer.")) << name;
        }
        ASSERT_EQ(step.indexers.size(), 1u);
        EXPECT_GT(step.indexers[0].recall, 0.2);  // three of at most nine by chance: a third or more
        EXPECT_LT(step.indexers[0].recall, 1);
        ASSERT_EQ(step.attention.size(), 1u);  // the dense attention that recall needs leaves none
        EXPECT_GT(step.attention[0].entries, 0.01);
    }
}

TEST(AttentionTape, forced_entries_take_the_place_of_the_choice) {
    Layer layer(small_config({.ratio = 4}));
    Tape tape(false);
    layer.f.ctx.tape = &tape;
    const Tensor forced = layer.f.arena.make(DType::i32, {71, 2});
    for (int64_t i = 0; i < forced.count(); ++i) forced.as<int32_t>()[i] = -1;
    const Tensor free = layer.run();
    const Angles a(layer.f.ctx, layer.c, layer.segments);
    const AttentionInput in{layer.w, layer.c, 0, layer.segments, a.angles, a.frequencies, forced};
    const Tensor none = attention_for(layer.c.layers[0])(layer.f.ctx, layer.x, in);
    forced.row<int32_t>(20)[1] = 2;
    const Tensor one = attention_for(layer.c.layers[0])(layer.f.ctx, layer.x, in);
    for (int64_t t = 0; t < 71; ++t) {
        EXPECT_EQ(none.row<float>(t)[0] == one.row<float>(t)[0], t != 20) << t;
        const int64_t position = t < 37 ? t : t < 40 ? t - 37 : t - 40;
        EXPECT_EQ(none.row<float>(t)[0] == free.row<float>(t)[0], position < 3) << t;  // no entry to see yet
    }
}

TEST(AttentionTape, gradients_match_differences) {
    std::vector<ModelConfig> all = configs();
    for (const ModelConfig& c : tape_configs()) all.push_back(c);
    for (const ModelConfig& c : all) {
        test::GradCheck check;
        AttentionWeights w;
        auto visit = [&](const std::string& name, Param& p, const Shape& shape, Storage) {
            check.param(p, shape, scale_of(shape), offset_of(name));
        };
        attention_roles("", w, c.layers[0], c, visit);
        const size_t x = check.input({45, c.hidden_size});
        const std::vector<Segment> segments{{nullptr, 0, 21, 0}, {nullptr, 21, 24, 0}, {nullptr, 24, 45, 0}};
        check.run([&](Ctx& ctx) {
            const Angles a(ctx, c, segments);
            return std::vector{
                attention_for(c.layers[0])(ctx, check.at(x), {w, c, 0, segments, a.angles, a.frequencies, {}})};
        }, 1e-7, 8);
    }
}

}  // namespace
}  // namespace vitrine
