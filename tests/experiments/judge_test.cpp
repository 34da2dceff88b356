// Training experiments: their arms can be built, and their judgement follows from the runs that it is given.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "engine/base/config/training_config.h"
#include "engine/model/config.h"
#include "experiments/list.h"
#include "experiments/runs.h"

namespace vitrine::lab {
namespace {

using Values = std::function<double(const Arm& arm, int seed, const std::string& metric, int step)>;

std::vector<LabRun> made_up(const Experiment& e, const Knobs& knobs, int n_seeds, const Values& value) {
    std::vector<LabRun> runs;
    for (const Arm& a : e.arms(knobs))
        for (int seed = 1; seed <= n_seeds; ++seed) {
            LabRun r;
            r.experiment = e.info.name, r.arm = a.label, r.seed = seed, r.state = RunState::finished;
            for (const LabPlot& p : e.info.plots)
                for (const std::string& metric : p.metrics)
                    for (int step = 0; step < a.train.steps; step += 1)
                        r.scalars[metric].step.push_back(step),
                            r.scalars[metric].value.push_back(value(a, seed, metric, step));
            runs.push_back(std::move(r));
        }
    return runs;
}

LabVerdict judged(const std::string& name, const std::string& size, const Values& value) {
    const Experiment& e = experiment(name);
    const Knobs knobs(e.info, {{"size", size}});
    const LabVerdict v = e.judge(knobs, made_up(e, knobs, 3, value));
    for (const LabTable& t : v.tables)
        for (const auto& row : t.rows) EXPECT_EQ(row.size(), t.columns.size()) << name << ": " << t.title;
    return v;
}

TEST(Arms, can_be_built_and_told_apart) {
    for (const Experiment& e : experiments()) {
        SCOPED_TRACE(e.info.name);
        EXPECT_EQ((e.analyse != nullptr) + (e.measure != nullptr) + (e.arms != nullptr), 1);
        EXPECT_EQ(e.arms == nullptr, e.judge == nullptr);
        if (!e.arms) continue;
        EXPECT_EQ(e.info.badge == LabBadge::provoked, !e.info.provoked_by.empty());
        for (const char* size : {"quick", "full"}) {
            std::set<std::string> labels;
            for (const Arm& a : e.arms(Knobs(e.info, {{"size", size}}))) {
                EXPECT_TRUE(labels.insert(a.label).second) << a.label << " twice";
                EXPECT_TRUE(validate(a.model, a.label).empty()) << validate(a.model, a.label)[0].to_string();
                EXPECT_TRUE(validate(a.train, a.label).empty()) << validate(a.train, a.label)[0].to_string();
            }
            EXPECT_GE(labels.size(), 2u);
        }
        const LabVerdict nothing = e.judge(Knobs(e.info, {}), {});
        EXPECT_EQ(nothing.outcome, LabVerdict::Outcome::none);
        EXPECT_NE(nothing.sentence.find("No finished run of"), std::string::npos);
    }
}

TEST(Arms, follow_the_knobs) {
    const Experiment& e = experiment("X01");
    const auto arms = e.arms(Knobs(e.info, {{"layers", "3"}, {"clip", "0"}, {"steps", "17"}}));
    ASSERT_EQ(arms.size(), 2u);
    for (const Arm& a : arms) {
        EXPECT_EQ(a.model.n_layers(), 3);
        EXPECT_EQ(a.train.clip, 0);
        EXPECT_EQ(a.train.steps, 17);
    }
    EXPECT_EQ(arms[0].model.variants.residual, ResidualKind::hc);
    EXPECT_EQ(arms[1].model.variants.residual, ResidualKind::mhc);
}

TEST(Runs, curves_to_numbers) {
    const LabSeries s{{0, 1, 2, 3}, {4, 1, 2, 3}};
    EXPECT_EQ(last_mean(s, 2), 2.5);
    EXPECT_EQ(last_mean(s, 100), 2.5);
    EXPECT_EQ(largest(s), 4);
    EXPECT_EQ(at_step(s, 2.5), 2);
    EXPECT_TRUE(std::isnan(largest({{0, 1}, {1, NAN}})));
    EXPECT_TRUE(std::isnan(last_mean({})));
    EXPECT_EQ(each({433.4, 730}, 3), "433 / 730");
    EXPECT_EQ(of_seeds(1, 1), "1 of 1 seed");
}

TEST(Runs, failed_ones_are_missing_and_say_why) {
    const Experiment& e = experiment("X01");
    const Knobs knobs(e.info, {});
    auto runs = made_up(e, knobs, 1, [](const Arm&, int, const std::string&, int) { return 1.0; });
    runs[1].state = RunState::failed, runs[1].error = "disk full";
    const LabVerdict v = e.judge(knobs, runs);
    EXPECT_EQ(v.outcome, LabVerdict::Outcome::none);
    EXPECT_NE(v.sentence.find(runs[1].arm + " (failed: disk full)"), std::string::npos) << v.sentence;
}

// A metric that an arm never has leaves its cell empty; one that broke in a run says so, at that seed's place.
TEST(Runs, what_was_not_measured_is_not_nan) {
    const Experiment& e = experiment("X06");
    const Knobs knobs(e.info, {{"size", "full"}});
    auto runs = made_up(e, knobs, 3, [](const Arm&, int seed, const std::string& metric, int) {
        return metric == "loss.next" && seed == 2 ? NAN : 1.5;
    });
    for (LabRun& r : runs) {
        if (r.arm == "off") r.scalars.erase("routing_churn");       // no such metric
        if (r.arm == "triggered") r.scalars["routing_churn"] = {};  // read, without a point
        if (r.arm == "delta 5" && r.seed == 3) r.scalars.erase("routing_churn");
    }
    const Results results(e.arms(knobs), runs);
    const Reduce end = [](const LabSeries& s) { return last_mean(s); };
    EXPECT_TRUE(results.values_if_measured("off", "routing_churn", end).empty());
    EXPECT_TRUE(results.values_if_measured("triggered", "routing_churn", end).empty());
    EXPECT_EQ(each(results.values_if_measured("delta 5", "routing_churn", end), 2), "1.5 / 1.5 / nan");
    EXPECT_EQ(each(results.values_if_measured("off", "loss.next", end), 2), "1.5 / nan / 1.5");
    EXPECT_EQ(results.values("triggered", "routing_churn", end).size(), 3u);  // a verdict counts every run

    const LabVerdict v = e.judge(knobs, runs);
    const LabTable& t = v.tables[0];
    const auto& triggered = t.rows.back();
    ASSERT_EQ(triggered[0], "triggered");
    EXPECT_EQ(triggered[5], "") << t.columns[5];
    EXPECT_EQ(triggered[6], "1.500 / nan / 1.500") << t.columns[6];
}

TEST(Judgement, gain_of_hyper_connections) {
    const auto gain = [](const Arm& a, int, const std::string& metric, int step) {
        if (metric.rfind("hyper.", 0) != 0) return 1.7;
        const bool is_free = a.model.variants.residual == ResidualKind::hc;
        return is_free ? 1 + a.train.lr * 1e4 * a.model.n_layers() * step / 200.0 : 1.05;
    };
    EXPECT_EQ(judged("X01", "quick", gain).outcome, LabVerdict::Outcome::holds);
    EXPECT_EQ(judged("X01", "full", gain).outcome, LabVerdict::Outcome::holds);
    const auto same = [](const Arm&, int, const std::string&, int) { return 1.0; };
    EXPECT_EQ(judged("X01", "full", same).outcome, LabVerdict::Outcome::does_not_hold);
}

TEST(Judgement, a_loss_that_is_not_finite_is_told) {
    const auto broken = [](const Arm& a, int, const std::string& metric, int) {
        const bool is_free = a.model.variants.residual == ResidualKind::hc;
        return metric == "loss" && is_free ? NAN : is_free ? 1000.0 : 1.0;
    };
    EXPECT_NE(judged("X01", "quick", broken).sentence.find("3 runs ended with a loss that is not finite"),
              std::string::npos);
}

TEST(Judgement, logits) {
    const auto grow = [](const Arm& a, int, const std::string& metric, int) {
        const bool bare = !a.model.variants.q_norm;
        if (metric == "loss") return 2 + (bare ? 10 : 1) * a.train.lr;
        return bare ? 20 + 1e4 * a.train.lr : 4.0;
    };
    EXPECT_EQ(judged("X03", "full", grow).outcome, LabVerdict::Outcome::holds);
    const auto flat = [](const Arm&, int, const std::string&, int) { return 30.0; };
    EXPECT_EQ(judged("X03", "quick", flat).outcome, LabVerdict::Outcome::does_not_hold);
}

TEST(Judgement, balancing) {
    const auto collapse = [](const Arm& a, int, const std::string& metric, int) {
        return metric == "max_vio" ? (a.train.balance == BalanceKind::none ? 4.0 : 0.5) : 1.5;
    };
    const LabVerdict v = judged("X04", "full", collapse);
    EXPECT_EQ(v.outcome, LabVerdict::Outcome::holds);
    EXPECT_NE(v.sentence.find("0 of 3 seeds: no claim about quality"), std::string::npos) << v.sentence;
    const auto even = [](const Arm&, int, const std::string&, int) { return 0.3; };
    EXPECT_EQ(judged("X04", "quick", even).outcome, LabVerdict::Outcome::mixed);
}

TEST(Judgement, clamp) {
    const auto peaks = [](const Arm& a, int, const std::string& metric, int) {
        return metric == "experts.peak" ? std::min(400.0, a.model.swiglu_limit * a.model.swiglu_limit) : 2.0;
    };
    const LabVerdict v = judged("X05", "full", peaks);
    EXPECT_EQ(v.outcome, LabVerdict::Outcome::holds);
    EXPECT_NE(v.sentence.find("passed 100 in 6 of 6 runs"), std::string::npos) << v.sentence;  // two arms, three seeds
    const auto small = [](const Arm&, int, const std::string&, int) { return 2.0; };
    EXPECT_EQ(judged("X05", "quick", small).outcome, LabVerdict::Outcome::not_visible);
}

TEST(Judgement, anticipation) {
    const auto calmer = [](const Arm& a, int, const std::string& metric, int) {
        const bool is_on = a.train.anticipatory == AnticipatoryMode::always;
        return metric == "experts.peak" ? (is_on ? 80.0 : 200.0) : (is_on ? 1.7 : 1.6);
    };
    EXPECT_EQ(judged("X06", "full", calmer).outcome, LabVerdict::Outcome::holds);
    const auto mixed = [](const Arm& a, int seed, const std::string&, int) {
        return a.train.anticipatory == AnticipatoryMode::off || seed > 1 ? 100.0 + seed : 50.0;
    };
    EXPECT_EQ(judged("X06", "quick", mixed).outcome, LabVerdict::Outcome::not_visible);
}

TEST(Judgement, best_against_best) {
    const auto bowl = [](const Arm& a, int, const std::string&, int step) {
        const bool is_muon = a.train.optimizer == OptimizerKind::muon;
        const double off = std::log10(a.train.lr / (is_muon ? 0.01 : 0.003));
        return (is_muon ? 1.4 : 1.6) + 0.3 * off * off + 2 * std::exp(-step / (is_muon ? 30.0 : 60.0));
    };
    const LabVerdict v = judged("X07", "full", bowl);
    EXPECT_EQ(v.outcome, LabVerdict::Outcome::holds);
    EXPECT_EQ(v.tables[1].rows[0][1], "0.003");
    EXPECT_EQ(v.tables[1].rows[0][2], "0.01");
    const double share = std::stod(v.tables[1].rows[3][2]);
    EXPECT_LT(share, 0.5);  // Muon's curve falls twice as fast, to a lower floor
}

TEST(Judgement, spikes) {
    const auto spiky = [](const Arm& a, int, const std::string&, int step) {
        return step >= 203 && step < 208 ? (a.train.clip > 0 ? 2.2 : 2.8) : 1.9;
    };
    const LabVerdict v = judged("X34", "quick", spiky);
    EXPECT_EQ(v.outcome, LabVerdict::Outcome::holds);
    EXPECT_EQ(v.tables[0].rows[0][5], "5.0 / 5.0 / 5.0");  // steps until back
    const auto calm = [](const Arm&, int, const std::string&, int) { return 1.9; };
    EXPECT_EQ(judged("X34", "quick", calm).outcome, LabVerdict::Outcome::not_visible);
}

}  // namespace
}  // namespace vitrine::lab
