// Batches: functions of seed and step, whole samples, right answers, targets where they belong.
#include "engine/train/data/data.h"

#include <gtest/gtest.h>

#include <fstream>

#include "engine/train/data/mix3.h"
#include "engine/train/schedule.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {

using Ids = std::vector<int32_t>;

TEST(Data, a_batch_is_a_function_of_seed_and_step) {
    TrainConfig c;
    const auto a = make_data(c, 48), b = make_data(c, 48);
    (void)b->batch(3);
    EXPECT_EQ(a->batch(7).tokens, b->batch(7).tokens);
    EXPECT_NE(a->batch(7).tokens, a->batch(8).tokens);
    EXPECT_NE(a->batch(7).tokens, a->held_out(7).tokens);
    c.seed = 1;
    EXPECT_NE(make_data(c, 48)->batch(7).tokens, a->batch(7).tokens);
}

TEST(Data, samples_tile_the_batch_and_fit_their_sequences) {
    TrainConfig c;
    c.batch = 32, c.sequence_length = 64;
    for (const char* task : {"mix3", "random"}) {
        c.data = task;
        const auto data = make_data(c, 48);
        int64_t shortest = 1 << 20;
        for (int64_t step = 0; step < 20; ++step) {
            const TrainBatch b = data->batch(step);
            int64_t at = 0;
            for (const auto& s : b.samples) {
                EXPECT_EQ(s.begin, at);
                EXPECT_LE(s.end - s.begin, 64);
                EXPECT_LT(s.domain, static_cast<int>(data->domains().size()));
                EXPECT_EQ(b.targets[static_cast<size_t>(s.end - 1)], -1) << "nothing follows a sample";
                at = s.end;
            }
            EXPECT_EQ(at, static_cast<int64_t>(b.tokens.size()));
            EXPECT_LE(at, 32 * 64);
            shortest = std::min(shortest, at);
            for (int32_t id : b.tokens) EXPECT_TRUE(id >= 0 && id < data->vocab_size());
        }
        EXPECT_GE(shortest, 32 * (64 - mix3::kLongestSample)) << "packing leaves less than a sample";
    }
}

// Works the answer out again from the question.
Ids answer_to(const Ids& q) {
    Ids a;
    if (q[1] == mix3::kPlus) {
        int sum = 0;
        for (int i : {2, 6}) sum += q[i] * 100 + q[i + 1] * 10 + q[i + 2];
        for (; sum; sum /= 10) a.push_back(sum % 10);
    } else if (q[1] == mix3::kReverse) {
        a.assign(q.rbegin() + 1, q.rend() - 2);
    } else {
        const int32_t asked = q[q.size() - 2];
        for (size_t i = 2; q[i] != mix3::kAsk; ++i)
            if (q[i] == asked && q[i + 1] == mix3::kColon) a.push_back(q[i + 2]);
    }
    a.push_back(mix3::kEnd);
    return a;
}

TEST(Mix3, answers_are_right_and_only_they_count) {
    TrainConfig c;
    const auto data = make_data(c, 48);
    std::vector<int> seen(3);
    size_t longest = 0;
    for (int64_t step = 0; step < 50; ++step) {
        const TrainBatch b = data->batch(step);
        for (const auto& s : b.samples) {
            const Ids ids(b.tokens.begin() + s.begin, b.tokens.begin() + s.end);
            const auto equals = std::find(ids.begin(), ids.end(), mix3::kEquals);
            ASSERT_NE(equals, ids.end());
            EXPECT_EQ(answer_to(Ids(ids.begin(), equals + 1)), Ids(equals + 1, ids.end()));
            for (size_t t = 0; t < ids.size(); ++t) {
                const bool counts = t >= static_cast<size_t>(equals - ids.begin()) && t + 1 < ids.size();
                EXPECT_EQ(b.targets[static_cast<size_t>(s.begin) + t], counts ? ids[t + 1] : -1);
            }
            ++seen[static_cast<size_t>(s.domain)];
            longest = std::max(longest, ids.size());
        }
    }
    for (int n : seen) EXPECT_GT(n, 300);
    EXPECT_EQ(longest, static_cast<size_t>(mix3::kLongestSample));
}

TEST(Data, second_targets_stay_within_their_sample) {
    TrainBatch b;
    b.tokens = {5, 6, 7, 8, 9}, b.targets = {-1, 7, -1, 9, -1}, b.samples = {{0, 3, 0}, {3, 5, 0}};
    EXPECT_EQ(b.second_targets(), (Ids{7, -1, -1, -1, -1}));
    EXPECT_EQ(b.next_tokens(), (Ids{6, 7, 7, 9, 9}));
}

TEST(Data, a_token_file_is_one_sequence_or_a_clear_message) {
    test::TempFolder folder;
    TrainConfig c;
    c.data = "tokens", c.tokens = folder.file("ids.json");
    auto write = [&](const char* text) { std::ofstream(c.tokens) << text; };
    write("[3, 1, 2]");
    const TrainBatch b = make_data(c, 10)->batch(5);
    EXPECT_EQ(b.tokens, (Ids{3, 1, 2}));
    EXPECT_EQ(b.targets, (Ids{1, 2, -1}));
    for (const char* wrong : {"[3, 10]", "[3]", "{}", "[3, -1]", "[3, 1.5]", "[3"}) {
        write(wrong);
        EXPECT_THROW(make_data(c, 10), Error) << wrong;
    }
    c.data = "mix4";
    EXPECT_THROW(make_data(c, 48), Error);
    c.data = "mix3";
    EXPECT_THROW(make_data(c, 47), Error) << "more ids than the model has";
    c.sequence_length = 20;
    EXPECT_THROW(make_data(c, 48), Error);
}

TEST(Schedule, warms_up_holds_and_decays) {
    TrainConfig c;
    c.lr = 1, c.steps = 100, c.warmup_steps = 10, c.min_lr_ratio = 0.1;
    EXPECT_NEAR(learning_rate(c, 0), 0.1, 1e-15);
    EXPECT_NEAR(learning_rate(c, 9), 1, 1e-15);
    EXPECT_EQ(learning_rate(c, 99), 1);
    c.schedule = ScheduleKind::cosine;
    EXPECT_NEAR(learning_rate(c, 54), 0.55, 1e-12) << "half way: half of the cosine";
    EXPECT_NEAR(learning_rate(c, 99), 0.1, 1e-15);
    EXPECT_NEAR(learning_rate(c, 150), 0.1, 1e-15) << "beyond the end it stays";
    c.decay_steps = 20;
    EXPECT_EQ(learning_rate(c, 79), 1);
    EXPECT_LT(learning_rate(c, 80), 1);
    c.schedule = ScheduleKind::wsd;
    EXPECT_NEAR(learning_rate(c, 89), 0.55, 1e-12);
    EXPECT_NEAR(learning_rate(c, 99), 0.1, 1e-15);
    EXPECT_EQ(mtp_weight(c, 79), 0.3);
    EXPECT_EQ(mtp_weight(c, 80), 0.1);
}

TEST(Schedule, the_indexer_rests_warms_up_and_chooses) {
    TrainConfig c;
    EXPECT_EQ(indexer_phase(c, 0), IndexerPhase::sparse);
    c.indexer = IndexerMode::staged, c.indexer_dense_steps = 5, c.indexer_warmup_steps = 3;
    EXPECT_EQ(indexer_phase(c, 4), IndexerPhase::dense);
    EXPECT_EQ(indexer_phase(c, 5), IndexerPhase::warm_up);
    EXPECT_EQ(indexer_phase(c, 8), IndexerPhase::sparse);
}

}  // namespace
}  // namespace vitrine
