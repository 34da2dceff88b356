// Attention sub-layers on the tape: the values of the inference path, and gradients of everything in them.
#include "engine/model/attention/attention.h"

#include "engine/model/roles.h"
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

TEST(AttentionTape, values_equal_those_of_the_inference_path) {
    for (const ModelConfig& c : configs()) {
        test::OpFixture f;
        AttentionWeights w;
        uint32_t seed = 1;
        auto visit = [&](const std::string& name, Param& p, const Shape& shape, Storage) {
            std::vector<float> v = test::noise(static_cast<size_t>(shape.count()), ++seed);
            for (float& x : v) x = static_cast<float>(x * scale_of(shape) + offset_of(name));
            p = test::make_param(v, shape);
        };
        attention_roles("", w, c.layers[0], c, visit);
        std::vector<Segment> segments{{nullptr, 0, 37, 0}, {nullptr, 37, 40, 0}, {nullptr, 40, 71, 0}};
        const Tensor x = f.tensor({71, c.hidden_size}, test::noise(static_cast<size_t>(71 * c.hidden_size), 99));
        const Angles a(f.ctx, c, segments);
        Tape tape(false);
        f.ctx.tape = &tape;
        f.ctx.layer = 0;
        const Tensor ours = attention_for(c.layers[0].kind())(f.ctx, x, {w, c, 0, segments, a.angles, a.frequencies, {}});
        f.ctx.tape = nullptr;
        std::deque<SequenceCache> caches;
        for (Segment& s : segments) s.cache = &caches.emplace_back(c, Numerics::exact);
        const Tensor expected = attention_for(c.layers[0].kind())(f.ctx, x, {w, c, 0, segments, a.angles, a.frequencies, {}});
        double largest = 0, off = 0;
        for (int64_t i = 0; i < ours.count(); ++i) {
            largest = std::max<double>(largest, std::abs(expected.f32()[i]));
            off = std::max<double>(off, std::abs(ours.f32()[i] - expected.f32()[i]));
        }
        EXPECT_GT(largest, 0.1);
        EXPECT_LE(off, 1e-5) << "ratio " << c.layers[0].ratio;
        RecordProperty("off", std::to_string(off));
    }
}

TEST(AttentionTape, gradients_match_differences) {
    for (const ModelConfig& c : configs()) {
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
                attention_for(c.layers[0].kind())(ctx, check.at(x), {w, c, 0, segments, a.angles, a.frequencies, {}})};
        }, 1e-7, 8);
    }
}

}  // namespace
}  // namespace vitrine
