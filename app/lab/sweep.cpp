// Sweeps: combinations of values, and their runs in this process.
#include "app/lab/sweep.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <mutex>
#include <thread>

#include "engine/base/error.h"
#include "engine/base/reader.h"
#include "engine/model/config.h"
#include "engine/telemetry/run_folder.h"
#include "engine/train/run.h"

namespace vitrine {
namespace {

constexpr int64_t kLastSteps = 10;

double or_nan(const Json& j) {
    return j.is_null() ? NAN : j.as_double();
}
Json or_null(double v) {
    return std::isfinite(v) ? Json(v) : Json();
}

// A run of a sweep, in a folder or without.
class Running {
  public:
    Running(const SweepRun& r, const SweepOptions& o) : run_(r), options_(o) {
        const RunOptions engine{.n_threads = o.n_threads, .gpu = o.gpu};
        if (o.folder.empty()) {
            trainer_ = std::make_unique<Trainer>(r.model, o.weights(r), r.train, o.n_threads, o.gpu);
            return;
        }
        const std::string folder = o.folder + "/" + r.name;
        if (!checkpoint_steps(folder).empty()) {  // none: killed before its first, started again
            check_holds(folder, r.model, r.train);
            in_folder_ = TrainingRun::resume(folder, engine);
            return;
        }
        const RunDescription d{r.experiment, r.arm, r.knobs, o.command, "", 0};
        in_folder_ = TrainingRun::start(folder, r.model, o.weights(r), r.train, d, o.texts(r), engine);
    }

    SweepResult go(std::stop_token stop) {
        SweepResult result;
        Trainer& t = in_folder_ ? in_folder_->trainer() : *trainer_;
        recall(t);
        while (!t.is_done() && !stop.stop_requested()) {
            const StepReport r = next_step(t);
            if (r.status == StepReport::Status::stopped) {
                result.error = r.events.empty() ? "stopped" : r.events.back().text;
                break;
            }
            keep(r);
        }
        result.state = !result.error.empty() ? "failed" : t.is_done() ? "finished" : "stopped";
        result.steps = t.next_step(), result.eval_loss = eval_loss_;
        const auto n = static_cast<double>(losses_.size());
        result.loss = 0;
        for (const double l : losses_) result.loss += l / n;
        if (losses_.empty()) result.loss = NAN;
        if (in_folder_ && result.error.empty()) in_folder_->checkpoint();
        if (in_folder_) in_folder_->set_state(result.state, result.error);
        return result;
    }

  private:
    // What goes wrong is in the folder too.
    StepReport next_step(Trainer& t) {
        if (!in_folder_) return t.step();
        try {
            return in_folder_->step();
        } catch (const std::bad_alloc&) {
            in_folder_->set_state("failed", "out of memory");
            throw;
        } catch (const std::exception& e) {
            in_folder_->set_state("failed", e.what());
            throw;
        }
    }
    // What the table tells of steps that were made before.
    void recall(Trainer& t) {
        if (!in_folder_) return;
        for (int64_t s = std::max<int64_t>(0, t.next_step() - kLastSteps); s < t.next_step(); ++s)
            add_loss(in_folder_->folder().scalar(s, "loss", NAN));
        const int64_t every = t.config().eval_every;
        if (const int64_t last = every > 0 ? t.next_step() / every * every - 1 : -1; last >= 0)
            eval_loss_ = in_folder_->folder().scalar(last, "eval.loss", NAN);
    }
    void keep(const StepReport& r) {
        if (r.status != StepReport::Status::done) return;
        add_loss(r.loss);
        for (const Scalar& s : r.scalars)
            if (s.name == "eval.loss") eval_loss_ = s.value;
    }
    void add_loss(double loss) {
        if (std::isnan(loss)) return;
        losses_.push_back(loss);
        if (static_cast<int64_t>(losses_.size()) > kLastSteps) losses_.erase(losses_.begin());
    }

    const SweepRun& run_;
    const SweepOptions& options_;
    std::unique_ptr<Trainer> trainer_;
    std::unique_ptr<TrainingRun> in_folder_;
    std::vector<double> losses_;
    double eval_loss_ = NAN;
};

SweepResult result_of(const SweepRun& r, const SweepOptions& o, std::stop_token stop) {
    const auto start = std::chrono::steady_clock::now();
    SweepResult result;
    try {
        result = Running(r, o).go(stop);
    } catch (const std::bad_alloc&) {
        result.state = "failed", result.error = "out of memory";
    } catch (const std::exception& e) {
        result.state = "failed", result.error = e.what();
    }
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
}

}  // namespace

void check_holds(const std::string& folder, const ModelConfig& model, const TrainConfig& train) {
    const std::string file = folder + "/" + run_folder::kRunJson;
    const Json was = Json::parse(read_file(file, 16 << 20), file, {.max_bytes = 16 << 20});
    const Json& config = was.at("config");  // keys that are younger than the file have their defaults
    const bool same = train_config_from_json(config.at("train"), file) == train &&
                      parse_config(config.at("model").dump(), file).config ==
                          parse_config(config_to_json(model), "the model's config").config;
    if (!same) throw Error(ErrorKind::bad_input, escaped(folder, 512) + ": holds a run with another configuration");
}

SweptKey swept_key(const std::string& text) {
    const size_t equals = text.find('=');
    SweptKey key;
    if (equals != std::string::npos && equals > 0) {
        key.name = text.substr(0, equals);
        for (size_t at = equals + 1; at <= text.size();) {
            const size_t comma = std::min(text.find(',', at), text.size());
            key.values.push_back(text.substr(at, comma - at));
            at = comma + 1;
        }
    }
    std::vector<std::string> sorted = key.values;
    std::sort(sorted.begin(), sorted.end());
    const bool repeats = std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end();
    if (key.values.empty() || sorted.front().empty() || repeats)
        throw_if_any({{"", "--sweep", text, "expected KEY=VALUE,VALUE,... with different values", ""}});
    return key;
}

std::vector<std::vector<std::pair<std::string, std::string>>> combinations(const std::vector<SweptKey>& keys) {
    std::vector<std::vector<std::pair<std::string, std::string>>> all{{}};
    for (const SweptKey& key : keys) {
        std::vector<std::vector<std::pair<std::string, std::string>>> longer;
        for (const auto& so_far : all)
            for (const std::string& value : key.values) {
                longer.push_back(so_far);
                longer.back().emplace_back(key.name, value);
            }
        all = std::move(longer);
    }
    return all;
}

std::string sweep_name(const std::vector<std::string>& parts) {
    std::string name;
    for (const std::string& part : parts) {
        if (part.empty()) continue;
        if (!name.empty()) name += '-';
        for (const char c : part)
            name += std::isalnum(static_cast<unsigned char>(c)) || std::string_view("._+-=").find(c) != std::string_view::npos
                        ? c
                        : '-';
    }
    return name;
}

Json SweepResult::to_json() const {
    Json j = Json::object();
    j.set("state", state), j.set("error", error), j.set("steps", steps);
    j.set("loss", or_null(loss)), j.set("eval_loss", or_null(eval_loss)), j.set("seconds", seconds);
    return j;
}
SweepResult SweepResult::from_json(const Json& j) {
    return {j.at("state").as_string(), j.at("error").as_string(), j.at("steps").as_int(),
            or_nan(j.at("loss")),      or_nan(j.at("eval_loss")), j.at("seconds").as_double()};
}

std::vector<SweepResult> run_share_of_sweep(const std::vector<SweepRun>& runs, size_t first, size_t stride, const SweepOptions& o,
                                            std::stop_token stop) {
    VITRINE_ASSERT(stride > 0 && o.n_at_once > 0 && o.weights && o.texts);
    std::vector<SweepResult> results(runs.size());
    std::atomic<size_t> next{first};
    std::mutex mutex;
    const auto work = [&] {
        for (size_t i; (i = next.fetch_add(stride)) < runs.size() && !stop.stop_requested();) {
            results[i] = result_of(runs[i], o, stop);
            const std::lock_guard lock(mutex);
            if (o.tell) o.tell(runs[i], results[i]);
        }
    };
    std::vector<std::jthread> threads;
    for (int t = 1; t < o.n_at_once; ++t) threads.emplace_back(work);
    work();
    threads.clear();  // joins
    return results;
}

}  // namespace vitrine
