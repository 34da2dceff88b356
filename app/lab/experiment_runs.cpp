// Runs of an experiment in this process.
#include "app/lab/experiment_runs.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <mutex>
#include <set>
#include <thread>

#include "app/lab/run_reader.h"
#include "app/lab/sweep.h"
#include "engine/base/error.h"
#include "engine/train/fresh.h"
#include "engine/train/run.h"
#include "experiments/experiment.h"

namespace vitrine {
namespace {

// What plots draw and the judgement reads.
class Wanted {
  public:
    explicit Wanted(const LabInfo& info) : patterns_(info.judged) {
        for (const LabPlot& p : info.plots) names_.insert(p.metrics.begin(), p.metrics.end());
    }
    bool contains(const std::string& metric) const {
        return names_.contains(metric) ||
               std::any_of(patterns_.begin(), patterns_.end(), [&](const auto& p) { return lab_names(p, metric); });
    }

  private:
    std::set<std::string> names_;
    std::vector<std::string> patterns_;
};

// Letters, digits, dots and dashes of a label, for a folder's name.
std::string folder_name(const std::string& experiment, const std::string& arm, int64_t seed) {
    std::string s = experiment + "-";
    for (const char c : arm) s += c == ' ' ? '-' : c;
    return s + "-seed" + std::to_string(seed);
}

class OneRun {
  public:
    OneRun(const lab::Experiment& e, const lab::Arm& arm, const ExperimentRequest& request, LabRun& out)
        : out_(out), metrics_(e.info) {
        TrainConfig train = arm.train;
        train.seed = out.seed;
        out_.n_steps = train.steps;
        if (request.folder.empty()) {
            trainer_ = std::make_unique<Trainer>(arm.model, fresh_weights(arm.model, train), train, 1);
            return;
        }
        out_.id = folder_name(e.info.name, arm.label, out.seed), out_.folder = request.folder + "/" + out_.id;
        if (!checkpoint_steps(out_.folder).empty()) {  // none: killed before its first, started again
            go_on(arm, train);
            return;
        }
        const RunDescription described{e.info.name, arm.label, lab::Knobs(e.info, request.knobs).values(), {}, "", 0};
        run_ = TrainingRun::start(out_.folder, arm.model, fresh_weights(arm.model, train), train, described, {}, {});
    }
    void go(std::stop_token stop) {
        if (out_.state == RunState::finished) return;  // by an earlier call
        Trainer& trainer = run_ ? run_->trainer() : *trainer_;
        while (!trainer.is_done()) {
            const StepReport r = run_ ? run_->step(stop) : trainer.step(stop);
            keep(r);
            if (r.status == StepReport::Status::stopped)
                return end("failed", r.events.empty() ? "stopped" : r.events.back().text);
        }
        end("finished", "");
    }

  private:
    // What is there is taken as it is, and what is missing of it is trained.
    void go_on(const lab::Arm& arm, const TrainConfig& train) {
        check_holds(out_.folder, arm.model, train);
        RunReader reader(out_.folder);
        reader.look();
        const bool is_finished = reader.run().state == RunState::finished;
        if (!is_finished) run_ = TrainingRun::resume(out_.folder, {});
        const auto from = run_ ? static_cast<double>(run_->trainer().next_step()) : INFINITY;
        for (const std::string& name : reader.run().metrics) {
            if (!metrics_.contains(name)) continue;
            LabSeries s = reader.read(name, -1, INT64_MAX);
            while (!s.step.empty() && s.step.back() >= from) s.step.pop_back(), s.value.pop_back();  // they come again
            out_.scalars[name] = std::move(s);
        }
        out_.events = reader.take_new_events();
        std::erase_if(out_.events, [&](const LabEvent& e) { return static_cast<double>(e.step) >= from; });
        out_.changed = reader.run().changed;
        out_.step = run_ ? run_->trainer().next_step() : reader.run().step;
        if (is_finished) out_.state = RunState::finished;
    }
    void keep(const StepReport& r) {
        out_.step = r.step + (r.status == StepReport::Status::stopped ? 0 : 1);
        for (const Scalar& s : r.scalars) {
            if (!metrics_.contains(s.name)) continue;
            LabSeries& series = out_.scalars[s.name];
            while (!series.step.empty() && series.step.back() >= static_cast<double>(r.step))  // rolled back
                series.step.pop_back(), series.value.pop_back();
            series.step.push_back(static_cast<double>(r.step)), series.value.push_back(s.value);
        }
        for (const TrainEvent& e : r.events) out_.events.push_back({e.step, e.kind, e.text, {}});
    }
    void end(const std::string& state, const std::string& error) {
        out_.state = state == "finished" ? RunState::finished : RunState::failed, out_.error = error;
        if (run_) run_->checkpoint(), run_->set_state(state, error);
    }
    LabRun& out_;
    Wanted metrics_;
    std::unique_ptr<Trainer> trainer_;
    std::unique_ptr<TrainingRun> run_;
};

std::string line_of(const LabRun& r, double seconds, size_t n_done, size_t n_all) {
    const auto loss = r.scalars.find("loss");
    const auto next = loss == r.scalars.end() ? r.scalars.find("loss.next") : loss;
    std::string s = "[" + std::to_string(n_done) + "/" + std::to_string(n_all) + "] " + r.arm + ", seed " +
                    std::to_string(r.seed) + ": ";
    if (r.state == RunState::failed) return s + "failed, " + escaped(r.error, 200);
    if (next != r.scalars.end() && !next->second.value.empty())
        s += "loss " + lab::fixed(next->second.value.back(), 3) + ", ";
    return s + lab::fixed(seconds, 1) + " s";
}

}  // namespace

std::vector<LabRun> run_experiment_arms(const lab::Experiment& e, const ExperimentRequest& request,
                                        std::stop_token stop, const std::function<void(const std::string&)>& tell) {
    VITRINE_ASSERT(e.arms && request.n_seeds > 0 && request.n_at_once > 0);
    const std::vector<lab::Arm> arms = e.arms(lab::Knobs(e.info, request.knobs));
    std::vector<LabRun> runs;
    for (const lab::Arm& a : arms)
        for (int s = 0; s < request.n_seeds; ++s) {
            LabRun r;
            r.experiment = e.info.name, r.arm = a.label, r.seed = request.first_seed + s, r.state = RunState::waiting;
            r.knobs = request.knobs;
            runs.push_back(std::move(r));
        }
    std::atomic<size_t> next{0};
    std::mutex mutex;
    size_t n_done = 0;
    const auto work = [&] {
        for (size_t i; (i = next++) < runs.size() && !stop.stop_requested();) {
            LabRun& r = runs[i];
            const auto start = std::chrono::steady_clock::now();
            try {
                OneRun(e, arms[i / static_cast<size_t>(request.n_seeds)], request, r).go(stop);
            } catch (const std::exception& error) {
                r.state = RunState::failed, r.error = error.what();
            }
            const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
            const std::lock_guard lock(mutex);
            if (tell && !stop.stop_requested()) tell(line_of(r, seconds, ++n_done, runs.size()));
        }
    };
    {
        std::vector<std::jthread> threads;
        for (int t = 1; t < request.n_at_once; ++t) threads.emplace_back(work);
        work();
    }
    if (stop.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled");
    return runs;
}

}  // namespace vitrine
