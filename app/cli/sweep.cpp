// vitrine train --sweep.
#include "app/cli/sweep.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <set>
#include <thread>

#include "app/cli/common.h"
#include "app/cli/ranks.h"
#include "app/cli/train_begin.h"
#include "app/lab/sweep.h"
#include "engine/base/error.h"
#include "engine/base/reader.h"
#include "engine/comm/communicator.h"
#include "experiments/list.h"

namespace vitrine::cli {
namespace {

using Settings = std::vector<std::pair<std::string, std::string>>;

struct SweepArgs {
    TrainArgs train;
    std::vector<std::string> sweeps;
    int64_t n_at_once = 0;
};

bool parse(const Args& args, SweepArgs& a) {
    Options o("train", "(--experiment NAME | --preset NAME | --from DIR | --config FILE) --sweep KEY=VALUE,VALUE [OPTIONS]",
              "Trains with every combination of the values, and prints a table. A key is one of the configuration or, of an "
              "experiment,\none of its knobs. Under mpirun the runs are spread over its processes. With --run each has its folder "
              "there, named by\nwhat it was given, and the same line again goes on where it was stopped. A run that fails stops "
              "no other.");
    o.list("--sweep", "KEY=A,B,...", &a.sweeps, "values to try; may be repeated")
        .text("--experiment", "NAME", &a.train.experiment, "an experiment of the lab: all its arms, or the one of --arm")
        .text("--arm", "NAME", &a.train.arm, "only this arm of it")
        .text("--preset", "NAME", &a.train.preset, "a small model from nothing and its recipe")
        .text("--from", "DIR", &a.train.from, "checkpoint to begin with")
        .text("--config", "FILE", &a.train.config, "{\"model\": ..., \"train\": ...}, or a run's run.json")
        .list("--set, --knob", "KEY=VALUE", &a.train.sets, "the same in all runs; may be repeated")
        .integer("--steps", 1, INT64_MAX, &a.train.steps, "how many; as --set steps=N")
        .integer("--seed", 0, INT64_MAX, &a.train.seed, "of data and weights; as --set seed=N (an experiment's: 1)")
        .text("--run", "DIR", &a.train.run, "a folder for the run folders and the table, summary.md")
        .integer("--at-once", 1, 1024, &a.n_at_once, "runs side by side in each process; as many as its threads when not given")
        .integer("-t, --threads", 1, 1024, &a.train.threads, "threads of each run (1)")
        .text("--device", "cpu|cuda[:N]", &a.train.device, "where they run");
    return o.parse(args);
}

std::pair<std::string, std::string> setting(const std::string& text) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) throw UsageError("--set " + escaped(text) + ": expected KEY=VALUE");
    return {text.substr(0, equals), text.substr(equals + 1)};
}

// An experiment's arms under these settings: knobs first, what is no knob is a key of the configuration.
void add_experiment(const SweepArgs& a, Settings fixed, const Settings& swept, std::vector<SweepRun>& runs) {
    const lab::Experiment& e = lab::experiment(a.train.experiment);
    if (!e.arms) throw UsageError("--experiment " + e.info.name + ": is calculated, there is nothing to train");
    fixed.emplace_back("seed", std::to_string(a.train.seed >= 0 ? a.train.seed : 1));
    if (a.train.steps >= 0) fixed.emplace_back("steps", std::to_string(a.train.steps));
    std::map<std::string, std::string> knobs;
    Settings keys;
    for (const Settings* from : std::initializer_list<const Settings*>{&fixed, &swept})
        for (const auto& [key, value] : *from) {
            const bool is_knob = std::any_of(e.info.knobs.begin(), e.info.knobs.end(), [&](const auto& k) { return k.key == key; });
            if (is_knob)
                knobs[key] = value;
            else
                keys.emplace_back(key, value);
        }
    const lab::Knobs all_knobs(e.info, knobs);
    std::string changes;  // an arm that is trained in another way is another arm to a verdict; a seed is not
    for (const auto& [key, value] : keys)
        if (key != "seed") changes += ", " + key + "=" + value;
    std::vector<lab::Arm> arms = e.arms(all_knobs);
    if (!a.train.arm.empty()) arms = {lab::arm_of(e, knobs, a.train.arm)};
    for (const auto& [key, value] : keys) {  // an arm's label would no longer tell the truth
        std::set<std::string> values;
        for (lab::Arm& arm : arms)
            if (const ConfigFields f = fields(arm.train); f.find(key)) values.insert(f.find(key)->get().dump());
        if (values.size() > 1)
            throw UsageError(e.info.name + ": " + escaped(key) + ": its arms set " + escaped(key) + " themselves; --arm takes one");
    }
    for (lab::Arm& arm : arms) {
        ConfigFields f = fields(arm.train);
        for (const auto& [key, value] : keys) f.set(key + "=" + value);
        throw_if_any(validate(arm.train, ""));
        std::vector<std::string> parts{e.info.name, arm.label};
        for (const auto& [key, value] : swept) parts.push_back(key + "=" + value);
        runs.push_back({sweep_name(parts), e.info.name, arm.label + changes, all_knobs.values(), arm.model, arm.train});
    }
}

// Words are wrong or there is nothing to run: told before anything has begun.
std::vector<SweepRun> planned(const SweepArgs& a) {
    std::vector<SweptKey> keys;
    for (const std::string& s : a.sweeps) keys.push_back(swept_key(s));
    Settings fixed;
    for (const std::string& s : a.train.sets) fixed.push_back(setting(s));
    std::set<std::string> known;
    for (const SweptKey& k : keys)
        if (!known.insert(k.name).second) throw UsageError("--sweep " + escaped(k.name) + ": given twice");
    std::vector<SweepRun> runs;
    for (const Settings& swept : combinations(keys)) {
        if (!a.train.experiment.empty()) {
            add_experiment(a, fixed, swept, runs);
            continue;
        }
        TrainArgs one = a.train;
        for (const auto& [key, value] : swept) one.sets.push_back(key + "=" + value);
        const Beginning b = beginning(one);
        std::string first = one.preset;
        if (first.empty())
            first = std::filesystem::path(one.from.empty() ? one.config : one.from).lexically_normal().stem().string();
        std::vector<std::string> parts{first};
        for (const auto& [key, value] : swept) parts.push_back(key + "=" + value);
        runs.push_back({sweep_name(parts), "", "", {swept.begin(), swept.end()}, b.model, b.train});
    }
    std::set<std::string> names;
    for (const SweepRun& r : runs)
        if (!names.insert(r.name).second) throw UsageError("two runs would be called " + r.name);
    return runs;
}

std::string number(double v, const char* format) {
    if (!std::isfinite(v)) return "-";
    char b[32];
    std::snprintf(b, sizeof b, format, v);
    return b;
}

// A Markdown table whose columns line up; the reason of a run that failed stands below it.
std::string table_of(const std::vector<SweepRun>& runs, const std::vector<SweepResult>& results) {
    std::vector<std::vector<std::string>> rows{{"run", "state", "steps", "loss", "held out", "seconds"}};
    std::string reasons;
    for (size_t i = 0; i < runs.size(); ++i) {
        const SweepResult& r = results[i];
        const bool has_begun = r.state != "waiting" && (r.state != "failed" || r.steps > 0);
        rows.push_back({runs[i].name, r.state, std::to_string(r.steps), has_begun ? number(r.loss, "%.4f") : "-",
                        has_begun ? number(r.eval_loss, "%.4f") : "-", number(r.seconds, "%.1f")});
        if (!r.error.empty()) reasons += runs[i].name + ": " + escaped(r.error, 400) + "\n";
    }
    std::vector<size_t> widths(rows[0].size());
    for (const auto& row : rows)
        for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
    std::string text;
    for (size_t i = 0; i < rows.size(); ++i) {
        for (size_t c = 0; c < widths.size(); ++c) text += "| " + rows[i][c] + std::string(widths[c] - rows[i][c].size() + 1, ' ');
        text += "|\n";
        for (size_t c = 0; i == 0 && c < widths.size(); ++c) text += "|" + std::string(widths[c] + 2, '-');
        if (i == 0) text += "|\n";
    }
    return text + (reasons.empty() ? "" : "\n" + reasons);
}

std::vector<SweepResult> run_share(const SweepArgs& a, const std::vector<SweepRun>& runs, Communicator& ranks, std::stop_token stop,
                                   const Args& args) {
    SweepOptions o;
    o.folder = a.train.run, o.gpu = gpu_of_rank(ranks, a.train.device);
    o.n_threads = a.train.threads ? static_cast<int>(a.train.threads) : 1;
    const int n_side_by_side = o.gpu == kCpu ? std::max(1, threads_per_rank(ranks, 0) / o.n_threads) : 1;
    o.n_at_once = a.n_at_once ? static_cast<int>(a.n_at_once) : n_side_by_side;
    const auto begins = [&](const SweepRun& r) { return Beginning{r.model, r.train, a.train.from}; };
    o.weights = [=](const SweepRun& r) { return weights_of(begins(r)); };
    o.texts = [=](const SweepRun& r) { return texts_of(begins(r)); };
    o.command = args;
    o.tell = [&](const SweepRun& r, const SweepResult& result) {
        const std::string where = ranks.size() > 1 ? "[rank " + std::to_string(ranks.rank()) + "] " : "";
        const std::string what = result.state == "failed" ? "failed: " + escaped(result.error, 200)
                                                          : result.state + ", loss " + number(result.loss, "%.4f");
        std::fprintf(stderr, "%s%s: %s, %.1f s\n", where.c_str(), r.name.c_str(), what.c_str(), result.seconds);
    };
    return run_share_of_sweep(runs, static_cast<size_t>(ranks.rank()), static_cast<size_t>(ranks.size()), o, stop);
}

// Every rank's own results reach all.
void exchange(Communicator& ranks, std::vector<SweepResult>& results) {
    const auto size = static_cast<size_t>(ranks.size());
    for (size_t r = 0; size > 1 && r < size; ++r) {
        Json mine = Json::array();
        for (size_t i = r; i < results.size(); i += size) mine.push(results[i].to_json());
        std::string text = mine.dump();
        ranks.broadcast(text, static_cast<int>(r));
        const Json theirs = Json::parse(text, "results of a rank", {.max_bytes = 64 << 20});
        for (size_t i = r, n = 0; i < results.size(); i += size, ++n) results[i] = SweepResult::from_json(theirs.items().at(n));
    }
}

}  // namespace

bool asks_for_sweep(const Args& args) {
    return std::any_of(args.begin(), args.end(), [](const std::string& a) { return a == "--sweep" || a.starts_with("--sweep="); });
}

int run_sweep(const Args& args, Communicator& ranks) {
    SweepArgs a;
    if (!parse(args, a)) return 0;
    const std::vector<SweepRun> runs = planned(a);
    Interrupt interrupt;
    order_sweep(ranks, args);
    std::vector<SweepResult> results = run_share(a, runs, ranks, interrupt.begin(), args);
    interrupt.end();
    exchange(ranks, results);
    const std::string table = table_of(runs, results);
    std::printf("%s", table.c_str());
    if (!a.train.run.empty()) {
        std::error_code failed;  // where no run has made it, and nobody may: told by the write
        std::filesystem::create_directories(a.train.run, failed);
        write_file_atomic(a.train.run + "/summary.md", table);
    }
    return std::all_of(results.begin(), results.end(), [](const SweepResult& r) { return r.state == "finished"; }) ? 0 : 1;
}

void run_sweep_share(const Args& args, Communicator& ranks) {
    SweepArgs a;
    if (!parse(args, a)) return;
    std::vector<SweepResult> results = run_share(a, planned(a), ranks, {}, args);
    exchange(ranks, results);
}

}  // namespace vitrine::cli
