// Alarms and spikes: which lines are told, when, and when not again.
#include "engine/train/alarms.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/telemetry/run_folder.h"
#include "tests/train/small_model.h"

namespace vitrine {
namespace {

struct Told {
    int64_t step;
    bool is_amber;
    friend bool operator==(const Told&, const Told&) = default;
};
std::vector<Told> alarms(const std::string& name, const std::vector<double>& values, int64_t every) {
    std::vector<Told> told;
    for (int64_t i = 0; i < static_cast<int64_t>(values.size()); ++i) {
        StepReport r;
        r.step = i * every;
        r.scalars = {{name, values[static_cast<size_t>(i)]}};
        const auto before = [&](int64_t step, const std::string& asked) {
            EXPECT_EQ(asked, name);
            EXPECT_LT(step, r.step);
            return step >= 0 && step % every == 0 ? values[static_cast<size_t>(step / every)] : NAN;
        };
        for (const TrainEvent& e : alarms_of(r, every, before)) {
            EXPECT_EQ(e.kind, run_folder::kAlarm);
            EXPECT_NE(e.text.find(name), std::string::npos);
            told.push_back({e.step, e.text.find("amber: ") != std::string::npos});
        }
    }
    return told;
}
std::vector<int64_t> alarm_steps(const std::string& name, const std::vector<double>& values, int64_t every) {
    std::vector<int64_t> steps;
    for (const Told& t : alarms(name, values, every)) steps.push_back(t.step);
    return steps;
}
using Steps = std::vector<int64_t>;

TEST(Alarms, of_lines_are_told_when_they_are_crossed) {
    EXPECT_EQ(alarm_steps("clip_rate", {0.4, 0.6, 0.7}, 1), Steps{1});
    EXPECT_EQ(alarm_steps("dead_share", {0.05, 0.2}, 1), Steps{1});
    EXPECT_EQ(alarm_steps("dead_share.100", {0.04, 0.06}, 1), Steps{1});
    EXPECT_EQ(alarm_steps("fp8.saturated.activations", {0, 0.002, 0.003, 0}, 10), Steps{10});
    EXPECT_EQ(alarm_steps("hyper.gain.max", {99, 101}, 10), Steps{10});
    EXPECT_EQ(alarm_steps("hyper.gain_backward.max", {99, 101}, 10), Steps{10});
    EXPECT_EQ(alarm_steps("load_entropy", {0.86, 0.84, 0.83}, 1), Steps{1}) << "below its line";
    EXPECT_EQ(alarm_steps("load_entropy", {0.84}, 1), Steps{0}) << "there is no row before";
    EXPECT_EQ(alarm_steps("load_entropy", {NAN, 0.9, 0.95}, 1), Steps{});
}

TEST(Alarms, of_balance_have_two_colours) {
    EXPECT_EQ(alarms("max_vio.max", {0.9, 1.1, 2, 3.1, 3.2}, 1), (std::vector<Told>{{1, true}, {3, false}}));
}

TEST(Alarms, of_a_value_that_swings_about_its_line_are_told_once) {
    std::vector<double> swings, wide;
    for (int i = 0; i < 100; ++i) swings.push_back(i % 2 ? 0.52 : 0.45), wide.push_back(i % 2 ? 0.9 : 0.1);
    EXPECT_EQ(alarm_steps("clip_rate", swings, 1), Steps{1});
    EXPECT_EQ(alarm_steps("clip_rate", wide, 1), Steps{1}) << "never quiet for 20 steps";
    std::vector<double> back(60, 0.3);
    back[5] = back[24] = back[50] = 0.6;
    EXPECT_EQ(alarm_steps("clip_rate", back, 1), (Steps{5, 50})) << "24 is too soon, 50 is news";
    std::fill(back.begin() + 25, back.begin() + 50, 0.45);
    EXPECT_EQ(alarm_steps("clip_rate", back, 1), Steps{5}) << "0.45 is not well back";
    std::vector<double> entropy(60, 0.95);
    entropy[5] = entropy[15] = entropy[50] = 0.8;
    EXPECT_EQ(alarm_steps("load_entropy", entropy, 1), (Steps{5, 50}));
}

TEST(Alarms, of_what_doubles_within_fifty_steps) {
    // 11 to 23 within 40 steps: told once, though it stays; below 10 nothing is told.
    EXPECT_EQ(alarm_steps("attention.max_logit", {11, 14, 18, 21, 23, 24}, 10), Steps{40});
    EXPECT_EQ(alarm_steps("attention.max_logit", {1, 3, 9, 9, 9, 9}, 10), Steps{});
    // The same rise over 100 steps is none: no window of 50 holds both ends.
    EXPECT_EQ(alarm_steps("attention.max_logit", {11, 12, 13, 14, 15, 16, 18, 19, 20, 22, 24}, 10), Steps{});
    EXPECT_EQ(alarm_steps("attention.max_logit", {11, 30, 12, 11, 11, 11, 11, 11, 30}, 10), (Steps{10, 80}));
    std::vector<double> swings;
    for (int i = 0; i < 40; ++i) swings.push_back(i % 2 ? 23 : 11);
    EXPECT_EQ(alarm_steps("attention.max_logit", swings, 10), Steps{10});
}

TEST(Alarms, of_updates_far_above_their_own_median) {
    std::vector<double> ratio(80, 1e-3);
    ratio[60] = ratio[61] = 6e-3, ratio[70] = 4e-3;
    EXPECT_EQ(alarm_steps("update_ratio.experts", ratio, 1), Steps{60});
    std::vector<double> warm_up;  // lr grows from 0: no step lies five times above those before
    for (int i = 0; i < 100; ++i) warm_up.push_back(1e-4 * (i + 1));
    EXPECT_EQ(alarm_steps("update_ratio.experts", warm_up, 1), Steps{});
    EXPECT_EQ(alarm_steps("update_ratio.experts", std::vector<double>(20, 1e-3), 1), Steps{});
}

TEST(Alarms, of_a_frozen_router_need_two_hundred_steps) {
    std::vector<double> entropy(30, 1.0);
    EXPECT_EQ(alarm_steps("router.entropy", entropy, 10), Steps{200});
    entropy[3] = 0.99;
    EXPECT_EQ(alarm_steps("router.entropy", entropy, 10), Steps{240});
    EXPECT_EQ(alarm_steps("router.entropy", std::vector<double>(100, 0.999), 10), Steps{});
}

// Sinks and position biases begin at 0: their first updates are as large as they are.
TEST(Alarms, none_at_the_start_of_a_run_that_goes_well) {
    TrainConfig c = test::small_training();
    c.lr = 3e-4, c.batch = 8;
    for (const OptimizerKind kind : {OptimizerKind::adamw, OptimizerKind::muon}) {
        c.optimizer = kind;
        const auto t = test::small_trainer(c);
        std::map<std::pair<int64_t, std::string>, double> rows;
        double most = 0;
        for (int i = 0; i < 30; ++i) {
            const StepReport r = t->step();
            const auto before = [&](int64_t step, const std::string& name) {
                const auto at = rows.find({step, name});
                return at == rows.end() ? NAN : at->second;
            };
            for (const TrainEvent& e : alarms_of(r, c.metrics_every, before))
                EXPECT_EQ(e.text.find("update_"), std::string::npos) << e.text;
            for (const Scalar& s : r.scalars) {
                rows[{r.step, s.name}] = s.value;
                if (s.name == "update_ratio.vectors") most = std::max(most, s.value);
            }
        }
        EXPECT_GT(most, 0.5) << "what the line of the others would have told";
    }
    EXPECT_EQ(alarm_steps("update_rms.vectors", {0.04, 0.06}, 1), Steps{1}) << "a large update is told all the same";
    EXPECT_EQ(alarm_steps("update_ratio.experts", {0.04, 0.06}, 1), Steps{1});
}

// ---- spikes
TEST(Spike, is_six_deviations_above_the_median_of_fifty_steps_too) {
    TrainConfig c = test::small_training();
    c.steps = 80, c.lr = 0, c.warmup_steps = 0, c.balance = BalanceKind::none, c.spike_threshold = 100, c.batch = 4;
    std::vector<double> losses;
    const auto run = [&](double line) {
        c.spike_z = line;
        const auto t = test::small_trainer(c, 2);
        losses.clear();
        std::vector<int64_t> told;
        for (int64_t step = 0; step < 80; ++step) {
            const StepReport r = t->step();
            const auto z = std::find_if(r.scalars.begin(), r.scalars.end(), [](const Scalar& s) { return s.name == "spike.z"; });
            EXPECT_EQ(z != r.scalars.end(), step >= 50) << step;
            if (z != r.scalars.end()) {
                const std::vector<double> last(losses.end() - 50, losses.end());
                const auto middle = [](std::vector<double> v) {
                    std::sort(v.begin(), v.end());
                    return (v[24] + v[25]) / 2;
                };
                std::vector<double> off;
                for (const double l : last) off.push_back(std::abs(l - middle(last)));
                const double want = (r.loss - middle(last)) / (1.4826 * middle(off));
                EXPECT_NEAR(z->value, want, 1e-9 * std::abs(want) + 1e-12);
                bool is_told = false;
                for (const TrainEvent& e : r.events) is_told = is_told || e.kind == run_folder::kSpike;
                EXPECT_EQ(is_told, line > 0 && want > line) << step;
                if (is_told) told.push_back(step);
            }
            losses.push_back(r.loss);
        }
        return told;
    };
    EXPECT_FALSE(run(1).empty());
    EXPECT_TRUE(run(0).empty()) << "0 = off";
}

}  // namespace
}  // namespace vitrine
