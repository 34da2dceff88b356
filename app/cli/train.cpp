// vitrine train: a run in its folder, or steps on a checkpoint without one; one JSON line per step on stdout.
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <thread>

#include "app/cli/common.h"
#include "app/cli/experiment.h"
#include "app/cli/ranks.h"
#include "app/cli/sweep.h"
#include "app/cli/train_begin.h"
#include "app/cli/train_control.h"
#include "engine/base/disk_full.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/comm/communicator.h"
#include "engine/telemetry/run_folder.h"
#include "engine/train/measured.h"
#include "engine/train/run.h"
#include "experiments/curriculum/source.h"

namespace vitrine::cli {
namespace {

void print_keys() {
    TrainConfig c;
    const ConfigFields all = fields(c);
    const char* group = "";
    for (const ConfigField& f : all.all()) {
        if (std::string(group) != f.group) std::printf("%s%s\n", *group ? "\n" : "", f.group);
        group = f.group;
        std::printf("  %-22s %-10s %s; %s%s\n", f.name, f.get().dump().c_str(), f.help, f.expected().c_str(),
                    f.is_live ? "; live" : "");
    }
}

void print_line(const StepReport& r) {
    Json j = Json::object();
    auto put = [&](const std::string& name, double v) { j.set(name, std::isfinite(v) ? Json(v) : Json()); };
    j.set("step", r.step);
    put("loss", r.loss), put("grad_norm", r.grad_norm), put("lr", r.lr);
    for (const Scalar& s : r.scalars) put(s.name, s.value);
    if (r.status == StepReport::Status::skipped) j.set("status", "skipped");
    if (r.status == StepReport::Status::stopped) j.set("status", "stopped");
    if (r.status == StepReport::Status::rolled_back) j.set("status", "rolled_back");
    std::printf("%s\n", j.dump().c_str());
    if (std::fflush(stdout) != 0) throw Error(ErrorKind::io, "stdout can't be written");
    for (const TrainEvent& e : r.events) log_warning(e.text);
}

int run_without_folder(const TrainArgs& a, const RunOptions& options) {
    const Beginning b = beginning(a);
    if (!b.left.empty())
        throw UsageError("--config " + escaped(a.config, 512) + ": is of a rewound run; repeating it needs --run DIR");
    Interrupt interrupt;
    Trainer trainer(b.model, weights_of(b), b.train, options.n_threads, options.gpu, options.ranks);
    trainer.invite();
    const std::stop_token stop = interrupt.begin();
    RecentRows rows;
    ChangesAhead ahead(b.changes, trainer);
    int code = 0;
    while (code == 0 && !trainer.is_done()) {
        ahead.apply(trainer);
        const StepReport r = measured_step(trainer, stop, [&](int64_t s, const std::string& name) { return rows.scalar(s, name); });
        rows.add(r);
        print_line(r);
        if (r.status == StepReport::Status::stopped || stop.stop_requested()) code = 1;
    }
    trainer.dismiss();
    return code;
}

std::unique_ptr<TrainingRun> open_run(const TrainArgs& a, const RunOptions& options) {
    if (a.resumes) return TrainingRun::resume(a.run, options);
    RunDescription d{a.experiment, a.arm, {}, a.command, "", 0};
    for (const std::string& s : a.sets)
        if (const size_t at = s.find('='); at != std::string::npos) d.knobs[s.substr(0, at)] = s.substr(at + 1);
    if (!a.rewind.empty()) return TrainingRun::rewind(a.rewind, a.at_step, a.run, a.sets, d, options);
    const Beginning b = beginning(a);
    if (b.left.empty()) return TrainingRun::start(a.run, b.model, weights_of(b), b.train, described(b, d), texts_of(b), options);
    d.parent = b.as.parent, d.parent_step = b.as.parent_step;
    return TrainingRun::rewind(b.left, d.parent_step, a.run, settings_of(a), d, options);
}

void set_live(TrainingRun& run, const RunControl& c) {
    try {
        run.change(c.key, c.value);
    } catch (const Error& e) {
        log_warning(e.what());  // it does not fit the rest, or this device: the run goes on as it was
    }
}

// A pause or its end: an event and the state, so that the run tells when somebody acted in it.
void tell_control(TrainingRun& run, const std::string& what, const std::string& state) {
    run.note(run_folder::kControl, what + " before step " + std::to_string(run.trainer().next_step()));
    if (!state.empty()) run.set_state(state);
}

// What the lines on stdin asked for, between two steps. False: stop.
bool obey(TrainingRun& run, TrainControl& control, std::stop_token stop) {
    bool steps_once = false;
    while (!stop.stop_requested()) {
        for (const auto& c : control.take()) {
            using Do = RunControl::Do;
            if (c.what == Do::stop) return control.is_stopping = true, false;
            if (c.what == Do::step) steps_once = true;
            if (c.what == Do::checkpoint) run.checkpoint(stop);
            if (c.what == Do::set) set_live(run, c);
            if (c.what == Do::pause && !control.is_paused) control.is_paused = true, tell_control(run, "paused", "paused");
            if (c.what == Do::resume && control.is_paused) control.is_paused = false, tell_control(run, "resumed", "running");
        }
        if (steps_once && control.is_paused) tell_control(run, "one step", "");
        if (!control.is_paused || steps_once) return true;
        control.wait();
    }
    return false;
}

// Steps until the end or a stop. False: a step that is not finite stopped it.
bool make_steps(TrainingRun& run, TrainControl& control, std::stop_token stop) {
    try {
        while (!run.is_done() && obey(run, control, stop) && !run.is_done()) {  // `steps` may have changed
            const StepReport r = run.step(stop);
            print_line(r);
            if (r.status != StepReport::Status::stopped) continue;
            run.set_state("failed", r.events.empty() ? "stopped" : r.events.back().text);
            return false;
        }
    } catch (const Error& e) {
        if (e.kind() != ErrorKind::cancelled) throw;
    }
    return true;
}

int drive(TrainingRun& run, TrainControl& control, std::stop_token stop) {
    try {
        if (!make_steps(run, control, stop)) return 1;
        const bool is_done = run.is_done();
        run.checkpoint();
        if (!is_done) run.note(run_folder::kControl, "stopped at step " + std::to_string(run.trainer().next_step()));
        run.set_state(is_done ? "finished" : "stopped");
    } catch (const DiskFull& e) {  // it waited, and was asked to stop
        run.stop_without_room(e.what());
        log_warning("stopped while the disk was full: --resume goes on from the newest checkpoint");
    } catch (const Error& e) {
        run.set_state("failed", e.what());
        throw;
    }
    return 0;
}

}  // namespace

namespace {

// What a beginning does not look at would be ignored without a word.
void check_together(const Options& o, const TrainArgs& a) {
    const auto refuse = [&](const std::vector<std::string>& names, const std::string& why) {
        for (const std::string& name : names)
            if (o.was_given(name)) throw UsageError(name + why);
    };
    if (a.resumes)
        refuse({"--from", "--preset", "--config", "--rewind", "--step", "--tokens", "--steps", "--seed", "--dtype",
                "--set", "--experiment", "--arm"},
               " does not go with --resume: a run keeps its configuration; --rewind leaves it for another");
    if (a.rewind.empty())
        refuse({"--step"}, " goes with --rewind PARENT");
    else
        refuse({"--from", "--preset", "--config", "--tokens", "--steps", "--seed", "--dtype", "--experiment", "--arm"},
               " does not go with --rewind: --set changes keys");
    if (a.experiment.empty())
        refuse({"--arm"}, " goes with --experiment NAME");
    else
        refuse({"--tokens", "--dtype"}, " does not go with --experiment");
    if (a.run.empty() && (a.resumes || a.is_controlled || !a.rewind.empty())) throw UsageError("missing --run DIR");
    if (!a.rewind.empty() && a.at_step < 0) throw UsageError("--rewind needs --step N");
}

// On rank 0, or in the only process.
int lead(const Args& given, Communicator& ranks) {
    if (asks_for_sweep(given)) return run_sweep(given, ranks);
    if (asks_for_experiment(given)) {
        if (ranks.size() > 1) throw UsageError("an experiment's runs spread over ranks with --sweep KEY=VALUES");
        return run_experiment(given);
    }
    TrainArgs a;
    a.command = given;
    Args args;
    for (size_t i = 0; i < given.size(); ++i) {  // --resume DIR is --run DIR --resume
        args.push_back(given[i]);
        const bool has_folder = i + 1 < given.size() && !given[i + 1].starts_with("-");
        if (given[i] == "--resume" && has_folder) args.insert(args.end(), {"--run", given[++i]});
    }
    Options o("train", "(--from DIR | --preset NAME | --config FILE | --resume DIR) [--run DIR] [OPTIONS]",
              "Trains a model. With --run everything goes into a folder that can be gone on from, bit for bit; without, only to "
              "stdout,\none JSON line per step. Presets: mix3-t1, mix3-2m, mix3-t2, gpu-small, gpu-large, nano10, nano.\n"
              "--experiment NAME runs the lab's experiments, --list names them. --sweep KEY=A,B,... tries values. Under mpirun the "
              "processes\nshare each batch, or the runs of a sweep.");
    o.text("--from", "DIR", &a.from, "checkpoint to begin with")
        .text("--preset", "NAME", &a.preset, "a small model from nothing and its recipe")
        .text("--config", "FILE", &a.config, "{\"model\": ..., \"train\": ...}, or a run's run.json: repeats it")
        .text("--run", "DIR", &a.run, "folder for rows, events, checkpoints and the log")
        .flag("--resume", &a.resumes, "go on from the newest checkpoint of the run in DIR")
        .text("--rewind", "PARENT", &a.rewind, "leave another run at its checkpoint --step N, into --run DIR")
        .integer("--step", 0, INT64_MAX, &a.at_step, "which checkpoint of PARENT")
        .text("--tokens", "FILE.json", &a.tokens,
              "train on this one sequence, on next tokens alone: data=tokens, balance=none, no MTP loss")
        .integer("--steps", 1, INT64_MAX, &a.steps, "how many; as --set steps=N")
        .integer("--seed", 0, INT64_MAX, &a.seed, "of data and weights; as --set seed=N")
        .choice("--dtype", {"f32", "f64"}, &a.dtype, "of weights, activations and gradients")
        .list("--set", "KEY=VALUE", &a.sets, "any key of the configuration; may be repeated")
        .flag("--keys", &a.lists_keys, "the keys, their defaults and ranges, and nothing else")
        .flag("--control", &a.is_controlled, "take pause, resume, step, stop, checkpoint and set KEY VALUE from stdin")
        .text("--experiment", "NAME", &a.experiment, "with --arm: one run of the lab; --set sets its knobs")
        .text("--arm", "NAME", &a.arm, "which arm of it; recorded in the run")
        .integer("-t, --threads", 1, 1024, &a.threads, "threads; one per core when not given")
        .text("--device", "cpu|cuda[:N]", &a.device, "where it runs; the bits are those of one build and kind of device");
    if (!o.parse(args)) return 0;
    if (a.lists_keys) return print_keys(), 0;
    check_together(o, a);
    RunOptions options;
    options.n_threads = threads_per_rank(ranks, a.threads), options.gpu = gpu_of_rank(ranks, a.device), options.ranks = &ranks;
    order_training(ranks, options.n_threads, options.gpu != kCpu);
    if (a.run.empty()) return run_without_folder(a, options);
    Interrupt interrupt;
    TrainControl control(a.is_controlled);
    std::stop_token stop;  // until there is a run, Ctrl-C ends the program
    options.on_disk_full = [&](const std::string&) {
        if (stop.stop_requested() || control.is_stopping || control.asks_to_stop()) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        return true;
    };
    const auto run = open_run(a, options);
    if (run->is_done())
        log_info(escaped(a.run, 512) + ": finished, all " + std::to_string(run->trainer().next_step()) +
                 " steps are made");
    stop = interrupt.begin();
    const int code = drive(*run, control, stop);
    run->trainer().dismiss();
    return code;
}

}  // namespace

int run_train(const Args& given) {
    curriculum::add_task();
    if (started_ranks() > 1) return with_ranks([&](Communicator& ranks) { return lead(given, ranks); });
    return lead(given, *alone());
}

}  // namespace vitrine::cli
