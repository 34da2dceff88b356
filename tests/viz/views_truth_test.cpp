// The views tell the truth: what is drawn for a model that really ran equals the reference vectors, and a planted error
// shows.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/viz/truth.h"

namespace vitrine::viz::test {
namespace {

constexpr int64_t kSeedlingPrompt = 164;  // ids of the prompt in exact_extra/seedling.safetensors; the answer follows

class ViewsTruth : public testing::TestWithParam<const char*> {
  protected:
    const ModelRun& run() {
        static std::map<std::string, ModelRun> runs;  // one forward pass a model serves all tests
        const auto it = runs.find(GetParam());
        return it != runs.end() ? it->second : runs.emplace(GetParam(), run_golden(GetParam())).first->second;
    }
    Stage stage;
};

TEST_P(ViewsTruth, Routing) {
    const Violations v = check_routing(stage, run(), run().snapshot, sample_tokens(run()));
    EXPECT_TRUE(v.empty()) << listed(v);
}
TEST_P(ViewsTruth, Loads) {
    const Violations v = check_loads(stage, run(), run().snapshot);
    EXPECT_TRUE(v.empty()) << listed(v);
}
TEST_P(ViewsTruth, Attention) {
    const Violations v = check_attention(stage, run(), run().snapshot, sample_tokens(run()));
    EXPECT_TRUE(v.empty()) << listed(v);
}
TEST_P(ViewsTruth, Entries) {
    const Violations v = check_entries(stage, run(), run().snapshot);
    EXPECT_TRUE(v.empty()) << listed(v);
}
TEST_P(ViewsTruth, Streams) {
    const Violations v = check_streams(stage, run(), run().snapshot, sample_tokens(run()));
    EXPECT_TRUE(v.empty()) << listed(v);
}
TEST_P(ViewsTruth, Next) {
    if (!run().vectors.count("logits")) {
        // The seedling's answer was chosen greedily by another implementation: each of its tokens is the most probable
        // one drawn.
        const auto& tokens = run().snapshot.timeline.tokens;
        for (int64_t t = kSeedlingPrompt - 1; t + 1 < run().n_tokens(); ++t) {
            stage.cursor.token = {1, t};
            stage.draw("Overview", run().snapshot);
            EXPECT_EQ(stage.number("overview/next/id/0"), static_cast<double>(tokens[t + 1].id)) << "token " << t;
        }
        return;
    }
    const Violations v = check_next(stage, run(), run().snapshot, sample_tokens(run()));
    EXPECT_TRUE(v.empty()) << listed(v);
}
TEST_P(ViewsTruth, Cache) {
    const Violations v = check_cache(stage, run(), run().snapshot);
    EXPECT_TRUE(v.empty()) << listed(v);
}

TEST_P(ViewsTruth, SharesOfEveryHead) {
    const Violations v = check_heads(stage, run(), run().snapshot, {3, run().n_tokens() / 2, run().n_tokens() - 1});
    EXPECT_TRUE(v.empty()) << listed(v);
}

// ---- planted errors: each must be found by the check that is there for it.

TEST_P(ViewsTruth, ABiasedWeightIsFound) {
    const ModelInfo& m = *run().model;
    std::map<std::pair<int64_t, int>, std::vector<float>> chosen;
    const Snapshot bad = changed(run().snapshot, m, [&](int64_t t, int layer, Probe p, std::vector<float>& v) {
        if (layer < 0 || m.router_bias[layer].empty()) return;
        if (p != kRouterWeights) return;
        const auto record = run().snapshot.trace->get(1, t);
        const auto ids = record->ints(kRouterIndices, layer);
        const auto affinity = record->floats(kRouterScores, layer);
        float sum = 0;
        for (size_t i = 0; i < v.size(); ++i) v[i] = affinity[ids[i]] + m.router_bias[layer][ids[i]], sum += v[i];
        for (float& w : v) w *= static_cast<float>(m.config.routed_scaling_factor) / sum;
    });
    EXPECT_FALSE(check_routing(stage, run(), bad, sample_tokens(run())).empty());
}

TEST_P(ViewsTruth, AnExpertOffByOneIsFound) {
    const auto n = static_cast<float>(run().model->config.n_experts);
    const Snapshot bad = changed(run().snapshot, *run().model, [&](int64_t, int, Probe p, std::vector<float>& v) {
        if (p == kRouterIndices) v[0] = v[0] + 1 < n ? v[0] + 1 : 0;
    });
    EXPECT_FALSE(check_routing(stage, run(), bad, sample_tokens(run())).empty());
    stage.reset();
    EXPECT_FALSE(check_loads(stage, run(), bad).empty());
}

TEST_P(ViewsTruth, AShiftedEntryIsFound) {
    const Snapshot bad = changed(run().snapshot, *run().model, [&](int64_t, int, Probe p, std::vector<float>& v) {
        if (p == kIndexTopk)
            for (float& e : v) e = e > 0 ? e - 1 : e;
    });
    EXPECT_FALSE(check_attention(stage, run(), bad, sample_tokens(run())).empty());
}

TEST_P(ViewsTruth, SwappedHalvesOfAnEntryAreFound) {
    const Snapshot bad = changed(run().snapshot, *run().model, [&](int64_t, int, Probe p, std::vector<float>& v) {
        if (p == kEntryWeights) std::rotate(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
    });
    EXPECT_FALSE(check_entries(stage, run(), bad).empty());
}

TEST_P(ViewsTruth, SharesWithoutTheSinkAreFound) {
    const Snapshot bad = changed(run().snapshot, *run().model, [&](int64_t, int, Probe p, std::vector<float>& v) {
        if (p == kShares) v[0] /= 1 - v[2], v[1] /= 1 - v[2], v[2] = 0;
    });
    EXPECT_FALSE(check_attention(stage, run(), bad, {run().n_tokens() - 1}).empty());
}

TEST_P(ViewsTruth, HeadsMixedUpOrWithoutTheSinkAreFound) {
    const std::vector<int64_t> last = {run().n_tokens() - 1};
    const Snapshot shifted = changed(run().snapshot, *run().model, [&](int64_t, int, Probe p, std::vector<float>& v) {
        if (p == kSharesHead) std::rotate(v.begin(), v.begin() + 3, v.end());
    });
    const bool has_heads = run().vectors.count("blocks.0.attn.hook_shares_head") != 0;  // the mean can't see an order
    EXPECT_EQ(check_heads(stage, run(), shifted, last).empty(), !has_heads);
    stage.reset();
    const Snapshot bad = changed(run().snapshot, *run().model, [&](int64_t, int, Probe p, std::vector<float>& v) {
        if (p == kSharesHead) v[0] += v[2], v[2] = 0;  // of the first head only
    });
    EXPECT_FALSE(check_heads(stage, run(), bad, last).empty());
}

TEST_P(ViewsTruth, ATransposedMatrixIsFound) {
    const int n = run().model->config.hc_mult;
    const Snapshot bad = changed(run().snapshot, *run().model, [&](int64_t, int, Probe p, std::vector<float>& v) {
        if (p != kAttnHcComb && p != kMlpHcComb) return;
        for (int j = 0; j < n; ++j)
            for (int k = 0; k < j; ++k) std::swap(v[j * n + k], v[k * n + j]);
    });
    const Violations v = check_streams(stage, run(), bad, {run().n_tokens() - 1});
    EXPECT_FALSE(v.empty());
    // Singular values don't see a transpose; the composite gain must.
    EXPECT_TRUE(
        std::any_of(v.begin(), v.end(), [](const std::string& s) { return s.find("gain") != std::string::npos; }));
}

TEST_P(ViewsTruth, AWrongByteSizeIsFound) {
    Snapshot bad = run().snapshot;
    bad.cache.layers.back().allocated[static_cast<int>(CacheKind::window)] += 8;
    EXPECT_FALSE(check_cache(stage, run(), bad).empty());
    stage.reset();
    // Formula and allocator wrong alike: the light stays on, the check of the numbers must not.
    bad.cache.layers.back().expected[static_cast<int>(CacheKind::window)] += 8;
    EXPECT_FALSE(check_cache(stage, run(), bad).empty());
}

INSTANTIATE_TEST_SUITE_P(Models, ViewsTruth, testing::Values("flashlike", "prolike", "seedling"),
                         [](const auto& p) { return std::string(p.param); });

}  // namespace
}  // namespace vitrine::viz::test
