// A plausible lab without processes.
#include "tests/viz/fake_lab.h"

#include <cmath>

namespace vitrine::viz::fake {
namespace {

LabInfo gain_info() {
    LabInfo x;
    x.name = "X01", x.title = "Hyper-connections against mHC";
    x.question = "What does the Sinkhorn projection keep from growing?";
    x.claim =
        "Unconstrained hyper-connections amplify the signal up to 3,000 times, which crashed training; mHC holds it "
        "near 1.6.";
    x.literature =
        "mHC (arXiv 2512.24880), figures 2 and 3: 27 B parameters, a loss surge near step 12,000. A gain alone is no "
        "divergence.";
    x.badge = LabBadge::provoked, x.provoked_by = "learning rate", x.expected_time = "about 2 minutes on two cores";
    x.knobs = {{"depth", "layers", "how many blocks", "8", {}, 1, 48, false},
               {"lr", "learning rate", "peak of the schedule", "0.01", {}, 1e-6, 1, true},
               {"steps", "steps", "of 1,024 tokens each", "200", {}, 1, 100000, true},
               {"optimizer", "optimizer", "for matrices", "adamw", {"adamw", "muon"}, 0, 0, false}};
    x.plots = {{"Composite gain", "step", "amax gain, forward", {"hyper.gain.max"}, false, true},
               {"Loss", "step", "cross-entropy [nats]", {"loss"}, false, false},
               {"Gradient norm", "step", "before clipping", {"grad_norm"}, false, true}};
    x.readme = "# X01\n\nQuestion and hypothesis.\n\n## Result\n\n| arm | gain |\n| hc | 670 |\n";
    return x;
}

LabInfo cost_info() {
    LabInfo x;
    x.name = "X08", x.title = "What a million tokens cost";
    x.question = "How much less does V4 compute and keep at 1,048,576 tokens than V3.2 and GQA-8?";
    x.claim = "27 % of the operations and 10 % of the cache of V3.2.";
    x.badge = LabBadge::analytic, x.expected_time = "a second";
    return x;
}

LabInfo measured_info() {
    LabInfo x;
    x.name = "X17", x.title = "Predicting experts";
    x.question = "How well can a token's experts be guessed?";
    x.badge = LabBadge::measured, x.expected_time = "half a minute";
    x.knobs = {{"model", "Model", "which one", "", {}, 0, 0, false, "the shipped one"},
               {"texts", "Texts of each domain that are read", "held out", "60", {}, 2, 2000, true}};
    return x;
}

double wave(int64_t seed, int64_t step) {
    return std::sin(static_cast<double>(seed * 131 + step * 7)) * 0.04 +
           std::sin(static_cast<double>(step) * 0.37) * 0.02;
}

LabRun run(const std::string& arm, int64_t seed, int64_t n, int number) {
    LabRun r;
    char id[64];
    std::snprintf(id, sizeof id, "X01-%04d-%s-s%d", number, arm.c_str(), static_cast<int>(seed));
    r.id = id, r.folder = std::string("somewhere/vitrine/runs/") + id;
    r.experiment = "X01", r.arm = arm, r.seed = seed, r.step = n, r.n_steps = 200;
    r.state = n < 200 ? RunState::running : RunState::finished;
    r.tokens_per_s = 8123;
    r.metrics = {"hyper.gain.max", "loss", "grad_norm", "tokens_per_s", "layer.0.update_ratio"};
    r.config_json =
        R"({"model": {"layers": 8, "residual": ")" + arm + R"("}, "lr": 0.01, "seed": )" + std::to_string(seed) + "}";
    for (int64_t step = 1; step <= n; ++step) {
        const double t = static_cast<double>(step), w = wave(seed, step);
        const auto add = [&](const char* name, double v) {
            r.scalars[name].step.push_back(t), r.scalars[name].value.push_back(v);
        };
        add("hyper.gain.max",
            arm == "hc" ? std::exp(std::log(430.0 + 120.0 * static_cast<double>(seed)) * t / 200 + 4 * w) : 1.1 + w);
        add("loss", 1.6 + 2.3 * std::exp(-t / 45) + w + (step == 120 && seed == 1 && arm == "hc" ? 1.4 : 0));
        add("grad_norm", (arm == "hc" ? 3.0 : 1.0) * std::exp(-t / 160) * (1 + 4 * std::fabs(w)));
    }
    for (int64_t c = 50; c <= n; c += 50)
        r.checkpoints.push_back(c),
            r.events.push_back({c, "checkpoint", "checkpoint of step " + std::to_string(c), ""});
    return r;
}

}  // namespace

LabSnapshot lab_without_runs() {
    LabSnapshot s;
    s.apply(LabListed{{gain_info(), measured_info(), cost_info()}});
    static uint64_t version = 0;
    s.version = version += 1000;  // what is kept of one lab must not be taken for another's
    return s;
}

LabSnapshot lab() {
    LabSnapshot s = lab_without_runs();
    int number = 0;
    for (int64_t seed = 1; seed <= 3; ++seed)
        for (const char* arm : {"hc", "mhc"})
            s.runs.push_back(run(arm, seed, seed == 3 && arm[0] == 'm' ? 136 : 200, ++number));
    LabRun& first = s.runs[0];
    first.events.push_back({64, "alarm", "composite gain > 100: 104 at step 64", ""});
    first.events.push_back({90, "change", "lr 0.01 -> 0.003", ""});
    first.events.push_back({120, "spike", "loss 3.16 is 1.8 times the median of the last 50 steps (z 11.2)",
                            R"({"batch": {"step": 120, "seed": 1, "domains": "random tokens 3 of 16 rows",
 "samples": ["713+204=_719", "zqxv kwpf jjht", "a:4 c:9 ?c"]},
 "layers": [{"layer": 7, "grad_norm": 9.41}, {"layer": 6, "grad_norm": 4.02}, {"layer": 0, "grad_norm": 0.31}],
 "matrices": [{"name": "layers.7.mlp.experts.3.w2", "grad_norm": 6.8, "update_ratio": 0.081},
 {"name": "layers.7.attention.wo", "grad_norm": 3.9, "update_ratio": 0.044}]})"});
    LabRun rewound = run("hc", 1, 200, ++number);
    rewound.parent = first.id, rewound.parent_step = 100;
    for (auto& [name, series] : rewound.scalars)
        series.step.erase(series.step.begin(), series.step.begin() + 100),
            series.value.erase(series.value.begin(), series.value.begin() + 100);
    rewound.scalars["loss"].value[49] += 1e-12;
    s.runs.push_back(rewound);
    LabRun failed = run("mhc", 4, 57, ++number);
    failed.state = RunState::failed,
    failed.error = "killed by signal 9; the process ended without saying why, after step 57";
    failed.last_log_line = "step 57: loss 2.211", failed.is_resumable = true, failed.knobs["depth"] = "16";
    s.runs.insert(s.runs.begin(), failed);
    LabVerdict v;
    v.outcome = LabVerdict::Outcome::mixed;
    v.sentence =
        "The gain grows as claimed (433 to 790 in 3 of 3 seeds; mHC 1.1 to 1.2), but nothing crashed: in 200 steps the "
        "loss of HC is lower.";
    v.tables = {{"Composite gain, forward, step 200",
                 {"arm", "seed 1", "seed 2", "seed 3", "claimed"},
                 {{"hc", "550", "670", "790", "3,000"}, {"mhc", "1.12", "1.09", "1.11", "1.6"}}}};
    s.verdicts["X01"] = v;
    LabVerdict cost;
    cost.outcome = LabVerdict::Outcome::holds, cost.sentence = "26.5 % of the operations and 10.6 % of the cache.";
    LabChart chart{
        "Cache against length", "context [tokens]", "cache [GiB]", true, true, {{"V4", {}, {}}, {"V3.2", {}, {}}}};
    for (double n = 1024; n <= 1 << 20; n *= 2)
        for (int k = 0; k < 2; ++k)
            chart.curves[k].x.push_back(n), chart.curves[k].y.push_back(n * (k ? 4.6e-5 : 4.9e-6));
    cost.charts = {chart};
    s.verdicts["X08"] = cost;
    return s;
}

LabSnapshot huge_lab(int n_runs, int n_points, int n_scalars) {
    LabSnapshot s = lab_without_runs();
    s.experiments[0].plots.resize(1);
    s.experiments[0].plots[0].metrics.clear();
    for (int i = 0; i < 6; ++i)
        s.experiments[0].plots.push_back(
            {"plot " + std::to_string(i), "step", "value", {"m" + std::to_string(i)}, false, false});
    s.experiments[0].plots.erase(s.experiments[0].plots.begin());
    for (int i = 0; i < n_runs; ++i) {
        LabRun r = run(i % 2 ? "mhc" : "hc", i / 2, 10, i);
        r.scalars.clear(), r.metrics.clear();
        r.n_steps = r.step = n_points, r.state = RunState::finished;
        for (int m = 0; m < n_scalars; ++m) r.metrics.push_back("m" + std::to_string(m));
        for (int m = 0; m < std::min(n_scalars, 6); ++m) {  // what is watched; the rest stays in the folders
            LabSeries& series = r.scalars["m" + std::to_string(m)];
            series.step.resize(static_cast<size_t>(n_points)), series.value.resize(static_cast<size_t>(n_points));
            for (int k = 0; k < n_points; ++k)
                series.step[static_cast<size_t>(k)] = k,
                series.value[static_cast<size_t>(k)] = std::sin(k * 0.001 + i) + m;
        }
        for (int e = 0; e < 200; ++e) r.events.push_back({e * 100, "alarm", "alarm number " + std::to_string(e), ""});
        s.runs.push_back(std::move(r));
    }
    return s;
}

}  // namespace vitrine::viz::fake
