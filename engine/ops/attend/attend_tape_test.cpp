// Attention on the tape: gradients, and what each query sees against plain sums.
#include "engine/ops/attend/attend_tape.h"

#include <map>

#include "engine/ops/compress/compress_tape.h"
#include "tests/support/gradcheck.h"

namespace vitrine {
namespace {

struct Case {
    Offsets rows;
    int64_t n_heads, c, window, ratio;  // ratio 0: no entries
    int64_t n_chosen = 0;               // 0: all that are complete
    double softcap = 0;
};

Offsets entry_offsets(const Offsets& rows, int64_t ratio) {
    Offsets e{0};
    for (int64_t i = 0; i < n_segments(rows); ++i)
        e.push_back(e.back() + (ratio > 0 ? (rows[i + 1] - rows[i]) / ratio : 0));
    return e;
}

// Distinct entries, some of them not complete yet, some -1.
std::vector<int32_t> choose(const Case& c) {
    std::vector<int32_t> memory;
    if (c.n_chosen == 0) return {};
    for (int64_t s = 0; s < n_segments(c.rows); ++s)
        for (int64_t p = 0; p < c.rows[s + 1] - c.rows[s]; ++p)
            for (int64_t i = 0; i < c.n_chosen; ++i)
                memory.push_back(i == p % 5 ? -1 : static_cast<int32_t>((p * 7 + i * 3) % 11));
    return memory;
}

// f32, from wherever ctx runs.
std::vector<float> values_of(Ctx& ctx, const Tensor& x) {
    std::vector<float> v(static_cast<size_t>(x.count()));
    if constexpr (kHasCuda)
        if (ctx.cuda) {
            ctx.cuda->download(v.data(), x.data, v.size() * 4);
            ctx.cuda->sync();
            return v;
        }
    std::copy_n(x.f32(), x.count(), v.begin());
    return v;
}

// Every query by itself, in double.
std::vector<double> plain(const Case& c, const Tensor& q, const Tensor& kv, const Tensor& e,
                          const std::vector<int32_t>& chosen, const Param& sinks) {
    const Offsets entries = entry_offsets(c.rows, c.ratio);
    std::vector<double> out;
    for (int64_t s = 0; s < n_segments(c.rows); ++s)
        for (int64_t t = c.rows[s]; t < c.rows[s + 1]; ++t) {
            const int64_t p = t - c.rows[s];
            std::vector<const float*> seen;
            for (int64_t i = std::max<int64_t>(0, p - c.window + 1); i <= p; ++i)
                seen.push_back(kv.row<float>(c.rows[s] + i));
            for (int64_t i = 0; c.ratio > 0 && i < (p + 1) / c.ratio; ++i) {
                const auto* list = chosen.empty() ? nullptr : chosen.data() + t * c.n_chosen;
                if (!list || std::find(list, list + c.n_chosen, i) < list + c.n_chosen)
                    seen.push_back(e.row<float>(entries[s] + i));
            }
            for (int64_t h = 0; h < c.n_heads; ++h) {
                const float* query = q.f32() + (t * c.n_heads + h) * c.c;
                double z = std::exp(static_cast<double>(sinks.master.f32()[h]));
                std::vector<double> sum(c.c);
                for (const float* k : seen) {
                    double dot = 0;
                    for (int64_t i = 0; i < c.c; ++i) dot += static_cast<double>(query[i]) * k[i];
                    double logit = dot / std::sqrt(static_cast<double>(c.c));
                    if (c.softcap > 0) logit = c.softcap * std::tanh(logit / c.softcap);
                    const double weight = std::exp(logit);
                    z += weight;
                    for (int64_t i = 0; i < c.c; ++i) sum[i] += weight * k[i];
                }
                for (double x : sum) out.push_back(x / z);
            }
        }
    return out;
}

void check_case(const Case& c) {
    test::GradCheck check;
    Param sinks;
    const Offsets entries = entry_offsets(c.rows, c.ratio);
    const size_t q = check.input({c.rows.back(), c.n_heads, c.c}, 2), kv = check.input({c.rows.back(), 1, c.c}, 2);
    const size_t e = entries.back() > 0 ? check.input({entries.back(), c.c}, 2) : 0;
    check.param(sinks, {c.n_heads});
    const std::vector<int32_t> chosen = choose(c);
    const bool has_entries = entries.back() > 0;
    std::vector<double> expected;
    std::vector<float> mass;
    check.bf16_tolerance = 2e-2;
    check.run([&](Ctx& ctx) {
        const Tensor places = chosen.empty() ? Tensor{} : test::place_ints(ctx, {c.rows.back(), c.n_chosen}, chosen);
        const TapeKeys keys{check.at(kv), check.at(kv), c.window, c.rows,   has_entries ? check.at(e) : Tensor{},
                            entries,      c.ratio,      places,   c.softcap};
        const TapeAttention a = attend_on_tape(ctx, check.at(q), keys, sinks, has_entries);
        if (ctx.dtype != DType::f32) return std::vector{a.o_THV};
        const std::vector<float> o = values_of(ctx, a.o_THV),
                                 m = has_entries ? values_of(ctx, a.mass_TS) : std::vector<float>{};
        if (!ctx.cuda) expected = plain(c, check.at(q), check.at(kv), keys.entries_SC, chosen, sinks), mass = m;
        const double tolerance = !ctx.cuda ? 5e-6 : ctx.has_bf16_products ? 2e-2 : 1e-5;
        for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(o[i], expected[i], tolerance) << i;
        EXPECT_EQ(m.size(), mass.size());
        for (size_t i = 0; i < m.size(); ++i) {
            EXPECT_NEAR(m[i], mass[i], tolerance * static_cast<double>(c.n_heads)) << i;
            EXPECT_EQ(m[i] > 0, mass[i] > 0) << i;
        }
        return std::vector{a.o_THV};
    });
}

TEST(AttendTape, window_gradients_match_differences) {
    check_case({{0, 1}, 1, 1, 1, 0});
    check_case({{0, 13, 14, 31}, 3, 5, 7, 0});
    check_case({{0, 70}, 4, 16, 17, 0});      // several blocks and pieces of one segment
    check_case({{0, 9, 40}, 2, 7, 1000, 0});  // every earlier position
}

TEST(AttendTape, entry_gradients_match_differences) {
    check_case({{0, 13, 15, 46}, 3, 5, 6, 4});
    check_case({{0, 75}, 4, 8, 9, 7});
    check_case({{0, 3, 5}, 2, 3, 2, 4});  // no entry at all
    check_case({{0, 46, 90}, 3, 5, 6, 4, 4});
}

// Sizes of the GPU's tensor cores: whole and partial tiles of 64 rows and 64 keys, many short segments, every width of
// a tile.
TEST(AttendTape, wide_heads) {
    check_case({{0, 70}, 6, 32, 33, 4});
    check_case({{0, 3, 23, 24, 60, 61, 81}, 8, 16, 20, 4, 3});
    check_case({{0, 150}, 3, 48, 64, 2, 9});
    check_case({{0, 35, 68}, 6, 64, 12, 4, 4});
    check_case({{0, 40}, 2, 64, 16, 0, 0, 1.5});
    check_case({{0, 21, 40}, 5, 128, 7, 3, 0, 2});
    check_case({{0, 19, 40}, 3, 160, 11, 4, 2});
    check_case({{0, 13, 37}, 16, 272, 9, 4});
    check_case({{0, 9, 12}, 70, 32, 4, 2});  // a query's heads fill more than a tile
}

TEST(AttendTape, soft_cap_gradients_match_differences) {
    check_case({{0, 13, 14, 31}, 3, 5, 7, 0, 0, 0.8});
    check_case({{0, 46, 90}, 3, 5, 6, 4, 4, 1.5});
    check_case({{0, 70}, 4, 16, 17, 0, 0, 30});
}

TEST(AttendTape, largest_logit_of_each_head) {
    for (const double cap : {0.0, 0.5}) {
        test::OpFixture f;
        Tape tape;
        TrainingStep step;
        step.wants_head_logits = true;
        f.ctx.tape = &tape, f.ctx.training = &step, f.ctx.layer = 3;
        const Tensor q = f.tensor({40, 3, 5}, test::noise(600, 1)), kv = f.tensor({40, 1, 5}, test::noise(200, 2));
        attend_on_tape(f.ctx, q, {kv, kv, 6, {0, 19, 40}, {}, {}, 0, {}, cap}, {});
        EXPECT_TRUE(step.attention.empty());
        ASSERT_EQ(step.head_logits.size(), 1u);
        EXPECT_EQ(step.head_logits[0].layer, 3);
        for (int64_t h = 0; h < 3; ++h) {
            double top = -1e9;
            for (int64_t t = 0; t < 40; ++t)
                for (int64_t k = std::max<int64_t>(t < 19 ? 0 : 19, t - 5); k <= t; ++k) {
                    double dot = 0;
                    for (int i = 0; i < 5; ++i)
                        dot += static_cast<double>(q.f32()[(t * 3 + h) * 5 + i]) * kv.row<float>(k)[i];
                    const double logit = dot / std::sqrt(5.0);
                    top = std::max(top, cap > 0 ? cap * std::tanh(logit / cap) : logit);
                }
            EXPECT_NEAR(step.head_logits[0].largest[static_cast<size_t>(h)], top, 1e-6) << h;
        }
    }
}

TEST(AttendTape, separate_keys_and_values) {
    for (const auto& [heads, groups] : {std::array<int64_t, 2>{6, 2}, {3, 3}, {4, 1}}) {
        test::GradCheck check;
        Param sinks;
        const Offsets rows{0, 11, 75};
        const size_t q = check.input({75, heads, 5}), k = check.input({75, groups, 5}),
                     v = check.input({75, groups, 7});
        check.param(sinks, {heads});
        check.run([&, heads = heads](Ctx& ctx) {
            const TapeKeys keys{check.at(k), check.at(v), 75, rows, {}, {}, 0, {}};
            return std::vector{attend_on_tape(ctx, check.at(q), keys, heads == 4 ? Param{} : sinks).o_THV};
        });
    }
}

TEST(AttendTape, mass_and_statistics) {
    test::OpFixture f;
    Tape tape;
    TrainingStep step;
    step.wants_attention_stats = true;
    f.ctx.tape = &tape, f.ctx.training = &step;
    const Offsets rows{0, 19, 40}, entries = entry_offsets(rows, 4);
    const Tensor q = f.tensor({40, 3, 5}, test::noise(600, 1)), kv = f.tensor({40, 1, 5}, test::noise(200, 2));
    const Tensor e = f.tensor({9, 5}, test::noise(45, 3));
    const Param sinks = test::make_param({0.1f, -0.3f, 0.5f}, {3});
    const TapeAttention a = attend_on_tape(f.ctx, q, {kv, kv, 6, rows, e, entries, 4, {}}, sinks, true);
    ASSERT_EQ(a.mass_TS.dim(1), 5);
    double mass = 0;
    for (int64_t t = 0; t < 40; ++t) {
        const int64_t visible = (t - (t < 19 ? 0 : 19) + 1) / 4;
        for (int64_t j = 0; j < 5; ++j) {
            EXPECT_EQ(a.mass_TS.row<float>(t)[j] > 0, j < visible);
            mass += a.mass_TS.row<float>(t)[j];
        }
    }
    ASSERT_EQ(step.attention.size(), 1u);
    const AttentionStats& s = step.attention[0];
    EXPECT_NEAR(s.entries, mass / 120, 1e-6);
    EXPECT_NEAR(s.window + s.entries + s.sink, 1, 1e-6);
    double top = -1e9;
    for (int64_t t = 0; t < 40; ++t)
        for (int64_t h = 0; h < 3; ++h) {
            const int64_t first = t < 19 ? 0 : 19, p = t - first;
            const auto see = [&](const float* k) {
                double dot = 0;
                for (int i = 0; i < 5; ++i) dot += static_cast<double>(q.f32()[(t * 3 + h) * 5 + i]) * k[i];
                top = std::max(top, dot / std::sqrt(5.0));
            };
            for (int64_t i = std::max<int64_t>(0, p - 5); i <= p; ++i) see(kv.row<float>(first + i));
            for (int64_t i = 0; i < (p + 1) / 4; ++i) see(e.row<float>((t < 19 ? 0 : entries[1]) + i));
        }
    EXPECT_NEAR(s.max_logit, top, 1e-6);
    // Equal scores: the entropy is the logarithm of their number. One key and a sink of the same score.
    std::fill_n(q.f32(), q.count(), 0.0f);
    const Param zero = test::make_param({0, 0, 0}, {3});
    step.attention.clear();
    attend_on_tape(f.ctx, q, {kv, kv, 1, rows, {}, {}, 0, {}}, zero);
    EXPECT_NEAR(step.attention[0].entropy, std::log(2.0), 1e-6);
}

// Probabilities of every query and head in FP64, sorted by how far back their keys lie; a chosen entry or all.
TEST(AttendTape, reach_and_mass_by_head) {
    const Offsets rows{0, 19, 40}, entries = entry_offsets(rows, 4);
    for (const bool is_sparse : {false, true}) {
        test::OpFixture f;
        Tape tape;
        TrainingStep step;
        step.wants_attention_stats = true;
        f.ctx.tape = &tape, f.ctx.training = &step;
        const Tensor q = f.tensor({40, 3, 5}, test::noise(600, 1)), kv = f.tensor({40, 1, 5}, test::noise(200, 2));
        const Tensor e = f.tensor({9, 5}, test::noise(45, 3));
        for (int64_t i = 0; i < q.count(); ++i) q.f32()[i] *= 3;
        TapeKeys keys{kv, kv, 3, rows, e, entries, 4, {}};
        keys.splits_mass = true;
        if (is_sparse) {
            keys.chosen_TK = f.ctx.arena.make(DType::i32, {40, 2});
            for (int64_t t = 0; t < 40; ++t)
                keys.chosen_TK.row<int32_t>(t)[0] = 3, keys.chosen_TK.row<int32_t>(t)[1] = 1;
        }
        const std::vector<float> sinks = {0.1f, -0.3f, 0.5f};
        const TapeAttention a = attend_on_tape(f.ctx, q, keys, test::make_param(sinks, {3}), true);
        double sum = 0;
        for (int64_t t = 0; t < 40; ++t)
            for (int64_t h = 0; h < 3; ++h) {
                const int64_t first = t < 19 ? 0 : 19, p = t - first;
                double z = std::exp(sinks[static_cast<size_t>(h)]), total = 0, held = 0, reach = 0;
                std::multimap<double, double> by_distance;
                std::map<int64_t, double> by_entry;
                const auto see = [&](const float* k, double distance) {
                    double dot = 0;
                    for (int i = 0; i < 5; ++i) dot += static_cast<double>(q.f32()[(t * 3 + h) * 5 + i]) * k[i];
                    const double mass = std::exp(dot / std::sqrt(5.0));
                    by_distance.emplace(distance, mass), z += mass, total += mass;
                    return mass;
                };
                for (int64_t i = std::max<int64_t>(0, p - 2); i <= p; ++i)
                    see(kv.row<float>(first + i), static_cast<double>(p - i));
                for (int64_t i = 0; i < (p + 1) / 4; ++i)
                    if (!is_sparse || i == 3 || i == 1)
                        by_entry[i] =
                            see(e.row<float>(entries[t < 19 ? 0 : 1] + i), static_cast<double>(p - 4 * i) - 1.5);
                for (const auto& [distance, mass] : by_distance)
                    if (held < 0.9 * total) held += mass, reach = distance;
                sum += reach;
                for (int64_t i = 0; i < 5; ++i)
                    EXPECT_NEAR(a.mass_THS.row<float>(t)[h * 5 + i], by_entry.contains(i) ? by_entry[i] / z : 0, 1e-6);
            }
        EXPECT_NEAR(step.attention.at(0).reach, sum / 120, 1e-9) << is_sparse;
        EXPECT_GT(sum / 120, 2) << "beyond the window";
    }
}

TEST(AttendTape, bits_do_not_depend_on_threads) {
    const Offsets rows{0, 300};
    std::vector<std::vector<float>> all;
    for (int n_threads : {1, 2, 3}) {
        Arena arena;
        Pool pool(n_threads);
        Ctx ctx{arena, pool, Numerics::exact, nullptr, nullptr, {}, nullptr, 0};
        Tape tape;
        ctx.tape = &tape;
        const auto tensor = [&](Shape shape, uint32_t seed) {
            const Tensor t = arena.make(DType::f32, shape);
            const auto v = test::noise(static_cast<size_t>(t.count()), seed);
            std::copy(v.begin(), v.end(), t.f32());
            return t;
        };
        const Tensor q = tensor({300, 3, 5}, 1), kv = tensor({300, 1, 5}, 2), e = tensor({75, 5}, 3);
        Param sinks = test::make_param({0.1f, -0.3f, 0.5f}, {3});
        sinks.master = tensor({3}, 4);
        tape.bind(sinks.master, tensor({3}, 5));
        const Tensor o = attend_on_tape(ctx, q, {kv, kv, 50, rows, e, {0, 75}, 4, {}}, sinks).o_THV;
        std::copy_n(o.f32(), o.count(), tape.grad(o).f32());
        tape.backward(ctx);
        all.emplace_back();
        for (const Tensor& x : {o, tape.grad(q), tape.grad(kv), tape.grad(e), tape.grad(sinks.master)})
            all.back().insert(all.back().end(), x.f32(), x.f32() + x.count());
    }
    EXPECT_EQ(all[0], all[1]);
    EXPECT_EQ(all[0], all[2]);
}

}  // namespace
}  // namespace vitrine
