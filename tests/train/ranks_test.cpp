// Training over ranks (threads here): the same losses as one process within rounding, the same bits on every rank, checkpoints
// that any number of ranks goes on from.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "engine/train/checkpoint.h"
#include "engine/train/fresh.h"
#include "engine/train/share.h"
#include "tests/support/temp_folder.h"
#include "tests/support/thread_ranks.h"
#include "tests/train/small_model.h"

namespace vitrine {
namespace {

using Rows = std::vector<std::vector<Scalar>>;

struct Result {
    Rows rows;
    std::vector<Scalar> evaluated;
    std::vector<std::vector<std::byte>> bits;  // by rank, at the end
};

// n_steps over `size` ranks; 1: without any.
Result train(const TrainConfig& c, int size, int n_steps, const ModelConfig& m = test::small_model()) {
    Result result;
    result.bits.resize(static_cast<size_t>(size));
    const auto lead = [&](Trainer& t) {
        for (int i = 0; i < n_steps; ++i) result.rows.push_back(t.step().scalars);
        result.evaluated = t.evaluate();
        result.bits[0] = test::bits_of(t);
    };
    if (size == 1) {
        Trainer t(m, fresh_weights(m, c), c, 1);
        lead(t);
        return result;
    }
    test::ThreadRanks(size).run([&](Communicator& ranks) {
        if (ranks.rank() > 0) {
            const auto t = Trainer::join(ranks, 1);
            t->follow();
            result.bits[static_cast<size_t>(ranks.rank())] = test::bits_of(*t);
            return;
        }
        Trainer t(m, fresh_weights(m, c), c, 2, kCpu, &ranks);
        t.invite();
        lead(t);
        t.dismiss();
    });
    return result;
}

// Largest difference relative to the value (or to 1, for what is near 0). Not of what memory is held, nor of g / sqrt(v), which is
// rounding over rounding where a gradient is 0 (both ends of a symmetric start).
double distance(const Rows& a, const Rows& b) {
    double largest = 0;
    EXPECT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
        EXPECT_EQ(a[i].size(), b[i].size());
        for (size_t j = 0; j < std::min(a[i].size(), b[i].size()); ++j) {
            EXPECT_EQ(a[i][j].name, b[i][j].name);
            if (a[i][j].name.starts_with("bytes.") || a[i][j].name.starts_with("surprise.")) continue;
            const double off = std::abs(a[i][j].value - b[i][j].value) / std::max(1.0, std::abs(a[i][j].value));
            largest = std::max(largest, off);
        }
    }
    return largest;
}

TrainConfig everything() {
    TrainConfig c = test::small_training();
    c.batch = 7;  // shares differ
    c.z_weight = 1e-3, c.indexer_weight = 0.1;
    c.eps = 1e-8;  // where a gradient is 0 but for rounding, AdamW with 1e-20 would make a whole update of the rounding
    return c;
}

TEST(Ranks, shares_are_whole_sequences_and_make_up_the_batch) {
    const ModelConfig m = test::small_model();
    TrainConfig c = test::small_training();
    c.batch = 7;
    const TrainBatch all = make_data(c, m)->batch(3);
    for (int size = 1; size <= 7; ++size) {
        TrainBatch joined;
        for (int r = 0; r < size; ++r) {
            const TrainBatch part = share_of(all, r, size);
            ASSERT_FALSE(part.samples.empty());
            EXPECT_EQ(part.samples.front().begin, 0);
            EXPECT_EQ(part.samples.back().end, static_cast<int64_t>(part.tokens.size()));
            joined.tokens.insert(joined.tokens.end(), part.tokens.begin(), part.tokens.end());
            joined.targets.insert(joined.targets.end(), part.targets.begin(), part.targets.end());
        }
        EXPECT_EQ(joined.tokens, all.tokens);
        EXPECT_EQ(joined.targets, all.targets);
    }
    EXPECT_THROW(share_of(all, 0, static_cast<int>(all.samples.size()) + 1), Error);
}

// In f64 what is left of the difference is rounding alone: the losses are the same function, balance and indexer included.
TEST(Ranks, every_loss_is_the_whole_batch_s) {
    for (const char* balance : {"auxiliary", "sequence", "bias", "bias_and_sequence"}) {
        TrainConfig c = everything();
        c.dtype = TrainDType::f64;
        fields(c).set(std::string("balance=") + balance);
        const Result one = train(c, 1, 4);
        for (const int size : {2, 3})
            EXPECT_LT(distance(one.rows, train(c, size, 4).rows), 1e-11) << balance << ", " << size << " ranks";
    }
}

// One long sequence and one of 3 tokens, too short for an entry of CSA: over two ranks the second has only that.
class LongAndShort : public DataSource {
  public:
    TrainBatch batch(int64_t step) const override {
        TrainBatch b;
        for (const int64_t n : {24, 3}) {
            const auto begin = static_cast<int64_t>(b.tokens.size());
            for (int64_t i = 0; i < n; ++i) {
                b.tokens.push_back(static_cast<int32_t>((step * 5 + i * i + n) % 36));
                b.targets.push_back(i + 1 < n ? static_cast<int32_t>((step * 5 + (i + 1) * (i + 1) + n) % 36) : -1);
            }
            b.samples.push_back({begin, begin + n, 0});
        }
        return b;
    }
    TrainBatch held_out(int64_t index) const override { return batch(1000 + index); }
    int vocab_size() const override { return 36; }
    const std::vector<std::string>& domains() const override {
        static const std::vector<std::string> names = {"text"};
        return names;
    }
};

TEST(Ranks, a_rank_with_short_sequences_alone_names_the_same_losses) {
    add_task({"long and short", "a test's",
              [](const TrainConfig&, int) -> std::unique_ptr<DataSource> { return std::make_unique<LongAndShort>(); }});
    for (const bool recomputes : {false, true}) {
        TrainConfig c = everything();
        c.data = "long and short", c.batch = 2, c.indexer = IndexerMode::sparse, c.dtype = TrainDType::f64,
        c.recompute = recomputes;
        const Result one = train(c, 1, 4);
        const std::vector<Scalar>& row = one.rows[0];
        ASSERT_TRUE(std::any_of(row.begin(), row.end(), [](const Scalar& s) { return s.name == "loss.indexer"; }));
        EXPECT_LT(distance(one.rows, train(c, 2, 4).rows), 1e-11);
    }
}

TEST(Ranks, ten_losses_in_f32_are_one_process_s_within_rounding) {
    for (const char* optimizer : {"adamw", "muon"}) {
        TrainConfig c = everything();
        fields(c).set(std::string("optimizer=") + optimizer);
        c.recompute = true;
        const Result one = train(c, 1, 10), two = train(c, 2, 10), three = train(c, 3, 10);
        for (const Result* r : {&two, &three})
            for (size_t i = 0; i < 10; ++i)
                for (size_t j = 0; j < 2; ++j)  // loss and loss.next
                    EXPECT_NEAR(r->rows[i][j].value, one.rows[i][j].value, 1e-4) << optimizer << ", step " << i;
    }
}

TEST(Ranks, every_rank_holds_the_same_bits_and_a_repeat_gives_them_again) {
    const TrainConfig c = everything();
    const Result a = train(c, 3, 5), b = train(c, 3, 5);
    EXPECT_EQ(a.bits[0], a.bits[1]);
    EXPECT_EQ(a.bits[0], a.bits[2]);
    EXPECT_EQ(a.bits, b.bits);
}

// A held-out batch is one rank's: its loss has the bits that one process gives for the same weights.
TEST(Ranks, evaluation_has_the_bits_of_one_process) {
    TrainConfig c = everything();
    c.eval_batches = 5;
    const Result one = train(c, 1, 0), two = train(c, 2, 0);
    ASSERT_EQ(one.evaluated.size(), two.evaluated.size());
    for (size_t i = 0; i < one.evaluated.size(); ++i) {
        EXPECT_EQ(one.evaluated[i].name, two.evaluated[i].name);
        EXPECT_EQ(one.evaluated[i].value, two.evaluated[i].value) << one.evaluated[i].name;
    }
}

TEST(Ranks, any_number_of_ranks_goes_on_from_a_checkpoint) {
    const test::TempFolder folder;
    TrainConfig c = everything();
    c.dtype = TrainDType::f64;
    const Result whole = train(c, 1, 8);
    const auto go_on = [&](const std::string& from, int size, int n_steps, const std::string& to) {
        Rows rows;
        test::ThreadRanks(size).run([&](Communicator& ranks) {
            if (ranks.rank() > 0) return Trainer::join(ranks, 1)->follow();
            std::unique_ptr<Trainer> t;
            if (from.empty())
                t = std::make_unique<Trainer>(test::small_model(), fresh_weights(test::small_model(), c), c, 1, kCpu, &ranks);
            else
                t = read_checkpoint(from, 1, kCpu, &ranks).trainer;
            t->invite();
            for (int i = 0; i < n_steps; ++i) rows.push_back(t->step().scalars);
            write_checkpoint(*t, {}, to);
            t->dismiss();
        });
        return rows;
    };
    Rows rows = go_on("", 2, 3, folder.file("a"));
    for (const auto& row : go_on(folder.file("a"), 3, 3, folder.file("b"))) rows.push_back(row);
    for (const auto& row : go_on(folder.file("b"), 1, 2, folder.file("c"))) rows.push_back(row);
    EXPECT_LT(distance(whole.rows, rows), 1e-11);
}

TEST(Ranks, a_live_change_reaches_all) {
    const TrainConfig c = everything();
    std::vector<std::vector<std::byte>> bits(2);
    test::ThreadRanks(2).run([&](Communicator& ranks) {
        if (ranks.rank() > 0) {
            const auto t = Trainer::join(ranks, 1);
            t->follow();
            EXPECT_EQ(t->config().lr, 0.5);
            bits[1] = test::bits_of(*t);
            return;
        }
        Trainer t(test::small_model(), fresh_weights(test::small_model(), c), c, 1, kCpu, &ranks);
        t.invite();
        t.step();
        t.change("lr", 0.5);
        EXPECT_THROW(t.change("metrics", "all"), Error) << "of a share they would not be the batch's";
        t.step();
        t.dismiss();
        bits[0] = test::bits_of(t);
    });
    EXPECT_EQ(bits[0], bits[1]);
}

TEST(Ranks, what_a_share_can_not_tell_is_refused) {
    for (const char* setting : {"metrics=layers", "anticipatory=always", "sharpness_every=1", "batch=2"}) {
        TrainConfig c = everything();
        fields(c).set(setting);
        EXPECT_THROW(train(c, 3, 1), Error) << setting;
    }
}

// The model without query norms can be clipped; the largest logit of a head may be another rank's.
TEST(Ranks, query_projections_shrink_by_the_largest_logit_of_all) {
    ModelConfig m = test::small_model();
    m.variants.q_norm = false;
    TrainConfig c = everything();
    c.dtype = TrainDType::f64, c.qk_clip = 1e-3;
    EXPECT_LT(distance(train(c, 1, 3, m).rows, train(c, 3, 3, m).rows), 1e-11);
}

TEST(Ranks, ranks_that_drift_apart_are_told) {
    const TrainConfig c = everything();
    EXPECT_THROW(test::ThreadRanks(2).run([&](Communicator& ranks) {
        if (ranks.rank() > 0) {
            const auto t = Trainer::join(ranks, 1);
            t->masters().leaves()[0].param->master.as<float>()[0] += 1;
            return t->follow();
        }
        Trainer t(test::small_model(), fresh_weights(test::small_model(), c), c, 1, kCpu, &ranks);
        t.invite();
        t.step();
    }),
                 Error);
}

}  // namespace
}  // namespace vitrine
