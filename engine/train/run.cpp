// A training run in its folder.
#include "engine/train/run.h"

#include <chrono>
#include <cmath>
#include <filesystem>
#include <thread>

#include "engine/base/disk_full.h"
#include "engine/base/log.h"
#include "engine/base/reader.h"
#include "engine/telemetry/run_folder.h"
#include "engine/train/alarms.h"

namespace vitrine {
namespace fs = std::filesystem;

TrainingRun::TrainingRun(const std::string& folder, std::unique_ptr<Trainer> trainer, ModelTexts texts, const RunOptions& options)
    : folder_(folder), trainer_(std::move(trainer)), texts_(std::move(texts)), options_(options) {
    trainer_->invite();
}

std::unique_ptr<TrainingRun> TrainingRun::start(const std::string& folder, const ModelConfig& model, ModelWeights weights,
                                const TrainConfig& config, const RunDescription& description, const ModelTexts& texts,
                                const RunOptions& options) {
    auto trainer = std::make_unique<Trainer>(model, std::move(weights), config, options.n_threads, options.gpu, options.ranks);
    RunFolder::describe(folder, description, config, model);
    std::unique_ptr<TrainingRun> run(new TrainingRun(folder, std::move(trainer), texts, options));
    run->checkpoint();
    run->set_state("running");
    return run;
}

std::unique_ptr<TrainingRun> TrainingRun::resume(const std::string& folder, const RunOptions& options) {
    const std::vector<int64_t> steps = checkpoint_steps(folder);
    if (steps.empty())
        throw Error(ErrorKind::bad_input, escaped(folder, 512) + ": no complete checkpoint to go on from; start it anew");
    const std::string from = checkpoint_folder(folder, steps.back());
    LoadedCheckpoint c = read_checkpoint(from, options.n_threads, options.gpu, options.ranks);
    std::unique_ptr<TrainingRun> run(new TrainingRun(folder, std::move(c.trainer), ModelTexts::read(from), options));
    run->last_checkpoint_ = steps.back();
    for (const TrainEvent& e : run->folder_.events_from(steps.back(), run_folder::kChange)) {
        const Json d = Json::parse(e.detail, "a recorded change");
        run->pending_.push_back({e.step, d.at("key").as_string(), d.at("value")});
    }
    run->folder_.log("going on from the checkpoint of step " + std::to_string(steps.back()));
    run->set_state("running");
    return run;
}

namespace {

// A run that leaves another one is of the same experiment and arm, under the same knobs where nothing else was said.
void inherit(const std::string& parent, RunDescription& d) {
    const std::string file = parent + "/" + run_folder::kRunJson;
    std::error_code failed;
    if (!fs::exists(file, failed)) return;  // checkpoints alone
    const Json was = Json::parse(read_file(file, 16 << 20), file, {.max_bytes = 16 << 20});
    if (d.experiment.empty()) d.experiment = was.at("experiment").as_string();
    if (d.arm.empty()) d.arm = was.at("arm").as_string();
    for (const auto& [key, value] : was.at("knobs").members()) d.knobs.try_emplace(key, value.as_string());
}

}  // namespace

std::unique_ptr<TrainingRun> TrainingRun::rewind(const std::string& parent, int64_t step, const std::string& folder,
                                 const std::vector<std::string>& changes, RunDescription description,
                                 const RunOptions& options) {
    const std::string from = checkpoint_folder(parent, step);
    std::error_code failed;
    if (!fs::exists(from + "/" + run_folder::kManifest, failed)) {
        std::string known;
        for (int64_t s : checkpoint_steps(parent)) known += (known.empty() ? "" : ", ") + std::to_string(s);
        throw_if_any({{parent, "checkpoint", std::to_string(step), "expected one of the steps " + known, ""}});
    }
    LoadedCheckpoint c = read_checkpoint(from, options.n_threads, options.gpu, options.ranks);
    TrainConfig changed = c.config;
    ConfigFields f = fields(changed);
    for (const std::string& s : changes) f.set(s);
    throw_if_any(validate(changed, ""));
    if (!(changed == c.config)) {  // the same state under another configuration
        Trainer::State state = c.trainer->state();
        std::map<std::string, Trainer::State::Array> arrays;
        for (const auto& a : state.arrays) arrays[a.name] = a;
        const bool same_memory = changed.optimizer == c.config.optimizer && changed.dtype == c.config.dtype;
        if (!same_memory)
            throw_if_any({{"", "optimizer, dtype", "", "expected the parent's: its moments go on in the new run", ""}});
        auto trainer =
            std::make_unique<Trainer>(c.model, load_weights(from, c.model), changed, options.n_threads, options.gpu, options.ranks);
        trainer->restore(arrays, state.rest, from);
        c.trainer = std::move(trainer);
    }
    description.parent = fs::path(parent).lexically_normal().filename().string(), description.parent_step = step;
    if (description.parent.empty()) description.parent = fs::path(parent).lexically_normal().parent_path().filename().string();
    inherit(parent, description);
    RunFolder::describe(folder, description, changed, c.model);
    std::unique_ptr<TrainingRun> run(new TrainingRun(folder, std::move(c.trainer), ModelTexts::read(from), options));
    run->checkpoint();
    run->set_state("running");
    return run;
}

// A full disk pauses the run: the same write is tried again until it fits or somebody stops.
void TrainingRun::with_room(const std::function<void()>& write, std::stop_token stop) {
    for (bool was_full = false;;) {
        try {
            if (options_.before_write) options_.before_write();
            write();
            if (was_full) log_info("there is room again: training goes on");
            return;
        } catch (const DiskFull& e) {
            const std::string message = std::string("the disk is full, training waits: ") + e.what();
            if (!was_full) log_warning(message);
            was_full = true;
            if (options_.on_disk_full ? !options_.on_disk_full(message) : stop.stop_requested()) throw;
            if (!options_.on_disk_full) std::this_thread::sleep_for(std::chrono::milliseconds(500));
        }
    }
}

void TrainingRun::apply_pending() {
    while (!pending_.empty() && pending_.front().step <= trainer_->next_step()) {
        trainer_->change(pending_.front().key, pending_.front().value);
        pending_.erase(pending_.begin());
    }
}

void TrainingRun::change(const std::string& key, const Json& value) {
    TrainConfig before = trainer_->config();
    trainer_->change(key, value);
    const std::string old = fields(before).find(key) ? fields(before).find(key)->get().dump() : "";
    Json detail = Json::object();
    detail.set("key", key), detail.set("value", value);
    unwritten_.push_back({trainer_->next_step(), run_folder::kChange, key + " " + old + " -> " + value.dump(), detail.dump()});
    std::erase_if(pending_, [&](const Change& c) { return c.key == key; });
}

// Rows that were committed before a kill say what must come out again.
void TrainingRun::compare_with_recorded(const StepReport& r) {
    if (trainer_->config().anticipatory == AnticipatoryMode::triggered) return;  // a rollback replaces rows by others
    for (const auto& [name, value] : {std::pair{"loss", r.loss}, std::pair{"grad_norm", r.grad_norm}}) {
        const double recorded = folder_.scalar(r.step, name, value);
        if (recorded == value) continue;
        char text[192];
        std::snprintf(text, sizeof text,
                      "step %lld: %s is %.17g now and was %.17g: not the same build, machine or number of ranks?",
                      static_cast<long long>(r.step), name, value, recorded);
        log_warning(text);
        unwritten_.push_back({r.step, run_folder::kAlarm, text, ""});
    }
}

StepReport TrainingRun::step(std::stop_token stop) {
    apply_pending();
    const auto start = std::chrono::steady_clock::now();
    StepReport r = trainer_->step(stop);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const bool is_done = r.status == StepReport::Status::done;
    if (is_done) compare_with_recorded(r);
    if (is_done) r.scalars.push_back({run_folder::kTokensPerSecond, static_cast<double>(r.n_tokens) / seconds});
    const TrainConfig& c = trainer_->config();
    if (is_done && c.eval_every > 0 && trainer_->next_step() % c.eval_every == 0)
        for (const Scalar& s : trainer_->evaluate(stop)) r.scalars.push_back(s);

    if (is_done)
        for (TrainEvent& e : alarms_of(r, c.metrics_every, [&](int64_t s, const std::string& name) {
                 return folder_.scalar(s, name, NAN);
             }))
            r.events.push_back(std::move(e));

    RunFolder::Commit commit{r.step, {}, unwritten_, {}};
    if (r.status != StepReport::Status::rolled_back) commit.scalars = r.scalars;
    for (const TrainEvent& e : r.events) {
        const bool is_skip = e.kind == "nonfinite";
        commit.events.push_back({e.step, is_skip ? run_folder::kSkipped : e.kind, e.text, e.detail});
        folder_.log(e.text);
    }
    commit.state["step"] = std::to_string(trainer_->next_step());
    with_room([&] { folder_.commit(commit); }, stop);
    unwritten_.clear();
    if (r.status == StepReport::Status::stopped) return r;
    const bool is_due = c.checkpoint_every > 0 && trainer_->next_step() % c.checkpoint_every == 0;
    if ((is_due || trainer_->is_done()) && r.status != StepReport::Status::rolled_back) checkpoint(stop);
    return r;
}

void TrainingRun::checkpoint(std::stop_token stop) {
    const int64_t step = trainer_->next_step();
    if (step == last_checkpoint_) return;
    with_room([&] { write_checkpoint(*trainer_, texts_, checkpoint_folder(folder_.path(), step)); }, stop);
    with_room([&] { folder_.commit({step, {}, {{step, run_folder::kCheckpoint, "step " + std::to_string(step), ""}}, {}}); }, stop);
    with_room([&] { folder_.make_durable(); }, stop);
    last_checkpoint_ = step;
    prune();
}

// The newest keep_checkpoints and the first stay.
void TrainingRun::prune() {
    const auto keep = static_cast<size_t>(trainer_->config().keep_checkpoints);
    const std::vector<int64_t> steps = checkpoint_steps(folder_.path());
    if (keep == 0 || steps.size() <= keep + 1) return;
    for (size_t i = 1; i + keep < steps.size(); ++i) remove_checkpoint(checkpoint_folder(folder_.path(), steps[i]));
}

void TrainingRun::set_state(const std::string& state, const std::string& error) {
    RunFolder::Commit c;
    c.state = {{"state", state}, {"step", std::to_string(trainer_->next_step())}, {"error", error}};
    c.step = trainer_->next_step();
    c.events = unwritten_;
    with_room([&] { folder_.commit(c); }, {});
    unwritten_.clear();
    if (!error.empty()) folder_.log(error);
}

void TrainingRun::note(const std::string& kind, const std::string& text) {
    with_room([&] { folder_.commit({trainer_->next_step(), {}, {{trainer_->next_step(), kind, text, ""}}, {}}); }, {});
    folder_.log(text);
}

}  // namespace vitrine
