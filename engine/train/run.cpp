// A training run in its folder.
#include "engine/train/run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <thread>

#include "engine/base/disk_full.h"
#include "engine/base/log.h"
#include "engine/base/reader.h"
#include "engine/telemetry/run_folder.h"

namespace vitrine {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxText = 64 << 20;

Json read_json(const std::string& file) { return Json::parse(read_file(file, kMaxText), file, {.max_bytes = kMaxText}); }

// The one that a run goes on from. Its beginning stays when it goes back to before it, so the step alone does not tell.
int64_t newest_checkpoint(const std::string& folder, const std::vector<int64_t>& steps) {
    std::pair<int64_t, int64_t> newest{-1, 0};
    for (const int64_t step : steps) {
        int64_t n_rollbacks = 0;
        try {
            const Json j = read_json(checkpoint_folder(folder, step) + "/" + run_folder::kManifest);
            if (const Json* n = j.at("state").find("n_rollbacks")) n_rollbacks = n->as_int();
        } catch (const Error&) {  // told by who reads it, if it is the one
        }
        newest = std::max(newest, {n_rollbacks, step});
    }
    return newest.second;
}

}  // namespace

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
    run->begin(description.changes);
    return run;
}

// The first checkpoint makes it a run; what is to happen again is recorded by then.
void TrainingRun::begin(const std::vector<RecordedChange>& changes) {
    for (const RecordedChange& c : changes) unwritten_.push_back({c.step, run_folder::kChange, c.text, c.detail});
    begins_at_ = written_step_ = trainer_->next_step();
    if (!changes.empty()) commit({begins_at_, {}, {}, {}}, {});
    if (!changes.empty()) ahead_ = ChangesAhead(recorded_changes(folder_.path()), *trainer_);
    checkpoint();
    set_state("running");
}

std::unique_ptr<TrainingRun> TrainingRun::resume(const std::string& folder, const RunOptions& options) {
    const std::vector<int64_t> steps = checkpoint_steps(folder);
    if (steps.empty())
        throw Error(ErrorKind::bad_input, escaped(folder, 512) +
                                              ": no complete checkpoint to go on from; start it anew, as it was started first");
    const int64_t step = newest_checkpoint(folder, steps);
    const std::string from = checkpoint_folder(folder, step);
    LoadedCheckpoint c = read_checkpoint(from, options.n_threads, options.gpu, options.ranks);
    std::unique_ptr<TrainingRun> run(new TrainingRun(folder, std::move(c.trainer), ModelTexts::read(from), options));
    const Json description = read_json(folder + "/" + run_folder::kRunJson);
    const Json* parent = description.find("parent");
    run->begins_at_ = parent ? parent->at("step").as_int() : 0;
    for (const int64_t s : steps)  // of a future that a rollback had taken back when it was killed
        if (s > step && s != run->begins_at_) remove_checkpoint(checkpoint_folder(folder, s));
    run->last_checkpoint_ = run->written_step_ = step;
    run->ahead_ = ChangesAhead(recorded_changes(folder), *run->trainer_);
    const std::string rollbacks = run->folder_.state("rollbacks");  // from before one: its spike comes again, and rows as they were
    if (!rollbacks.empty() && std::stoll(rollbacks) > run->trainer_->n_rollbacks()) run->leaves_rows_from_ = step;
    run->folder_.log("going on from the checkpoint of step " + std::to_string(step));
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
    if (description.parent.empty()) {
        const fs::path whole = fs::path(parent).lexically_normal();
        description.parent = (whole.filename().empty() ? whole.parent_path() : whole).filename().string();
        description.parent_step = step;
    }
    ChangesAhead ahead(recorded_changes(parent), *c.trainer);
    for (const std::string& s : changes) ahead.drop(s.substr(0, s.find('=')));
    description.changes = ahead.all();
    inherit(parent, description);
    RunFolder::describe(folder, description, changed, c.model);
    std::unique_ptr<TrainingRun> run(new TrainingRun(folder, std::move(c.trainer), ModelTexts::read(from), options));
    run->begin(description.changes);
    return run;
}

// A full disk pauses the run: the same write is tried again until it fits or somebody stops.
void TrainingRun::with_room(const std::function<void()>& write, std::stop_token stop) {
    using Clock = std::chrono::steady_clock;
    Clock::time_point since;
    for (bool was_full = false;;) {
        try {
            if (options_.before_write) options_.before_write();
            write();
            if (!was_full) return;
            folder_.set_waits_for_room(false);
            log_info("there is room again: training goes on");
            const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - since).count();
            unwritten_.push_back({trainer_->next_step(), run_folder::kControl,
                                  "the disk was full: waited " + std::to_string(seconds) + " s for room before step " +
                                      std::to_string(trainer_->next_step()), ""});
            return;
        } catch (const DiskFull& e) {
            const std::string message = std::string("the disk is full, training waits: ") + e.what();
            if (!was_full) log_warning(message), since = Clock::now(), folder_.set_waits_for_room(true);
            was_full = true;
            if (options_.on_disk_full ? !options_.on_disk_full(message) : stop.stop_requested()) {
                folder_.set_waits_for_room(false);
                throw;
            }
            if (!options_.on_disk_full) std::this_thread::sleep_for(std::chrono::milliseconds(500));
        }
    }
}

// With all events that wait for the next transaction.
void TrainingRun::commit(RunFolder::Commit c, std::stop_token stop) {
    const auto n = static_cast<std::ptrdiff_t>(unwritten_.size());
    c.events.insert(c.events.begin(), unwritten_.begin(), unwritten_.end());
    c.drop_events = dropped_;
    if (leaves_rows_from_ >= 0 && c.drop_rows_from < 0) c.drop_rows_from = leaves_rows_from_;  // a rollback leaves more
    with_room([&] { folder_.commit(c); }, stop);
    unwritten_.erase(unwritten_.begin(), unwritten_.begin() + n);  // one may have come while it waited
    dropped_.clear(), leaves_rows_from_ = -1;
    if (c.state.contains("step")) written_step_ = std::stoll(c.state.at("step"));
}

void TrainingRun::change(const std::string& key, const Json& value) {
    TrainConfig before = trainer_->config();
    trainer_->change(key, value);
    const std::string old = fields(before).find(key) ? fields(before).find(key)->get().dump() : "";
    Json detail = Json::object();
    detail.set("key", key), detail.set("value", value), detail.set("rollbacks", trainer_->n_rollbacks());
    unwritten_.push_back({trainer_->next_step(), run_folder::kChange, key + " " + old + " -> " + value.dump(), detail.dump()});
    for (const int64_t id : ahead_.drop(key)) dropped_.push_back(id);
    leaves_rows_from_ = trainer_->next_step();
}

// Rows that were committed before a kill say what must come out again.
void TrainingRun::compare_with_recorded(const StepReport& r) {
    if (leaves_rows_from_ >= 0) return;
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
    ahead_.apply(*trainer_);
    StepReport r = measured_step(*trainer_, stop, [&](int64_t s, const std::string& name) { return folder_.scalar(s, name, NAN); });
    if (r.status == StepReport::Status::done) compare_with_recorded(r);
    const TrainConfig& c = trainer_->config();
    const bool went_back = r.status == StepReport::Status::rolled_back;
    RunFolder::Commit row{r.step, {}, {}, {}};
    if (!went_back) row.scalars = r.scalars;
    if (went_back) row.drop_rows_from = trainer_->next_step();
    for (const TrainEvent& e : r.events) {
        const bool is_skip = e.kind == "nonfinite";
        row.events.push_back({e.step, is_skip ? run_folder::kSkipped : e.kind, e.text, e.detail});
        folder_.log(e.text);
    }
    row.state["step"] = std::to_string(trainer_->next_step());
    row.state["n_steps"] = std::to_string(c.steps);
    row.state["rollbacks"] = std::to_string(trainer_->n_rollbacks());
    commit(row, stop);
    if (r.status == StepReport::Status::stopped) return r;
    const bool is_due = c.checkpoint_every > 0 && trainer_->next_step() % c.checkpoint_every == 0;
    if (went_back)
        go_back_to_here(stop);
    else if (is_due || trainer_->is_done())
        checkpoint(stop);
    return r;
}

// Checkpoints of steps that were taken back would lead into a future that did not happen. A kill in between is harmless: from any
// of them the same spike comes again, and leads back to here.
void TrainingRun::go_back_to_here(std::stop_token stop) {
    last_checkpoint_ = -1;
    checkpoint(stop);
    for (const int64_t step : checkpoint_steps(folder_.path()))
        if (step > trainer_->next_step() && step != begins_at_) remove_checkpoint(checkpoint_folder(folder_.path(), step));
}

void TrainingRun::checkpoint(std::stop_token stop) {
    const int64_t step = trainer_->next_step();
    const bool is_beginning = step == begins_at_ && !checkpoint_steps(folder_.path()).empty();  // stays as it was
    if (step == last_checkpoint_ || is_beginning) return;
    with_room([&] { write_checkpoint(*trainer_, texts_, checkpoint_folder(folder_.path(), step)); }, stop);
    commit({step, {}, {{step, run_folder::kCheckpoint, "step " + std::to_string(step), ""}}, {}}, stop);
    with_room([&] { folder_.make_durable(); }, stop);
    last_checkpoint_ = step;
    prune();
}

// The newest keep_checkpoints and the beginning's stay. Those that lie ahead were taken back and are about to go.
void TrainingRun::prune() {
    const auto keep = static_cast<size_t>(trainer_->config().keep_checkpoints);
    if (keep == 0) return;
    std::vector<int64_t> steps = checkpoint_steps(folder_.path());
    std::erase_if(steps, [&](int64_t s) { return s == begins_at_ || s > trainer_->next_step(); });
    for (size_t i = 0; i + keep < steps.size(); ++i) remove_checkpoint(checkpoint_folder(folder_.path(), steps[i]));
}

void TrainingRun::set_state(const std::string& state, const std::string& error) {
    RunFolder::Commit c;
    c.state = {{"state", state}, {"step", std::to_string(trainer_->next_step())}, {"error", error}};
    c.step = trainer_->next_step();
    commit(c, {});
    if (!error.empty()) folder_.log(error);
}

void TrainingRun::note(const std::string& kind, const std::string& text) {
    commit({trainer_->next_step(), {}, {{trainer_->next_step(), kind, text, ""}}, {}}, {});
    folder_.log(text);
}

// A checkpoint without its manifest holds room that nobody else may have left. The row that did not fit is made again later.
void TrainingRun::stop_without_room(const std::string& why) {
    std::error_code failed;
    const std::string begun = checkpoint_folder(folder_.path(), trainer_->next_step());
    if (!fs::exists(begun + "/" + run_folder::kManifest, failed)) remove_checkpoint(begun);
    RunFolder::Commit c{written_step_, {}, unwritten_, {{"state", "stopped"}, {"error", why}}};
    c.state["step"] = std::to_string(written_step_);
    c.drop_events = dropped_, c.drop_rows_from = leaves_rows_from_;
    c.events.push_back({written_step_, run_folder::kControl, "stopped at step " + std::to_string(written_step_) + ": " + why, ""});
    try {
        if (options_.before_write) options_.before_write();
        folder_.commit(c);
    } catch (const DiskFull&) {
        log_warning("the disk is too full to record that the run was stopped");
    }
    folder_.log("stopped at step " + std::to_string(written_step_) + ": " + why);
}

}  // namespace vitrine
