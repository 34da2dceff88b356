// Records: a builder that is kept from pass to pass gives what a new one gives, in whatever order probes come.
#include "engine/telemetry/trace.h"

#include <gtest/gtest.h>

#include <array>

namespace vitrine {
namespace {

// One token of a model of `n_layers`, seeded; probes out of order, the one of no layer first or last.
void publish(RecordBuilder& b, int token, int n_layers, float seed, bool no_layer_first) {
    const std::array<int32_t, 3> ids{7, static_cast<int32_t>(seed), -1};
    if (no_layer_first) b.put(token, kNextIds, TokenRecord::kNoLayer, ids.data(), 1, 3);
    for (int l = 0; l < n_layers; ++l) {
        const std::array<float, 4> v{seed, static_cast<float>(l), -seed, 0.5f};
        b.put(token, kStreamNorms, l, v.data(), 1, 4);
        b.put(token, kRouterIndices, l, ids.data(), 1, 2);
        b.put(token, kAttnHcPre, l, v.data(), 2, 2);
        b.put(token, kEntryMass, l, v.data(), 1, 0);  // nothing was attended to
    }
    if (!no_layer_first) b.put(token, kNextIds, TokenRecord::kNoLayer, ids.data(), 1, 3);
}

void expect_record(const TokenRecord& r, int n_layers, float seed) {
    EXPECT_EQ(r.ints(kNextIds)[1], static_cast<int32_t>(seed));
    for (int l = 0; l < n_layers; ++l) {
        ASSERT_TRUE(r.has(kAttnHcPre, l) && r.has(kStreamNorms, l) && r.has(kEntryMass, l)) << l;
        EXPECT_EQ(r.floats(kAttnHcPre, l).rows, 2);
        EXPECT_EQ(r.floats(kAttnHcPre, l)(0, 1), static_cast<float>(l));
        EXPECT_EQ(r.floats(kStreamNorms, l)(0, 2), -seed);
        EXPECT_EQ(r.ints(kRouterIndices, l)[0], 7);
        EXPECT_TRUE(r.floats(kEntryMass, l).empty());
        EXPECT_FALSE(r.has(kShares, l));
    }
    EXPECT_FALSE(r.has(kStreamNorms, n_layers));
    EXPECT_FALSE(r.has(kStreamNorms));
}

TEST(RecordBuilder, OneThatIsKeptGivesWhatANewOneGives) {
    RecordBuilder kept;
    std::vector<std::shared_ptr<const TokenRecord>> records;
    const std::array<int, 6> n_layers{3, 12, 1, 40, 40, 2};
    for (size_t i = 0; i < n_layers.size(); ++i) {
        kept.begin(1);
        publish(kept, 0, n_layers[i], static_cast<float>(i), i % 2 == 0);
        records.push_back(kept.finish(0));
    }
    for (size_t i = 0; i < n_layers.size(); ++i) {
        expect_record(*records[i], n_layers[i], static_cast<float>(i));
        RecordBuilder fresh;
        fresh.begin(1);
        publish(fresh, 0, n_layers[i], static_cast<float>(i), i % 2 == 0);
        EXPECT_EQ(records[i]->serialize(), fresh.finish(0)->serialize());
        EXPECT_EQ(TokenRecord::parse(records[i]->serialize(), "blob")->serialize(), records[i]->serialize());
    }
}

TEST(RecordBuilder, SeveralTokensThenOneThenSeveral) {
    RecordBuilder kept;
    for (int n : {4, 1, 3, 1}) {
        kept.begin(n);
        for (int t = n - 1; t >= 0; --t) publish(kept, t, 5, static_cast<float>(10 * n + t), false);
        for (int t = 0; t < n; ++t) expect_record(*kept.finish(t), 5, static_cast<float>(10 * n + t));
    }
    kept.begin(1);  // a pass that was abandoned leaves nothing behind
    publish(kept, 0, 5, 1, false);
    kept.begin(1);
    EXPECT_FALSE(kept.finish(0)->has(kNextIds));
}

}  // namespace
}  // namespace vitrine
