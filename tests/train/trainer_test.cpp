// The step: same bits whatever the threads, recipes that learn, non-finite numbers, spikes and rolling back.
#include "engine/train/trainer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "tests/train/small_model.h"

namespace vitrine {
namespace {

double scalar(const StepReport& r, const std::string& name) {
    for (const Scalar& s : r.scalars)
        if (s.name == name) return s.value;
    ADD_FAILURE() << "no scalar " << name << " at step " << r.step;
    return NAN;
}

TEST(Trainer, threads_do_not_change_a_bit) {
    for (const char* optimizer : {"adamw", "muon"}) {
        TrainConfig c = test::small_training();
        fields(c).set(std::string("optimizer=") + optimizer);
        c.balance = BalanceKind::bias_and_sequence, c.z_weight = 1e-3, c.metrics = MetricsLevel::all, c.metrics_every = 1;
        std::vector<std::byte> first;
        std::vector<double> numbers;
        for (int n_threads : {1, 2, 3}) {
            const auto t = test::small_trainer(c, n_threads);
            std::vector<double> here;
            for (int i = 0; i < 6; ++i)
                for (const Scalar& s : t->step().scalars) here.push_back(s.value);
            if (n_threads == 1) first = test::bits_of(*t), numbers = here;
            EXPECT_EQ(first, test::bits_of(*t)) << optimizer << ", " << n_threads << " threads";
            ASSERT_EQ(numbers.size(), here.size());
            EXPECT_EQ(std::memcmp(numbers.data(), here.data(), here.size() * sizeof(double)), 0);
        }
    }
}

TEST(Trainer, recomputation_changes_no_bit_and_saves_activations) {
    TrainConfig c = test::small_training();
    const auto keeps = test::small_trainer(c);
    c.recompute = true;
    const auto recomputes = test::small_trainer(c);
    StepReport a, b;
    for (int i = 0; i < 5; ++i) {
        a = keeps->step(), b = recomputes->step();
        EXPECT_EQ(a.loss, b.loss);
        EXPECT_EQ(a.grad_norm, b.grad_norm);
    }
    EXPECT_LT(scalar(b, "bytes.activations"), scalar(a, "bytes.activations"));
}

TEST(Trainer, learns_with_either_optimizer) {
    for (const char* recipe : {"optimizer=adamw", "optimizer=muon"}) {
        TrainConfig c = test::small_training();
        fields(c).set(recipe);
        c.batch = 8, c.lr = 1e-2;
        const auto t = test::small_trainer(c, 2);
        double first = 0, last = 0;
        for (int i = 0; i < 60; ++i) {
            const double loss = scalar(t->step(), "loss.next");
            if (i < 5) first += loss;
            if (i >= 55) last += loss;
        }
        EXPECT_LT(last / 5, first / 5 - 0.8) << recipe;  // from ln 48 = 3.87
    }
}

TEST(Trainer, clipping_scales_what_is_above) {
    TrainConfig c = test::small_training();
    c.clip = 0.01;
    const StepReport r = test::small_trainer(c)->step();
    EXPECT_GT(r.grad_norm, 0.01);
    EXPECT_NEAR(scalar(r, "grad_norm_clipped"), 0.01, 1e-12);
}

TEST(Trainer, unreachable_weights_stay_as_they_are) {
    TrainConfig c = test::small_training();
    c.mtp_weight = 0, c.indexer_weight = 0;
    const auto t = test::small_trainer(c);
    auto values = [&](const std::string& part) {
        std::vector<float> all;
        for (const Leaf& l : t->masters().leaves())
            if (l.name.find(part) != std::string::npos)
                all.insert(all.end(), l.param->master.f32(), l.param->master.f32() + l.param->master.count());
        return all;
    };
    const auto mtp = values("mtp."), indexer = values("attn.indexer."), other = values("layers.1.attn.w");
    for (int i = 0; i < 3; ++i) t->step();
    EXPECT_FALSE(mtp.empty() || indexer.empty());
    EXPECT_EQ(mtp, values("mtp."));
    EXPECT_EQ(indexer, values("attn.indexer."));
    EXPECT_NE(other, values("layers.1.attn.w"));
}

TEST(Trainer, the_indexer_learns_when_asked_and_alone_in_its_warm_up) {
    TrainConfig c = test::small_training();
    c.indexer = IndexerMode::staged, c.indexer_dense_steps = 1, c.indexer_warmup_steps = 2, c.indexer_weight = 1;
    c.sequence_length = 64, c.steps = 4;
    const auto t = test::small_trainer(c);
    auto snapshot = [&](bool of_indexer) {
        std::vector<float> all;
        for (const Leaf& l : t->masters().leaves())
            if ((l.name.find("attn.indexer.") != std::string::npos) == of_indexer)
                all.insert(all.end(), l.param->master.f32(), l.param->master.f32() + l.param->master.count());
        return all;
    };
    auto before = snapshot(true), rest = snapshot(false);
    t->step();
    EXPECT_EQ(before, snapshot(true)) << "dense: the indexer rests";
    EXPECT_NE(rest, snapshot(false));
    rest = snapshot(false);
    const StepReport warm = t->step();
    EXPECT_NE(before, snapshot(true));
    EXPECT_EQ(rest, snapshot(false)) << "warm-up: all else is frozen";
    EXPECT_GE(scalar(warm, "loss.indexer"), 0);
    t->step(), t->step();
    EXPECT_NE(rest, snapshot(false)) << "sparse: both learn";
}

TEST(Trainer, router_biases_follow_the_sign_of_the_load) {
    TrainConfig c = test::small_training();
    c.bias_speed = 0.25;
    const auto t = test::small_trainer(c);
    t->step();
    int n_moved = 0;
    for (const Leaf& l : t->masters().leaves())
        if (l.role == ParamRole::router_bias)
            for (int64_t e = 0; e < l.param->master.count(); ++e) {
                const float b = l.param->master.f32()[e];
                EXPECT_TRUE(b == 0.25f || b == -0.25f || b == 0) << l.name;
                n_moved += b != 0;
            }
    EXPECT_GT(n_moved, 4);
}

TEST(Trainer, what_is_not_finite_stops_or_skips_and_is_named) {
    for (const bool skips : {false, true}) {
        TrainConfig c = test::small_training();
        c.on_nonfinite = skips ? NonFinitePolicy::skip : NonFinitePolicy::stop;
        const auto t = test::small_trainer(c);
        t->step();
        Leaf& leaf = t->masters().leaves()[7];
        const float kept = leaf.param->master.f32()[0];
        leaf.param->master.f32()[0] = NAN;
        const auto before = test::bits_of(*t);
        const StepReport r = t->step();
        EXPECT_EQ(r.status, skips ? StepReport::Status::skipped : StepReport::Status::stopped);
        ASSERT_EQ(r.events.size(), 1u);
        EXPECT_NE(r.events[0].text.find(leaf.name), std::string::npos) << r.events[0].text;
        EXPECT_NE(r.events[0].text.find("step 1"), std::string::npos) << r.events[0].text;
        EXPECT_EQ(before, test::bits_of(*t)) << "nothing was updated";
        EXPECT_EQ(t->next_step(), skips ? 2 : 1);
        EXPECT_EQ(t->first_bad_weight(), leaf.name);
        leaf.param->master.f32()[0] = kept;
        EXPECT_EQ(t->step().status, StepReport::Status::done);
    }
}

// Finite weights whose product is not: the place where the numbers end is named, and the batch.
TEST(Trainer, a_loss_that_overflows_names_where_it_began) {
    TrainConfig c = test::small_training();
    c.on_nonfinite = NonFinitePolicy::skip;
    const auto t = test::small_trainer(c);
    std::map<float*, std::vector<float>> kept;
    for (Leaf& l : t->masters().leaves())
        if (l.name.starts_with("layers.1.ffn.shared_experts.")) {
            float* x = l.param->master.f32();
            kept[x].assign(x, x + l.param->master.count());
            std::fill(x, x + l.param->master.count(), 3e38f);
        }
    ASSERT_EQ(kept.size(), 3u);
    const StepReport r = t->step();
    ASSERT_EQ(r.events.size(), 1u);
    EXPECT_NE(r.events[0].text.find("blocks.1.hook_mlp_out (output of the MLP sub-layer) at token "),
              std::string::npos)
        << r.events[0].text;
    const Json batch = Json::parse(r.events[0].detail, "detail").at("batch");
    EXPECT_EQ(batch.at("step").as_int(), 0);
    EXPECT_FALSE(batch.at("samples").items().empty());
    for (const auto& [x, values] : kept) std::copy(values.begin(), values.end(), x);
    const StepReport next = t->step();
    EXPECT_EQ(next.status, StepReport::Status::done);
    const auto skipped = std::find_if(next.scalars.begin(), next.scalars.end(),
                                      [](const Scalar& s) { return s.name == "skipped_steps"; });
    ASSERT_NE(skipped, next.scalars.end());
    EXPECT_EQ(skipped->value, 1);
}

TEST(Trainer, live_fields_change_and_others_do_not) {
    const auto t = test::small_trainer(test::small_training());
    t->change("lr", 0.5), t->change("clip", 2);
    EXPECT_EQ(t->config().lr, 0.5);
    EXPECT_THROW(t->change("lr", -1.0), Error);
    EXPECT_THROW(t->change("batch", 3), Error);
    EXPECT_THROW(t->change("lrr", 3), Error);
    EXPECT_EQ(t->config().batch, 2);
}

TEST(Trainer, a_spike_is_found_and_triggers_anticipatory_routing) {
    TrainConfig c = test::small_training();
    c.steps = 60, c.lr = 1e-2, c.batch = 4, c.spike_window = 10, c.rollback_steps = 4;
    c.noise_step = 30, c.noise_batches = 1;
    c.anticipatory = AnticipatoryMode::triggered, c.anticipatory_delta = 3, c.anticipatory_steps = 8;
    const auto t = test::small_trainer(c, 2);
    std::vector<int64_t> steps;
    int n_rollbacks = 0;
    while (!t->is_done()) {
        const StepReport r = t->step();
        steps.push_back(r.step);
        if (r.status != StepReport::Status::rolled_back) continue;
        ++n_rollbacks;
        EXPECT_EQ(r.step, 30);
        EXPECT_LE(t->next_step(), 26);
        EXPECT_GE(t->next_step(), 22);
        EXPECT_EQ(r.events.at(0).kind, "spike");
        EXPECT_EQ(r.events.at(1).kind, "rollback");
    }
    EXPECT_EQ(n_rollbacks, 1) << "while the mode is on, the same batch is no reason to go back again";
    EXPECT_GT(steps.size(), 60u);
}

TEST(Trainer, stale_choices_differ_from_fresh_ones_and_are_used) {
    TrainConfig c = test::small_training();
    c.lr = 3e-2, c.metrics = MetricsLevel::layers, c.metrics_every = 1;
    const auto off = test::small_trainer(c);
    c.anticipatory = AnticipatoryMode::always, c.anticipatory_delta = 5;
    const auto on = test::small_trainer(c);
    EXPECT_EQ(off->step().loss, on->step().loss) << "at step 0 both choose by the first weights";
    double largest_churn = 0, difference = 0;
    for (int i = 1; i < 12; ++i) {
        const StepReport a = off->step(), b = on->step();
        largest_churn = std::max(largest_churn, scalar(b, "routing_churn"));
        difference = std::max(difference, std::abs(a.loss - b.loss));
    }
    EXPECT_GT(largest_churn, 0.01);
    EXPECT_GT(difference, 0);
}

// Scales of steps before are state: six steps are three and three more, bit for bit, and not what the tensors' own
// scales give.
TEST(Trainer, delayed_scales_go_on_from_a_checkpoint) {
    TrainConfig c = test::small_training();
    c.fp8_activations = true, c.lr = 3e-2, c.fp8_activation_scale = ActivationScale::tensor;
    const auto own = test::small_trainer(c);
    c.fp8_activation_scale = ActivationScale::delayed;
    const auto straight = test::small_trainer(c), first = test::small_trainer(c), second = test::small_trainer(c, 2);
    c.metrics = MetricsLevel::all, c.metrics_every = 1;
    const auto measured = test::small_trainer(c);
    double difference = 0;
    std::vector<double> losses;
    for (int i = 0; i < 6; ++i) {
        losses.push_back(straight->step().loss);
        EXPECT_EQ(measured->step().loss, losses.back()) << "looking changes nothing";
        const double other = own->step().loss;
        if (i == 0) {
            EXPECT_EQ(losses[0], other) << "no step before";
        }
        difference = std::max(difference, std::abs(losses.back() - other));
    }
    EXPECT_GT(difference, 0);
    for (int i = 0; i < 3; ++i) first->step();
    const Trainer::State state = first->state();
    std::map<std::string, Trainer::State::Array> arrays;
    for (const auto& a : state.arrays) arrays[a.name] = a;
    second->restore(arrays, Json::parse(state.rest.dump(), "state"), "state");
    for (size_t i = 3; i < 6; ++i) EXPECT_EQ(second->step().loss, losses[i]) << i;
    std::string damaged = state.rest.dump();
    const size_t list = damaged.find('[', damaged.find("\"recent_largest\""));
    ASSERT_NE(list, std::string::npos);
    damaged.insert(list + 1, "-1,");
    EXPECT_THROW(second->restore(arrays, Json::parse(damaged, "state"), "state"), Error);
}

TEST(Trainer, a_batch_comes_again) {
    TrainConfig c = test::small_training();
    c.noise_step = 3, c.noise_batches = 2, c.lr = 0, c.warmup_steps = 0, c.noise_kind = NoiseKind::repeat;
    c.balance = BalanceKind::none;
    const auto repeated = test::small_trainer(c);
    c.noise_batches = 0;
    const auto plain = test::small_trainer(c);
    std::vector<double> a, b;
    for (int i = 0; i < 6; ++i) a.push_back(repeated->step().loss), b.push_back(plain->step().loss);
    EXPECT_EQ(a[3], b[2]) << "nothing moves: the same batch costs the same";
    EXPECT_EQ(a[4], b[2]);
    EXPECT_NE(b[3], b[2]);
    EXPECT_EQ(a[5], b[5]);
}

}  // namespace
}  // namespace vitrine
