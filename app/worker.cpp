// The engine's thread: queue, dispatch, what is not about answers (worker_chat.cpp).
#include "app/worker.h"

#include <algorithm>
#include <filesystem>
#include <new>
#include <utility>

#include "app/dialogue.h"
#include "app/paths.h"
#include "app/watching.h"
#include "engine/base/reader.h"

namespace vitrine {
namespace {
constexpr int kWatchingPairs = 20, kSpanTokens = 16;
constexpr int64_t kWatchingContext = 256;  // [tokens] at most, so that the first pair starts soon
}  // namespace

Worker::Worker(WorkerOptions options, std::function<void()> wake)
    : options_(std::move(options)), reports_(std::move(wake)), trace_(std::make_shared<Trace>(options_.trace_bytes)) {
    archive_ = std::make_unique<Archive>(options_.store_path, [this](Update u) { reports_.push(std::move(u)); });
    thread_ = std::jthread([this](std::stop_token stop) { run(stop); });
}

Worker::~Worker() {
    thread_.request_stop();
    cancel();
    thread_.join();
}

bool Worker::send(Command c) {
    // What only the disk has to answer does not wait for an answer that is being generated.
    if (auto* list = std::get_if<ListConversations>(&c)) {
        {
            const std::lock_guard lock(mutex_);
            search_ = list->search;
        }
        archive_->list(list->search);
        return true;
    }
    {
        const std::lock_guard lock(mutex_);
        if (commands_.size() >= kMaxCommands) return false;
        commands_.push_back(std::move(c));
        is_busy_ = true;
    }
    wake_.notify_all();
    return true;
}

void Worker::cancel() {
    const std::lock_guard lock(mutex_);
    running_.request_stop();
    is_next_stopped_ = !commands_.empty();  // what was asked for and has not begun is meant too
}

void Worker::set_watch(ProbeSet probes) {
    const std::lock_guard lock(watch_mutex_);
    watched_ = probes;
    if (watch_) watch_->set(watched_ | options_.always_watched);
}

void Worker::apply_watch() {
    const std::lock_guard lock(watch_mutex_);
    watch_ = engine_ ? &engine_->watch() : nullptr;
    if (watch_) watch_->set(watched_ | options_.always_watched);
}

void Worker::run(std::stop_token stop) {
    for (;;) {
        Command command;
        bool has_command = false;
        {
            std::unique_lock lock(mutex_);
            if (stop.stop_requested()) break;  // seen under the lock that ~Worker's cancel() takes
            if (commands_.empty() && is_busy_) {
                is_busy_ = false;
                reports_.push(Idle{});
            }
            if (!commands_.empty()) {
                command = std::move(commands_.front());
                commands_.pop_front();
                running_ = std::stop_source();
                if (std::exchange(is_next_stopped_, false)) running_.request_stop();
                has_command = true;
            }
        }
        if (has_command) {
            run_command(command);
            continue;
        }
        if (options_.measures_watching && idle_work()) continue;
        std::unique_lock lock(mutex_);
        // A change of what is watched is noticed at the next command: no need to wake for it.
        wake_.wait(lock, stop, [this] { return !commands_.empty(); });
    }
    // What was to be deleted is deleted, whatever else is left undone.
    for (Command& c : commands_)
        if (std::holds_alternative<DeleteConversation>(c)) run_command(c);
    const std::lock_guard lock(watch_mutex_);
    watch_ = nullptr;
}

void Worker::run_command(Command& command) {
    watching_.reset();
    // The one catch block of the window.
    try {
        std::visit([this](auto& c) { handle(c); }, command);
    } catch (const Error& e) {
        if (e.kind() == ErrorKind::cancelled)
            notice(Notice::Level::info, "Stopped.");
        else if (e.kind() == ErrorKind::device && engine_ && !std::holds_alternative<SetDevice>(command) &&
                 !std::holds_alternative<LoadModel>(command))
            gpu_was_lost(e.what());
        else
            notice(Notice::Level::error, e.what());
    } catch (const std::bad_alloc&) {
        notice(Notice::Level::error, "There was not enough memory for this. What was there before is still there.");
    } catch (const std::exception& e) {
        notice(Notice::Level::error, std::string("Internal error: ") + e.what());
    }
}

// Every answer is saved as far as it came; the window offers the CPU (SetDevice), until then nothing runs.
void Worker::gpu_was_lost(const std::string& why) {
    save_all();
    if (dialogue_) dialogue_->forget_session();
    auto info = std::make_shared<ModelInfo>(engine_->info());
    info->is_gpu_lost = true;
    info->device += ", lost";
    reports_.push(ModelLoaded{std::move(info), knows_curriculum_});
    notice(Notice::Level::error, "The GPU was lost: " + why);
}

// Alternating spans while nobody waits for the engine; a command that arrives waits for one pair at most.
bool Worker::idle_work() {
    const Session* session = dialogue_ ? dialogue_->session() : nullptr;
    if (!session || session->length() < 8) return false;
    const ProbeSet probes = engine_->watch().get();
    if (!watching_ && measured_for_ == probes) return false;
    try {
        if (!watching_) {
            const std::vector<int32_t>& ids = session->tokens();
            const size_t n = std::min<size_t>(ids.size(), kWatchingContext);
            watching_ = std::make_unique<WatchingMeter>(*engine_, std::span(ids).last(n), kSpanTokens, probes);
            measured_for_ = probes;
        }
        watching_->measure_pair();
        apply_watch();  // it may have been changed while the measurement had its own
    } catch (const std::exception& e) {
        notice(Notice::Level::warning, std::string("The cost of watching could not be measured: ") + e.what());
        watching_.reset();
        return false;
    }
    if (watching_->n_pairs() >= kWatchingPairs) {
        watching_cost_percent_ = watching_->cost().percent;
        watching_.reset();
        reports_.push(Meters{tokens_per_s_, watching_cost_percent_});
        return false;
    }
    return true;
}

void Worker::report_model() {
    reports_.push(ModelLoaded{std::make_shared<const ModelInfo>(engine_->info()), knows_curriculum_});
}

Dialogue& Worker::need_dialogue() {
    if (!dialogue_) throw Error(ErrorKind::bad_input, "No model is loaded: open a checkpoint folder first.");
    return *dialogue_;
}

void Worker::handle(LoadModel& c) {
    // One spelling of a folder: by it a conversation knows its model. A file of a checkpoint stands for its folder.
    std::error_code failed;
    std::filesystem::path folder = std::filesystem::absolute(c.folder, failed).lexically_normal();
    if (!folder.has_filename() || std::filesystem::is_regular_file(folder, failed)) folder = folder.parent_path();
    const std::string name = folder.filename().string();
    reports_.push(Progress{"Loading " + escaped(name), 0, 0});
    EngineOptions options = options_.engine;
    if (engine_) options.numerics = engine_->numerics(), options.gpu = engine_->device();
    // The old model is kept until the new one is ready.
    std::shared_ptr<Engine> loaded;
    try {
        loaded = Engine::load(folder.string(), options, running_.get_token());
    } catch (const Error& e) {
        if (e.kind() != ErrorKind::cancelled) throw;
        const std::string rest = engine_ ? "; " + escaped(engine_->info().name) + " stays open." : ".";
        return notice(Notice::Level::info, "Opening " + escaped(name) + " was cancelled" + rest);
    }
    const std::string system = dialogue_ ? dialogue_->tree().system : "";
    {
        const std::lock_guard lock(watch_mutex_);
        watch_ = nullptr;
    }
    dialogue_ = std::make_unique<Dialogue>(*loaded, trace_);
    engine_ = std::move(loaded);
    knows_curriculum_ = has_tokenizer_of_curriculum(engine_->info().folder);
    apply_watch();
    measured_for_ = 0;
    watching_cost_percent_ = -1;
    tokens_per_s_ = 0;
    report_model();
    for (const std::string& w : engine_->info().warnings) notice(Notice::Level::warning, w);
    start_conversation(system);
}

void Worker::handle(SetNumerics& c) {
    Dialogue& d = need_dialogue();
    engine_->set_numerics(c.numerics);
    d.forget_session();  // its cache is of the other kind
    measured_for_ = 0;
    report_model();
    reports_.push(CacheChanged{});
}

void Worker::handle(SetDevice& c) {
    Dialogue& d = need_dialogue();
    if (const std::string plan = engine_->device_plan(c.gpu); !plan.empty())
        notice(Notice::Level::info, "Loading the model onto " + plan + ".");
    engine_->set_device(c.gpu);
    d.forget_session();  // its cache lies elsewhere
    measured_for_ = 0;
    report_model();
    reports_.push(CacheChanged{});
}

void Worker::handle(MakeHistogram& c) {
    need_dialogue();
    reports_.push(HistogramMade{engine_->histogram(c.tensor)});
}

void Worker::handle(RecomputeToken& c) {
    struct Reapply {
        Worker& w;
        ~Reapply() { w.apply_watch(); }  // it may have been changed while the computation had its own
    } reapply{*this};
    for (const auto& [id, node] : need_dialogue().tree().nodes())
        if (node.context.branch == c.token.branch && !node.turn.model.empty() && node.turn.model != engine_->info().folder)
            throw Error(ErrorKind::bad_input, "this token was read by " + escaped(node.turn.model, 300) +
                                                  ": its record can only be computed again with that model");
    need_dialogue().recompute(c.token, c.probes, running_.get_token());
    reports_.push(RecordReady{c.token});
}

void Worker::handle(ExportConversation& c) {
    const auto conversation = need_dialogue().tree().publish();
    std::string model = engine_->info().name;
    for (const Turn& t : conversation->path)
        if (!t.model.empty()) model = std::filesystem::path(t.model).lexically_normal().filename().string();
    const std::string text = c.is_json ? to_json(*conversation, model) : to_markdown(*conversation);
    write_file_atomic(c.path, text);
    notice(Notice::Level::info, "Exported to " + c.path);
}

void Worker::handle(ListConversations&) {}  // send() passed it on

void Worker::handle(SaveNow&) {
    save_all();
    archive_->flush();
}

}  // namespace vitrine
