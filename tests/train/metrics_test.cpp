// Metrics of a step against numbers worked out here in another way; switches of the training recipe that act
// on them.
#include "engine/train/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "engine/base/rng.h"
#include "engine/train/noise_scale.h"
#include "engine/train/routing_stats.h"
#include "engine/train/share.h"
#include "tests/support/temp_folder.h"
#include "tests/train/small_model.h"

namespace vitrine {
namespace {

double scalar(const StepReport& r, const std::string& name) {
    for (const Scalar& s : r.scalars)
        if (s.name == name) return s.value;
    return NAN;
}

// ---- routing
TEST(CoActivation, of_four_tokens_and_three_experts) {
    // 0 and 1 go together in half of 0's eight tokens; 2 goes with 0 in the others and with 1 in eight more.
    std::vector<int32_t> ids;
    for (int i = 0; i < 4; ++i) ids.insert(ids.end(), {0, 1, 2, 0});
    for (int i = 0; i < 8; ++i) ids.insert(ids.end(), {1, 2});
    const CoActivation c = co_activation({ids, 2, 4});
    // 16 tokens: P(0) = 8/16, P(1) = 12/16, P(2) = 12/16; pairs 01: 4, 02: 4, 12: 8. Expected alone: 01 and 02 6 (too
    // few), 12 9.
    EXPECT_DOUBLE_EQ(c.share, 8.0 / 12);
    EXPECT_DOUBLE_EQ(c.lift, (8.0 / 16) / (12.0 / 16 * 12.0 / 16));
    const CoActivation none = co_activation({std::vector<int32_t>{0, -1, 1, -1}, 2, 4});
    EXPECT_EQ(none.share, 0);
    EXPECT_EQ(none.lift, 0);
}

TEST(SwitchRate, counts_experts_that_the_token_before_did_not_have) {
    const std::vector<int32_t> ids{0, 1, 1, 0, 2, 3, 2, 1, 0, 3}, samples{0, 0, 0, 1, 1};
    EXPECT_DOUBLE_EQ(switch_rate({ids, 2, 4}, samples), (0 + 2 + 2) / 6.0);  // the fourth begins a sample
}

TEST(RoutingInformation, of_distributions_known_in_closed_form) {
    // One expert per domain, whatever the token: log2 3 bits, all of it given the token; nothing about the token.
    std::vector<int32_t> ids, domains, tokens;
    for (int repeat = 0; repeat < 40; ++repeat)
        for (int d = 0; d < 3; ++d)
            for (int token = 0; token < 2; ++token) ids.push_back(d), domains.push_back(d), tokens.push_back(token);
    RoutingInformation i = routing_information({ids, 1, 4}, domains, tokens, 1);
    EXPECT_NEAR(i.domain, std::log2(3.0), 1e-12);
    EXPECT_NEAR(i.token, 0, 1e-12);
    EXPECT_NEAR(i.domain_given_token, std::log2(3.0), 1e-12);
    EXPECT_LT(i.null, 0.1);
    // One expert per token id: domains that use tokens unequally are told apart, but not given the token (a hash
    // layer).
    ids.clear(), domains.clear(), tokens.clear();
    for (int n = 0; n < 300; ++n) {
        const int d = n % 2, token = n % 10 < (d ? 8 : 3) ? 0 : 1;
        ids.push_back(token), domains.push_back(d), tokens.push_back(token);
    }
    i = routing_information({ids, 1, 2}, domains, tokens, 1);
    double joint[2][2] = {}, expected = 0;
    for (size_t n = 0; n < ids.size(); ++n) joint[domains[n]][tokens[n]] += 1.0 / 300;
    for (int d = 0; d < 2; ++d)
        for (int t = 0; t < 2; ++t)
            if (joint[d][t] > 0)
                expected +=
                    joint[d][t] * std::log2(joint[d][t] / ((joint[d][0] + joint[d][1]) * (joint[0][t] + joint[1][t])));
    EXPECT_GT(expected, 0.05);
    EXPECT_NEAR(i.domain, expected, 1e-12);
    EXPECT_EQ(i.domain_given_token, 0);
    EXPECT_EQ(i.null, 0);
}

TEST(RoutingInformation, null_is_what_chance_gives) {
    // Experts at random: what is found given the token is of the size of the null.
    const CounterRng rng(5, 6);
    std::vector<int32_t> ids, domains, tokens;
    for (uint64_t n = 0; n < 1000; ++n) {
        ids.push_back(static_cast<int32_t>(rng.bits(3 * n) % 8)),
            domains.push_back(static_cast<int32_t>(rng.bits(3 * n + 1) % 3));
        tokens.push_back(static_cast<int32_t>(rng.bits(3 * n + 2) % 20));
    }
    const RoutingInformation i = routing_information({ids, 1, 8}, domains, tokens, 1);
    EXPECT_GT(i.null, 0.1);
    EXPECT_NEAR(i.domain_given_token / i.null, 1, 0.1);
}

ExpertChoices choices_of(Trainer& t, const TrainBatch& batch) {  // by plain weights
    Arena arena;
    Pool pool{1};
    Ctx ctx{arena, pool};
    return choose_experts(ctx, t.model(), t.weights(), batch, false);
}

// Share of the second's experts, two a token, that the first does not have.
double churn_of_pairs(const ExpertChoices& a, const ExpertChoices& b) {
    int64_t n = 0, n_other = 0;
    for (size_t l = 0; l < b.by_layer.size(); ++l)
        for (int64_t token = 0; token < b.n_tokens; ++token) {
            const auto set = [&](const ExpertChoices& e) {
                return std::set<int32_t>{e.by_layer[l][static_cast<size_t>(2 * token)],
                                         e.by_layer[l][static_cast<size_t>(2 * token + 1)]};
            };
            for (const int32_t e : set(b)) ++n, n_other += !set(a).contains(e);
        }
    return static_cast<double>(n_other) / static_cast<double>(n);
}

TEST(Churn, is_between_two_looks_at_one_held_out_batch) {
    TrainConfig c = test::small_training();
    c.metrics = MetricsLevel::all, c.metrics_every = 2, c.lr = 3e-2;
    const auto t = test::small_trainer(c, 2);
    std::vector<ExpertChoices> seen;
    double largest = 0;
    for (int step = 0; step < 9; ++step) {
        if (step % 2 == 0) seen.push_back(choices_of(*t, t->data().held_out(0)));  // of row s: by the weights after s updates
        const StepReport r = t->step();
        const double churned = scalar(r, "router.churn");
        EXPECT_EQ(std::isnan(churned), step % 2 == 1 || step == 0) << step;
        if (std::isnan(churned)) continue;
        EXPECT_DOUBLE_EQ(churned, churn_of_pairs(seen[seen.size() - 2], seen.back()));
        largest = std::max(largest, churned);
    }
    EXPECT_GT(largest, 0);
}

// Row s compares what the weights of `delta` steps before and those of the step itself choose for the step's own batch.
TEST(Churn, of_anticipatory_routing_is_of_the_age_it_says) {
    TrainConfig c = test::small_training();
    c.metrics = MetricsLevel::layers, c.metrics_every = 1, c.lr = 3e-2, c.warmup_steps = 0;
    c.anticipatory = AnticipatoryMode::always, c.anticipatory_delta = 1;
    const auto t = test::small_trainer(c, 2);
    ExpertChoices older;
    double largest = 0;
    for (int64_t step = 0; step < 8; ++step) {
        const ExpertChoices now = choices_of(*t, t->data().batch(step));
        const ExpertChoices coming = choices_of(*t, t->data().batch(step + 1));
        const double churned = scalar(t->step(), "routing_churn");
        EXPECT_DOUBLE_EQ(churned, step == 0 ? 0 : churn_of_pairs(older, now)) << step;
        largest = std::max(largest, churned), older = coming;
    }
    EXPECT_GT(largest, 0);
}

TEST(Spectral, is_of_the_weights_that_the_batch_saw) {
    TrainConfig c = test::small_training();
    c.metrics = MetricsLevel::all, c.metrics_every = 1, c.lr = 3e-2, c.warmup_steps = 0;
    const auto t = test::small_trainer(c);
    for (int step = 0; step < 2; ++step) {
        // The embedding's: the root of the largest eigenvalue of its Gram matrix, by many iterations in FP64.
        const auto at = std::find_if(t->masters().leaves().begin(), t->masters().leaves().end(),
                                     [](const Leaf& l) { return l.name == "head.weight"; });
        const Tensor& w = at->param->master;
        std::vector<double> v(static_cast<size_t>(w.dim(1)), 1), u;
        double sigma = 0;
        for (int k = 0; k < 2000; ++k) {
            u.assign(static_cast<size_t>(w.dim(0)), 0);
            for (size_t i = 0; i < u.size(); ++i)
                for (size_t j = 0; j < v.size(); ++j) u[i] += w.row<float>(static_cast<int64_t>(i))[j] * v[j];
            std::fill(v.begin(), v.end(), 0.0);
            double square = 0;
            for (size_t i = 0; i < u.size(); ++i)
                for (size_t j = 0; j < v.size(); ++j) v[j] += w.row<float>(static_cast<int64_t>(i))[j] * u[i];
            for (const double x : v) square += x * x;
            for (double& x : v) x /= std::sqrt(square);
            sigma = std::sqrt(std::sqrt(square));
        }
        EXPECT_NEAR(scalar(t->step(), "spectral.head") / sigma, 1, 0.05) << "12 iterations; lr 0.03 more than doubles it";
    }
}

// A step's noise against gradients of the first half and of all of its batch, taken one after the other.
TEST(GradientNoise, of_a_step_is_that_of_its_batch) {
    TrainConfig c = test::small_training();
    c.metrics = MetricsLevel::all, c.metrics_every = 2, c.batch = 4;
    const auto t = test::small_trainer(c), other = test::small_trainer(c);
    const TrainBatch batch = other->data().batch(0), half = share_of(batch, 0, 2);
    const auto all_gradients = [&](const TrainBatch& b) {
        other->gradients(b);
        std::vector<double> all;
        for (const Leaf& l : other->masters().leaves())
            if (!l.gradient.empty()) all.insert(all.end(), l.gradient.f32(), l.gradient.f32() + l.gradient.count());
        return all;
    };
    const std::vector<double> g = all_gradients(batch), part = all_gradients(half);
    double whole = 0, difference = 0;
    for (size_t i = 0; i < g.size(); ++i) whole += g[i] * g[i], difference += (g[i] - part[i]) * (g[i] - part[i]);
    const GradientNoise want = gradient_noise(difference, whole, n_counted(half.targets), n_counted(batch.targets));
    const StepReport first = t->step(), second = t->step();
    EXPECT_GT(want.trace, 0);
    EXPECT_NEAR(scalar(first, "gradient_noise.trace") / want.trace, 1, 1e-13);
    EXPECT_NEAR(scalar(first, "gradient_noise.square") / want.square, 1, 6e-11);
    EXPECT_TRUE(std::isnan(scalar(second, "gradient_noise.trace"))) << "every second step";
}

TEST(RandomControl, exchanges_as_many_experts_as_the_old_choices_do) {
    const auto make = [](uint64_t seed) {
        ExpertChoices c;
        c.n_tokens = 200;
        const CounterRng rng(seed, 0);
        for (int l = 0; l < 2; ++l) {
            c.by_layer.emplace_back();
            for (uint64_t t = 0; t < 200; ++t) {
                const auto a = static_cast<int32_t>(rng.bits(4 * t + 2 * l) % 8);
                c.by_layer.back().insert(c.by_layer.back().end(),
                                         {a, static_cast<int32_t>((a + 1 + rng.bits(4 * t + 2 * l + 1) % 7) % 8)});
            }
        }
        return c;
    };
    const ExpertChoices old = make(1), now = make(2), control = random_control(old, now, 8, 3);
    int64_t n_same_as_old = 0;
    for (size_t l = 0; l < 2; ++l)
        for (size_t t = 0; t < 200; ++t) {
            const auto set = [&](const ExpertChoices& c) {
                return std::set<int32_t>{c.by_layer[l][2 * t], c.by_layer[l][2 * t + 1]};
            };
            const auto missing = [&](const std::set<int32_t>& a, const std::set<int32_t>& b) {
                int n = 0;
                for (int32_t e : a) n += !b.contains(e);
                return n;
            };
            EXPECT_EQ(set(control).size(), 2u);
            EXPECT_EQ(missing(set(now), set(control)), missing(set(now), set(old)));
            n_same_as_old += set(control) == set(old) && set(old) != set(now);
        }
    EXPECT_LT(n_same_as_old, 80) << "the exchanged ones are random, not the old ones";
    EXPECT_EQ(random_control(old, now, 8, 3).by_layer, control.by_layer);
    EXPECT_NE(random_control(old, now, 8, 4).by_layer, control.by_layer);
    EXPECT_EQ(random_control(now, now, 8, 3).by_layer, now.by_layer);
}

TEST(Anticipatory, starts_when_told_and_the_control_differs_from_it) {
    TrainConfig c = test::small_training();
    c.lr = 3e-2, c.metrics = MetricsLevel::layers, c.metrics_every = 1, c.anticipatory_delta = 4;
    const auto losses = [&](AnticipatoryMode mode, int64_t start) {
        c.anticipatory = mode, c.anticipatory_start = start;
        const auto t = test::small_trainer(c);
        std::vector<double> all;
        for (int i = 0; i < 12; ++i) {
            const StepReport r = t->step();
            EXPECT_EQ(std::isnan(scalar(r, "routing_churn")), mode == AnticipatoryMode::off || i < start);
            all.push_back(r.loss);
        }
        return all;
    };
    const auto off = losses(AnticipatoryMode::off, 0), late = losses(AnticipatoryMode::always, 6),
               on = losses(AnticipatoryMode::always, 0), random = losses(AnticipatoryMode::random, 0);
    for (size_t i = 0; i <= 6; ++i) EXPECT_EQ(off[i], late[i]) << i;
    EXPECT_NE(off, late);
    EXPECT_NE(on, random);
    EXPECT_EQ(on[0], random[0]);
}

// At age 0 the old choices are the step's own, whatever the forward pass of training rounds and attends to.
TEST(Anticipatory, at_age_0_experts_are_those_of_the_step_itself) {
    const auto first_step = [](AnticipatoryMode mode, const std::string& keys, int64_t n_before) {
        TrainConfig c = test::small_training();
        c.init_std = 0.3, c.lr = 3e-2, c.warmup_steps = 0, c.metrics = MetricsLevel::layers, c.metrics_every = 1;
        ConfigFields f = fields(c);
        std::istringstream words(keys);
        for (std::string word; words >> word;) f.set(word);
        c.anticipatory = mode, c.anticipatory_start = n_before;
        const auto t = test::small_trainer(c);
        for (int64_t i = 0; i < n_before; ++i) t->step();
        StepReport r = t->step();
        std::erase_if(r.scalars, [](const Scalar& s) { return s.name == "routing_churn" || s.name.starts_with("bytes."); });
        return r;
    };
    for (const char* keys : {"", "fp8_weights=true", "fp4_experts=true fp8_activations=true", "fp8_cache=true", "indexer=dense",
                             "indexer=warm_up indexer_weight=1",
                             "indexer=staged indexer_weight=1 indexer_dense_steps=9",
                             "fp8_weights=true fp4_experts=true fp8_activations=true fp8_cache=true fp4_index=true",
                             "fp8_activations=true fp8_activation_scale=tensor",
                             "fp8_activations=true fp8_activation_scale=delayed"})
        for (const int64_t n_before : {0, 3}) {
            const StepReport own = first_step(AnticipatoryMode::off, keys, n_before),
                             forced = first_step(AnticipatoryMode::always, keys, n_before);
            ASSERT_EQ(own.scalars.size(), forced.scalars.size());
            for (size_t i = 0; i < own.scalars.size(); ++i)
                EXPECT_EQ(own.scalars[i].value, forced.scalars[i].value) << keys << " " << n_before << " " << own.scalars[i].name;
        }
}

// ---- clipping, loads
TEST(ClipRate, is_the_share_of_the_last_fifty_steps) {
    TrainConfig c = test::small_training();
    c.steps = 60;
    std::vector<double> norms;
    const auto twin = test::small_trainer(c, 2);
    for (int i = 0; i < 60; ++i) norms.push_back(twin->step().grad_norm);
    std::nth_element(norms.begin(), norms.begin() + 30, norms.end());
    c.clip = norms[30];  // about half of the steps
    const auto t = test::small_trainer(c, 2);
    std::vector<int> clipped;
    for (int i = 0; i < 60; ++i) {
        const StepReport r = t->step();
        clipped.push_back(r.grad_norm > c.clip);
        double n = 0;
        for (size_t s = clipped.size() < 50 ? 0 : clipped.size() - 50; s < clipped.size(); ++s) n += clipped[s];
        if (i < 49) {
            EXPECT_TRUE(std::isnan(scalar(r, "clip_rate")));
        } else {
            EXPECT_DOUBLE_EQ(scalar(r, "clip_rate"), n / 50);
        }
    }
    EXPECT_NE(std::count(clipped.begin(), clipped.end(), 1), 60);
    EXPECT_NE(std::count(clipped.begin(), clipped.end(), 1), 0);
}

TEST(DeadShare, is_of_all_layers_experts) {
    const StepReport r = test::small_trainer(test::small_training())->step();
    // Two layers and the MTP module; the hash layer is the text's.
    EXPECT_DOUBLE_EQ(scalar(r, "dead_share"), scalar(r, "dead_experts") / (3 * 4));
}

// ---- switches
TEST(QkClip, brings_the_largest_logit_of_a_head_to_its_line) {
    test::TempFolder folder;
    std::ofstream(folder.file("ids.json")) << "[5, 3, 9, 9, 2, 7, 1, 0, 4, 4, 8, 11, 20, 3, 5, 9]";
    TrainConfig c = test::small_training();
    c.data = "tokens", c.tokens = folder.file("ids.json"), c.batch = 1, c.sequence_length = 16, c.lr = 0,
    c.warmup_steps = 0;
    c.balance = BalanceKind::none, c.metrics = MetricsLevel::layers, c.metrics_every = 1, c.init_std = 0.6;
    c.mtp_weight = c.mtp_weight_in_decay = 0;
    ModelConfig m = test::small_model(0);
    m.variants.q_norm = false;
    const double before = [&] {
        Trainer t(m, fresh_weights(m, c), c, 1);
        return scalar(t.step(), "attention.max_logit");
    }();
    c.qk_clip = before / 3;
    Trainer t(m, fresh_weights(m, c), c, 1);
    const StepReport first = t.step(), second = t.step();
    EXPECT_NEAR(scalar(first, "attention.max_logit"), before, 1e-9);
    EXPECT_GE(scalar(first, "qk_clip.heads"), 1);
    EXPECT_EQ(scalar(second, "layers.0.attention.max_logit") <= c.qk_clip * (1 + 1e-5), true)
        << "the first layer's input is the same";
    m.variants.q_norm = true;
    EXPECT_THROW(Trainer(m, fresh_weights(m, c), c, 1), Error) << "a norm undoes it";
}

TEST(QkClip, scales_the_rows_of_the_head_alone) {
    TrainConfig c = test::small_training();
    ModelConfig m = test::small_model();
    ModelWeights w = fresh_weights(m, c);
    Masters masters(w, m, DType::f32);
    std::map<std::string, std::vector<float>> kept;
    for (const Leaf& l : masters.leaves())
        kept[l.name].assign(l.param->master.f32(), l.param->master.f32() + l.param->master.count());
    EXPECT_EQ(clip_query_projections(masters, {{1, {8, 40}}, {0, {1, 2}}}, m.n_layers(), 10), 1);
    for (const Leaf& l : masters.leaves())
        for (int64_t i = 0; i < l.param->master.count(); ++i) {
            const bool is_clipped = l.name == "layers.1.attn.wq_b.weight" && i >= l.param->master.count() / 2;
            ASSERT_EQ(l.param->master.f32()[i], kept[l.name][static_cast<size_t>(i)] * (is_clipped ? 0.25f : 1.0f))
                << l.name;
        }
}

TEST(Fresh, aligned_skewed_and_scaled_starts) {
    TrainConfig c = test::small_training();
    const ModelConfig m = test::small_model();
    const auto values = [&](const TrainConfig& t) {
        ModelWeights w = fresh_weights(m, t);
        const Masters masters(w, m, DType::f32);
        std::map<std::string, std::vector<float>> all;
        for (const Leaf& l : masters.leaves())
            all[l.name].assign(l.param->master.f32(), l.param->master.f32() + l.param->master.count());
        return all;
    };
    const auto plain = values(c);
    c.init_aligned = 4, c.init_router_skew = 3, c.init_embedding = 2, c.init_hyper = 0;
    const auto changed = values(c);
    for (const auto& [name, now] : changed) {
        const auto& was = plain.at(name);
        const auto has = [&, &n = name](const char* part) { return n.find(part) != std::string::npos; };
        const std::string gate = has(".w3.weight") ? name.substr(0, name.size() - 9) + "w1.weight" : name;
        for (size_t i = 0; i < now.size(); ++i) {
            float expected = was[i];
            if (has(".w1.weight") || has(".w3.weight")) expected = 4 * plain.at(gate)[i];
            if (has("ffn.gate.weight") && i < 32) expected *= 3;
            if (name == "embed.weight") expected *= 2;
            if (has("_fn")) expected = 0;
            ASSERT_FLOAT_EQ(now[i], expected) << name << " " << i;
        }
    }
}

// ---- FP64 publishes what FP32 does
TEST(Internals, are_measured_in_both_dtypes) {
    TrainConfig c = test::small_training();
    c.metrics = MetricsLevel::all, c.metrics_every = 1, c.balance = BalanceKind::bias_and_sequence;
    const auto narrow = test::small_trainer(c)->step();
    c.dtype = TrainDType::f64;
    const auto wide = test::small_trainer(c, 2)->step();
    ASSERT_EQ(narrow.scalars.size(), wide.scalars.size());
    for (size_t i = 0; i < wide.scalars.size(); ++i) {
        const auto& [name, value] = wide.scalars[i];
        EXPECT_EQ(name, narrow.scalars[i].name);
        if (name.starts_with("bytes.")) continue;
        // After one step of Adam: signs of gradients, of which those of the streams that are still alike are rounding
        // alone.
        if (name == "surprise.hyper" || name == "spectral.hyper" || name == "stable_rank.update.hyper") continue;
        EXPECT_NEAR(value, narrow.scalars[i].value, 2e-4 * std::max(1.0, std::abs(value))) << name;
    }
    for (const char* name :
         {"router.margin", "hyper.gain.max", "hyper.dynamic", "compressor.entropy", "experts.together",
          "router.switch_rate", "router.information.token", "attention.entropy", "experts.alignment"})
        EXPECT_GT(scalar(wide, name), 0) << name;
}

}  // namespace
}  // namespace vitrine
