// Training experiments: their arms can be built, and their judgement follows from the runs that it is given.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/base/config/training_config.h"
#include "engine/base/error.h"
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

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

// HC above mHC in every seed that ran.
double gains(const Arm& a, int, const std::string& metric, int) {
    return metric.rfind("hyper.", 0) == 0 && a.model.variants.residual == ResidualKind::hc ? 400.0 : 1.05;
}

TEST(Uncounted, a_diverged_run_is_named_with_seed_step_and_reason) {
    const Experiment& e = experiment("X01");
    const Knobs knobs(e.info, {});
    auto runs = made_up(e, knobs, 3, gains);
    ASSERT_EQ(runs[1].arm, "hc 8 layers lr 0.01");
    runs[1].state = RunState::failed, runs[1].step = 57, runs[1].error = "step 57: loss is not finite; training stopped";
    LabVerdict v = e.judge(knobs, runs);
    EXPECT_EQ(v.outcome, LabVerdict::Outcome::mixed) << "a comparison that could not be made is none that held";
    EXPECT_FALSE(has(v.sentence, "No run diverged")) << v.sentence;
    EXPECT_TRUE(has(v.sentence, "1 run diverged and is not counted: hc 8 layers lr 0.01, seed 2, at step 57 (step 57: loss is not"))
        << v.sentence;
    EXPECT_EQ(v.tables[0].rows[0][1], "400 / diverged / 400");
    EXPECT_EQ(v.tables[1].rows[0][1], "2 of 2 seeds");
    const std::vector<std::string> row = {"hc 8 layers lr 0.01", "2", "diverged", "57", runs[1].error};
    EXPECT_EQ(v.tables.back().rows, (std::vector<std::vector<std::string>>{row}));

    runs[1].error = "the disk is full";
    v = e.judge(knobs, runs);
    EXPECT_TRUE(has(v.sentence, "1 run failed and is not counted")) << v.sentence;
    EXPECT_TRUE(has(v.sentence, "No run diverged")) << v.sentence;
}

TEST(Uncounted, every_judgement_tells_them) {
    for (const Experiment& e : experiments()) {
        if (!e.arms) continue;
        SCOPED_TRACE(e.info.name);
        const Knobs knobs(e.info, {});
        auto runs = made_up(e, knobs, 3, [](const Arm&, int, const std::string&, int) { return 1.5; });
        runs[2].state = RunState::failed, runs[2].step = 7, runs[2].error = "gradient of x is not finite";
        runs[4].changed = "lr 0.01 -> 0 at step 60";
        const LabVerdict v = e.judge(knobs, runs);
        EXPECT_NE(v.outcome, LabVerdict::Outcome::none) << v.sentence;
        EXPECT_TRUE(has(v.sentence, runs[2].arm + ", seed 3, at step 7 (gradient of x is not finite)")) << v.sentence;
        EXPECT_TRUE(has(v.sentence, runs[4].arm + ", seed 2 (lr 0.01 -> 0 at step 60)")) << v.sentence;
        EXPECT_EQ(v.tables.back().rows.size(), 2u);
    }
}

TEST(Uncounted, a_run_changed_by_hand_is_shown_and_not_counted) {
    const Experiment& e = experiment("X01");
    const Knobs knobs(e.info, {});
    auto runs = made_up(e, knobs, 3, gains);
    for (LabSeries* s : {&runs[1].scalars["hyper.gain.max"], &runs[1].scalars["hyper.gain_backward.max"]})
        std::fill(s->value.begin(), s->value.end(), 1.0);
    runs[1].changed = "lr 0.01 -> 0 at step 60";
    const LabVerdict v = e.judge(knobs, runs);
    EXPECT_EQ(v.outcome, LabVerdict::Outcome::holds);
    EXPECT_EQ(v.tables[0].rows[0][1], "400 / 1.00 (changed) / 400");
    EXPECT_EQ(v.tables[1].rows[0][1], "2 of 2 seeds");
}

// The same batches in the same order: seed 2 is compared with seed 2, whichever runs are missing.
TEST(Uncounted, seeds_are_paired_by_seed) {
    const Experiment& e = experiment("X07");
    const Knobs knobs(e.info, {});
    auto runs = made_up(e, knobs, 3, [](const Arm& a, int seed, const std::string&, int) {
        return seed + (a.train.optimizer == OptimizerKind::muon ? -0.1 : 0.0) + (a.train.lr > 0.009 ? 0.05 : 0);
    });
    std::erase_if(runs, [](const LabRun& r) { return r.arm.rfind("muon", 0) == 0 && r.seed == 1; });
    const LabVerdict v = e.judge(knobs, runs);
    EXPECT_TRUE(has(v.sentence, "Muon ended lower in 2 of 2 seeds")) << v.sentence;
    EXPECT_EQ(v.tables[0].rows[2][1], "- / 1.95 / 2.95");
}

TEST(ChangedKnobs, take_the_calibration_away) {
    const std::map<std::string, std::map<std::string, std::string>> changes = {
        {"X01", {{"init_std", "0.1"}}}, {"X03", {{"init_std", "0.1"}}}, {"X04", {{"init_embedding", "1"}}},
        {"X05", {{"init_std", "0.1"}}}, {"X06", {{"balance", "none"}}}, {"X07", {{"batch", "8"}}},      {"X34", {{"lr", "0.01"}}}};
    for (const auto& [name, given] : changes) {
        SCOPED_TRACE(name);
        const Experiment& e = experiment(name);
        const auto flat = [](const Arm&, int, const std::string&, int) { return 1.5; };
        const LabVerdict preset = e.judge(Knobs(e.info, {}), made_up(e, Knobs(e.info, {}), 1, flat));
        EXPECT_TRUE(has(preset.sentence, "calibration")) << preset.sentence;
        EXPECT_FALSE(has(preset.sentence, "changed knobs")) << preset.sentence;
        const Knobs knobs(e.info, given);
        const LabVerdict v = e.judge(knobs, made_up(e, knobs, 1, flat));
        const std::string said = given.begin()->first + " " + given.begin()->second;
        EXPECT_TRUE(has(v.sentence, "Measured with changed knobs (" + said + ")")) << v.sentence;
        EXPECT_FALSE(has(v.sentence.substr(0, v.sentence.find("Measured with")), "calibration")) << v.sentence;
        for (size_t c = 0; c < v.tables[0].columns.size(); ++c)
            for (const auto& row : v.tables[0].rows)
                EXPECT_TRUE(v.tables[0].columns[c] != "calibration" || row[c].empty()) << row[c];
    }
    const Experiment& e = experiment("X34");
    EXPECT_EQ(Knobs(e.info, {{"lr", "3e-3"}, {"size", "full"}}).changed(), "") << "the same number";
}

TEST(Judgement, spikes_need_batches_after_the_others) {
    const Experiment& e = experiment("X34");
    EXPECT_THROW(e.arms(Knobs(e.info, {{"steps", "200"}})), Error);
    const auto flat = [](const Arm&, int, const std::string&, int) { return 1.5; };
    const Knobs few(e.info, {{"steps", "215"}}), none(e.info, {{"steps", "202"}});
    LabVerdict v = e.judge(few, made_up(e, few, 1, flat));
    EXPECT_TRUE(has(v.sentence, "no ordinary one comes after it")) << v.sentence;
    EXPECT_EQ(v.outcome, LabVerdict::Outcome::not_visible);
    v = e.judge(none, made_up(e, none, 1, flat));
    EXPECT_TRUE(has(v.sentence, "nothing to judge")) << v.sentence;
    EXPECT_EQ(v.outcome, LabVerdict::Outcome::none);
}

const LabCurve* curve(const LabVerdict& v, size_t chart, const std::string& label) {
    if (v.charts.size() <= chart) return nullptr;
    for (const LabCurve& c : v.charts[chart].curves)
        if (c.label == label) return &c;
    return nullptr;
}

TEST(Charts, over_learning_rate_layer_and_step) {
    const auto by_rate = [](const Arm& a, int seed, const std::string&, int) { return 100 * a.train.lr + seed; };
    const LabVerdict logits = judged("X03", "full", by_rate), losses = judged("X07", "full", by_rate);
    for (const LabCurve* c : {curve(logits, 0, "AdamW, bare"), curve(logits, 1, "Muon, cap"), curve(losses, 0, "Muon")}) {
        ASSERT_NE(c, nullptr);
        EXPECT_EQ(c->x.size(), 5u);
        for (size_t i = 0; i < c->x.size(); ++i) {
            EXPECT_NEAR(c->y[i], 100 * c->x[i] + 2, 1e-9);
            EXPECT_NEAR(c->highest[i] - c->lowest[i], 2, 1e-9);
        }
    }
    EXPECT_NE(curve(losses, 0, "Muon, 3 + 2 steps"), nullptr);

    const Experiment& e = experiment("X01");
    const Knobs knobs(e.info, {{"layers", "3"}});
    auto runs = made_up(e, knobs, 2, gains);
    for (LabRun& r : runs)
        for (int layer = 0; layer < 3; ++layer)
            r.scalars["layers." + std::to_string(layer) + ".hyper.gain.of_mean"] = {{0, 100, 199}, {1, 2.0 + layer, 4.0 + layer}};
    const LabVerdict v = e.judge(knobs, runs);
    const LabCurve* end = curve(v, 0, "hc 3 layers lr 0.01");
    ASSERT_NE(end, nullptr);
    EXPECT_EQ(end->y, (std::vector<double>{4, 5, 6}));
    ASSERT_NE(curve(v, 0, "hc 3 layers lr 0.01, step 100"), nullptr);
    EXPECT_EQ(curve(v, 0, "hc 3 layers lr 0.01, step 100")->y, (std::vector<double>{2, 3, 4}));

    const LabVerdict spikes = judged("X34", "quick", [](const Arm&, int, const std::string& metric, int step) {
        return metric == "surprise.attention" && step == 201 ? 7.0 : 1.5;
    });
    const std::vector<std::string> row = {"beta2 0.95 clip", "1.5 / 1.5 / 1.5", "7.0 / 7.0 / 7.0", "2.0 / 2.0 / 2.0"};
    EXPECT_EQ(spikes.tables[1].rows[0], row)
        << "largest at step 201, the first ordinary batch is 203";
    const LabCurve* rms = curve(spikes, 0, "RMS, beta2 0.95 clip");
    ASSERT_NE(rms, nullptr);
    EXPECT_EQ(rms->x.front(), 190);
    EXPECT_EQ(*std::max_element(rms->y.begin(), rms->y.end()), 7);
    ASSERT_NE(curve(spikes, 0, "loss, beta2 0.95 no clip"), nullptr);
}

}  // namespace
}  // namespace vitrine::lab
