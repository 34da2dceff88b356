// `exact` numerics against the Hugging Face implementation: every hook and every logit, at every position.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/engine.h"
#include "tests/support/collector.h"
#include "tests/support/device.h"
#include "tests/support/vectors.h"

namespace vitrine {
namespace {

using test::Array;
using test::Arrays;

constexpr ProbeSet kAllProbes = (ProbeSet{1} << kProbeCount) - 1;

struct Comparison {
    std::unique_ptr<Engine> engine;
    test::Collector hooks;
    Arrays golden;
};

void run(const std::string& name, const std::string& vectors, Comparison& r) {
    r.engine = Engine::load(test::golden_path(name), test::on_test_device());
    r.golden = test::load_arrays(test::golden_path(vectors));
    r.engine->watch().set(kAllProbes);
    auto session = r.engine->new_session();
    session->publish_to(&r.hooks);
    session->append(test::int_list(r.golden.at("input_ids")));
}

// Largest |difference| of a hook over all tokens; -1 when a row is missing or has another size.
double worst(const Comparison& r, const std::string& name) {
    const Array& want = r.golden.at(name);
    double worst = 0;
    for (int64_t t = 0; t < want.dim(0); ++t) {
        const auto& got = r.hooks.row(name, static_cast<int>(t));
        if (static_cast<int64_t>(got.size()) != want.width()) return -1;
        for (int64_t i = 0; i < want.width(); ++i) worst = std::max(worst, std::abs(got[i] - want.at(t, i)));
    }
    return worst;
}

std::set<int> as_set(const std::vector<double>& row) {
    std::set<int> s;
    for (double v : row)
        if (v >= 0) s.insert(static_cast<int>(v));
    return s;
}

class Golden : public testing::TestWithParam<const char*> {};

TEST_P(Golden, EveryHookAndLogitEqualsTheReference) {
    Comparison r;
    run(GetParam(), std::string(GetParam()) + "/golden.safetensors", r);
    const ModelConfig& c = r.engine->config();
    const auto n_tokens = static_cast<int>(r.golden.at("input_ids").values.size());
    int n_compared = 0;
    for (const auto& [name, want] : r.golden) {
        if (name == "input_ids" || name.starts_with("mtp.")) continue;
        if (name.ends_with("hook_topk") || name.ends_with("hook_router_indices")) {
            for (int t = 0; t < n_tokens; ++t) {
                const std::vector<double> row(want.values.begin() + t * want.width(), want.values.begin() + (t + 1) * want.width());
                ASSERT_EQ(as_set(r.hooks.row(name, t)), as_set(row)) << name << " at token " << t;
            }
        } else if (name.ends_with("hook_router_weights")) {
            // Order is not significant: compare by expert.
            const std::string ids = name.substr(0, name.size() - 7) + "indices";
            for (int t = 0; t < n_tokens; ++t)
                for (int64_t j = 0; j < want.width(); ++j) {
                    const auto& mine = r.hooks.row(ids, t);
                    const auto place = std::find(mine.begin(), mine.end(), r.golden.at(ids).at(t, j)) - mine.begin();
                    ASSERT_LT(place, want.width());
                    EXPECT_NEAR(r.hooks.row(name, t)[place], want.at(t, j), 1e-5) << name << " at token " << t;
                }
        } else if (name.ends_with("attn.compressor.hook_out")) {
            const int layer = std::stoi(name.substr(7)), ratio = c.layers[layer].ratio;
            for (int64_t s = 0; s < want.dim(0); ++s) {
                const auto& got = r.hooks.row(name, static_cast<int>((s + 1) * ratio - 1));
                ASSERT_EQ(static_cast<int64_t>(got.size()), want.width()) << name << " entry " << s;
                for (int64_t i = 0; i < want.width(); ++i) ASSERT_NEAR(got[i], want.at(s, i), 1e-4) << name << " entry " << s;
            }
        } else {
            const double d = worst(r, name);
            EXPECT_GE(d, 0) << name << " is missing or has another shape";
            EXPECT_LE(d, 1e-3) << name;
        }
        ++n_compared;
    }
    EXPECT_GE(n_compared, 1);
    RecordProperty("largest_logit_difference", std::to_string(worst(r, "logits")));
    std::printf("%s: %d arrays compared, largest logit difference %.3g\n", GetParam(), n_compared, worst(r, "logits"));
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Golden, testing::Values("flashlike", "prolike", "official", "tiny15", "smooth15"),
                         [](const auto& p) { return std::string(p.param); });

}  // namespace
}  // namespace vitrine
