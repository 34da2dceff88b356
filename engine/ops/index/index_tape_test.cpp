// The indexer on the tape: gradients of scores and loss, the choice, recall.
#include "engine/ops/index/index_tape.h"

#include "engine/ops/index/index.h"
#include "tests/support/gradcheck.h"

namespace vitrine {
namespace {

// What is detached must not be an input of a check: its differences would not be 0.
Tensor constant(Ctx& ctx, Shape shape, uint32_t seed, double scale = 1, double offset = 0) {
    const Tensor t = ctx.arena.make(ctx.dtype, shape);
    std::vector<float> v = test::noise(static_cast<size_t>(t.count()), seed);
    if constexpr (kHasCuda)
        if (ctx.cuda) {
            for (float& x : v) x = static_cast<float>(x * scale + offset);
            ctx.cuda->upload(t.data, v.data(), v.size() * 4);
            return t;
        }
    with_real(ctx.dtype, [&](auto real) {
        for (int64_t i = 0; i < t.count(); ++i)
            t.as<decltype(real)>()[i] = static_cast<decltype(real)>(static_cast<float>(v[i] * scale + offset));
    });
    return t;
}

struct Indexer {
    ModelConfig c;
    IndexerWeights w;
    size_t keys;
    Offsets rows, entries{0};
    int64_t ratio;
    Indexer(test::GradCheck& check, const Offsets& of_rows, int64_t r, int heads = 3, int d = 6) : rows(of_rows), ratio(r) {
        c.index_n_heads = heads, c.index_head_dim = d, c.rope_dim = 4;
        for (int64_t i = 0; i < n_segments(rows); ++i) entries.push_back(entries.back() + (rows[i + 1] - rows[i]) / r);
        keys = check.input({entries.back(), d});
        check.param(w.wq_b, {heads * d, 5}, 1.5);
        check.param(w.weights_proj, {heads, 7});
        check.bf16_tolerance = 0.2;  // where rounding turns a product's sign, its whole gradient comes or goes
    }
    Tensor scores(Ctx& ctx, const test::GradCheck& check) const {
        std::vector<int64_t> positions;
        for (int64_t i = 0; i < n_segments(rows); ++i)
            for (int64_t t = rows[i]; t < rows[i + 1]; ++t) positions.push_back(t - rows[i]);
        const Tensor qr = constant(ctx, {rows.back(), 5}, 1), x = constant(ctx, {rows.back(), 7}, 2);
        const Tensor i = index_scores_on_tape(ctx, qr, x, check.at(keys), rows, entries, ratio, w, c,
                                              rope_angles(ctx, positions, {1.0, 0.1}));
        EXPECT_FALSE(ctx.tape->has_grad(qr) || ctx.tape->has_grad(x));
        return i;
    }
    Tensor mass(Ctx& ctx) const { return constant(ctx, {rows.back(), longest_segment(entries)}, 3, 0.5, 0.51); }
};

TEST(IndexTape, score_gradients_match_differences) {
    for (const int64_t ratio : {4, 3}) {
        test::GradCheck check;
        const Indexer in(check, {0, 17, 19, 150}, ratio);
        check.run([&](Ctx& ctx) { return std::vector{in.scores(ctx, check)}; });
    }
}

// The shapes that a GPU gives to its tensor cores; an odd most number of entries, and many short segments.
TEST(IndexTape, score_gradients_of_wide_heads_match_differences) {
    Offsets many{0};
    for (const int n : {3, 20, 4, 33, 7, 41, 1, 40}) many.push_back(many.back() + n);
    for (const auto& [heads, d, rows] :
         {std::tuple{4, 32, Offsets{0, 300}}, {3, 16, Offsets{0, 1, 269}}, {2, 64, many}, {5, 128, many}}) {
        test::GradCheck check;
        const Indexer in(check, rows, 4, heads, d);
        check.run([&](Ctx& ctx) { return std::vector{in.scores(ctx, check)}; }, 1e-6, 8);
    }
}

// Of each query's visible entries 0, 2 and 5: a choice by rounded scores would be another one.
std::vector<int32_t> some_entries(const Offsets& rows, int64_t ratio) {
    std::vector<int32_t> list;
    for (int64_t i = 0; i < n_segments(rows); ++i)
        for (int64_t t = rows[i]; t < rows[i + 1]; ++t)
            for (const int32_t s : {0, 2, 5}) list.push_back(s < (t - rows[i] + 1) / ratio ? s : -1);
    return list;
}

TEST(IndexTape, loss_gradients_match_differences) {
    for (const bool is_sparse : {false, true}) {
        test::GradCheck check;
        check.step.indexer_weight = 0.7;
        const Indexer in(check, {0, 17, 19, 60}, 4);
        check.run([&](Ctx& ctx) {
            const Tensor scores = in.scores(ctx, check);
            const Tensor chosen =
                is_sparse ? test::place_ints(ctx, {in.rows.back(), 3}, some_entries(in.rows, in.ratio)) : Tensor{};
            indexer_loss_on_tape(ctx, scores, in.mass(ctx), chosen, in.rows, 4);
            return std::vector<Tensor>{};
        });
        ASSERT_EQ(check.step.losses.size(), 1u);
        EXPECT_GT(check.step.losses[0].value, 0.01);
    }
}

TEST(IndexTape, loss_is_the_mean_divergence_of_queries_with_entries) {
    test::OpFixture f;
    Tape tape;
    TrainingStep step;
    step.indexer_weight = 2;
    f.ctx.tape = &tape, f.ctx.training = &step;
    // Ratio 2, five tokens: they see 0, 1, 1, 2, 2 entries. One entry: nothing to tell apart.
    const Tensor scores = f.tensor({5, 2}, {9, 9, 1, 9, 2, 9, 0.5f, 1.5f, 3, 3});
    const Tensor mass = f.tensor({5, 2}, {0, 0, 2, 0, 1, 0, 1, 3, 0, 0});
    indexer_loss_on_tape(f.ctx, scores, mass, {}, {0, 5}, 2);
    const double q = 1 / (1 + std::exp(1.0)), expected = 0.25 * std::log(0.25 / q) + 0.75 * std::log(0.75 / (1 - q));
    ASSERT_EQ(step.losses.size(), 1u);
    EXPECT_NEAR(step.losses[0].value, expected / 4, 1e-7);  // of four queries with entries; the last has no mass
    tape.backward(f.ctx);
    EXPECT_NEAR(tape.grad(scores).row<float>(3)[0], 2.0 / 4 * (q - 0.25), 1e-6);
    EXPECT_EQ(tape.grad(scores).row<float>(4)[0], 0);
    step.losses.clear(), step.is_recomputation = true;
    indexer_loss_on_tape(f.ctx, scores, mass, {}, {0, 5}, 2);
    EXPECT_TRUE(step.losses.empty());
}

TEST(IndexTape, choice_takes_the_lowest_of_equals_and_is_that_of_the_inference_path) {
    test::OpFixture f;
    std::vector<float> values = test::noise(40 * 10, 4);
    for (float& x : values) x = std::round(x * 4) / 4;  // many ties, zeros of both signs
    const Tensor scores = f.tensor({40, 10}, values);
    const Tensor chosen = choose_entries(f.ctx, scores, {0, 40}, 4, 3);
    for (int64_t t = 0; t < 40; ++t) {
        std::vector<int32_t> expected;
        choose_top(scores.row<float>(t), (t + 1) / 4, std::min<int64_t>(3, (t + 1) / 4), expected, nullptr, nullptr);
        expected.resize(3, -1);
        EXPECT_EQ(std::vector<int32_t>(chosen.row<int32_t>(t), chosen.row<int32_t>(t) + 3), expected) << t;
    }
}

TEST(IndexTape, recall_counts_common_choices) {
    test::OpFixture f;
    TrainingStep step;
    f.ctx.training = &step;
    // Ratio 1: tokens see 1, 2, 3 entries; k 2, so that the last one alone counts.
    const Tensor scores = f.tensor({3, 3}, {1, 0, 0, 1, 2, 0, 3, 2, 1});
    const Tensor mass = f.tensor({3, 3}, {1, 0, 0, 1, 1, 0, 0.5f, 0.1f, 0.4f});
    measure_indexer(f.ctx, scores, mass, {0, 3}, 1, 2);
    EXPECT_DOUBLE_EQ(step.indexers.at(0).recall, 0.5);
    measure_indexer(f.ctx, scores, mass, {0, 3}, 1, 3);
    EXPECT_TRUE(std::isnan(step.indexers.at(1).recall));
}

// Ratio 1, k 2. The third token chooses 0 and 1, the fourth 1 and 3; a second sequence is too short to choose.
TEST(IndexTape, mass_overlap_and_coverage_of_the_choice) {
    test::OpFixture f;
    TrainingStep step;
    f.ctx.training = &step;
    const Tensor scores = f.tensor({5, 4}, {1, 0, 0, 0, 1, 2, 0, 0, 3, 2, 1, 0, 0, 5, 1, 4, 1, 0, 0, 0});
    const Tensor mass =
        f.tensor({5, 4}, {1, 0, 0, 0, 1, 1, 0, 0, 1, 0.2f, 0.8f, 0, 0.1f, 0.2f, 0.2f, 0.5f, 1, 0, 0, 0});
    measure_indexer(f.ctx, scores, mass, {0, 4, 5}, 1, 2);
    const IndexerStats& s = step.indexers.at(0);
    EXPECT_DOUBLE_EQ(s.recall, 3.0 / 4);  // 0 of 0 and 2; 1 and 3
    EXPECT_NEAR(s.mass, (0.6 + 0.7) / 2, 1e-7);
    EXPECT_DOUBLE_EQ(s.overlap, 1.0 / 3);
    EXPECT_DOUBLE_EQ(s.coverage, 3.0 / 4);
}

// Ratio 1, k 2: the last query alone sees more than it may choose. It chooses 0 and 3; masses are best at 1 and 3.
TEST(IndexTape, ranks_gain_and_heads_of_the_choice) {
    test::OpFixture f;
    TrainingStep step;
    f.ctx.training = &step;
    std::vector<float> scores(16), mass(16), heads(2 * 16);
    const float last[4] = {9, 1, 2, 3}, masses[4] = {0.2f, 0.5f, 0.0f, 0.3f};
    std::copy_n(last, 4, scores.begin() + 12), std::copy_n(masses, 4, mass.begin() + 12);
    const float first_head[4] = {0.1f, 0.2f, 0, 0.3f}, second_head[4] = {0.1f, 0.3f, 0.25f, 0};
    std::copy_n(first_head, 4, heads.begin() + 24), std::copy_n(second_head, 4, heads.begin() + 28);
    // Queries 0 to 2 see one, two and three entries; three is more than two: it is given what makes every measure 1.
    for (int i = 0; i < 3; ++i) {
        const float v = static_cast<float>(i + 1) / 10;
        scores[8 + static_cast<size_t>(i)] = mass[8 + static_cast<size_t>(i)] = v;
        heads[16 + static_cast<size_t>(i)] = heads[20 + static_cast<size_t>(i)] = v;
    }
    measure_indexer(f.ctx, f.tensor({4, 4}, scores), f.tensor({4, 4}, mass), {0, 4}, 1, 2, f.tensor({4, 2, 4}, heads));
    const IndexerStats& s = step.indexers.at(0);
    EXPECT_DOUBLE_EQ(s.recall, 3.0 / 4);
    // Ranks 4 1 2 3 and 2 4 1 3: 1 - 6 (4 + 9 + 1 + 0) / (4 * 15)
    EXPECT_NEAR(s.rank, (1 + (1 - 6.0 * 14 / 60)) / 2, 1e-12);
    EXPECT_NEAR(s.ndcg, (1 + (0.2 + 0.3 / std::log2(3.0)) / (0.5 + 0.3 / std::log2(3.0))) / 2, 1e-7);
    ASSERT_EQ(s.by_head.size(), 2u);
    EXPECT_DOUBLE_EQ(s.by_head[0], (2 + 1) / 4.0);  // 1 and 3
    EXPECT_DOUBLE_EQ(s.by_head[1], (2 + 0) / 4.0);  // 1 and 2
    // Ties share a rank: 0 of two equal scores and of masses that rise.
    measure_indexer(f.ctx, f.tensor({2, 2}, {1, 0, 1, 1}), f.tensor({2, 2}, {1, 0, 0.25f, 0.5f}), {0, 2}, 1, 1);
    EXPECT_EQ(step.indexers.at(1).rank, 0);
    EXPECT_TRUE(step.indexers.at(1).by_head.empty());
}

}  // namespace
}  // namespace vitrine
