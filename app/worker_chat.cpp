// The engine's thread: conversations and answers, and how they are reported and saved while they grow.
#include <algorithm>
#include <chrono>
#include <filesystem>

#include "app/comparison.h"
#include "app/dialogue.h"
#include "app/watching.h"
#include "app/worker.h"
#include "engine/ops/ctx.h"

namespace vitrine {
namespace {
using Clock = std::chrono::steady_clock;
constexpr auto kReportEvery = std::chrono::milliseconds(100);  // at most ten batches a second

OpTimesChanged op_times(const OpTimes& times, int n_layers, int n_tokens) {
    OpTimesChanged u;
    u.n_tokens = n_tokens;
    for (int k = 0; k < static_cast<int>(OpKind::count); ++k) {
        u.kinds.emplace_back(op_kind_name(static_cast<OpKind>(k)));
        std::vector<double> row(times.ms[k], times.ms[k] + std::min(n_layers, OpTimes::kMaxLayers));
        row.push_back(times.ms[k][OpTimes::kMaxLayers]);
        u.ms_by_kind_and_layer.push_back(std::move(row));
    }
    return u;
}
}  // namespace

struct Worker::Tokens {
    int64_t turn = 0;
    std::vector<TokenInfo> tokens;
    std::string reasoning, content;
    Clock::time_point last_report{};  // long ago: the first token is shown at once
    int n_since_rate = 0;
    Clock::time_point rate_since = Clock::now();
};

void Worker::start_conversation(const std::string& system) {
    ConversationTree tree;
    tree.system = system;
    need_dialogue().replace(std::move(tree));
    saved_.clear();
    publish_conversation();
    report_cache();
}

// What the shown conversation holds: after another one was opened, the session still holds what it read last.
void Worker::report_cache() {
    const Session* s = dialogue_->session_of_shown();
    reports_.push(CacheChanged{s ? s->cache_report() : CacheReport{}});
}

void Worker::publish_conversation() {
    reports_.push(ConversationChanged{dialogue_->tree().publish()});
}

// The timeline of the last answer on the path, as it was generated: what the cursor can select.
void Worker::publish_recorded_timeline() {
    const ConversationTree& tree = dialogue_->tree();
    const std::vector<int64_t> path = tree.path();
    for (auto turn = path.rbegin(); turn != path.rend(); ++turn) {
        if (tree.at(*turn).context.branch == 0) continue;
        reports_.push(TimelineStarted{std::make_shared<const Timeline>(tree.timeline(*turn))});
        return;
    }
}

void Worker::handle(NewConversation& c) {
    start_conversation(c.system);
}

void Worker::handle(OpenConversation& c) {
    Dialogue& d = need_dialogue();
    LoadedConversation loaded = archive_->load(c.id);
    // Branches in order of their numbers: parents are older, so they come first.
    auto r = loaded.records.begin();
    for (const auto& [branch, b] : loaded.tree.branches) {
        if (b.parent) trace_->fork(b.parent, branch, b.n_shared);
        for (; r != loaded.records.end() && r->branch == branch; ++r)
            trace_->put(branch, r->token.ref.position, std::move(r->record));
    }
    const std::string model = engine_->info().folder;
    if (!loaded.model.empty()) {  // earlier versions kept a folder as it was typed
        const auto folder = std::filesystem::path(loaded.model).lexically_normal();
        loaded.model = (folder.has_filename() ? folder : folder.parent_path()).string();
    }
    std::vector<int64_t> named;
    for (const auto& [id, node] : loaded.tree.nodes())  // files of earlier versions name one model for all of it
        if (Turn& t = loaded.tree.at(id).turn; node.context.branch != 0 && t.model.empty())
            t.model = loaded.model, named.push_back(id);
    const bool is_other = loaded.model != model;
    if (is_other)
        notice(Notice::Level::info, "This conversation was held with " + escaped(loaded.model, 300) + "; now " +
                                        escaped(model, 300) + " is loaded. Its records are shown once that one is opened.");
    saved_.clear();
    for (const auto& [branch, b] : loaded.tree.branches) saved_[branch] = b.end();
    d.replace(std::move(loaded.tree));
    if (is_other && !named.empty()) save_turns(named);  // the next saving names the loaded model for the whole
    publish_conversation();
    publish_recorded_timeline();
    report_cache();
    if (const int64_t n = loaded.n_tokens_without_record; n > 0 && !is_other)
        notice(Notice::Level::info, n == 1 ? "One token was saved without its record; select it to compute it again."
                                           : std::to_string(n) + " tokens were saved without their records; select one to "
                                                                 "compute it again.");
}

void Worker::handle(DeleteConversation& c) {
    archive_->remove(c.id, search_);
    if (dialogue_ && dialogue_->tree().id == c.id) start_conversation(dialogue_->tree().system);
}

void Worker::handle(RenameConversation& c) {
    if (dialogue_ && dialogue_->tree().id == c.id) {
        dialogue_->tree().title = c.title;
        publish_conversation();
    }
    archive_->rename(c.id, c.title, search_);
}

void Worker::handle(SetSystemPrompt& c) {
    Dialogue& d = need_dialogue();
    d.tree().system = c.text;
    publish_conversation();
    if (!d.tree().is_empty()) save_turns({});
}

void Worker::handle(SendMessage& c) {
    Dialogue& d = need_dialogue();
    const std::vector<int64_t> path = d.tree().path();
    Turn turn;
    turn.parent = path.empty() ? 0 : path.back();
    turn.role = "user";
    turn.content = c.text;
    answer(d.tree().add(std::move(turn)), c.mode, c.sampling);
}

void Worker::handle(Regenerate& c) {
    Dialogue& d = need_dialogue();
    const Turn& turn = d.tree().at(c.turn).turn;
    answer(turn.role == "assistant" ? turn.parent : turn.id, c.mode, c.sampling);
}

void Worker::handle(EditTurn& c) {
    Dialogue& d = need_dialogue();
    const Turn& old = d.tree().at(c.turn).turn;
    Turn turn;
    turn.parent = old.parent;
    turn.role = old.role;
    turn.content = c.text;
    if (old.role == "assistant") turn.mode = old.mode, turn.stats.stop_reason = "edited by hand";
    const bool is_asked = old.role != "assistant";
    const int64_t id = d.tree().add(std::move(turn));
    d.tree().select(id);
    if (is_asked) return answer(id, c.mode, c.sampling);
    publish_conversation();
    save_turns({id});
}

void Worker::handle(CompareModes& c) {
    struct Reapply {
        Worker& w;
        ~Reapply() { w.apply_watch(); }  // it may have been changed while the comparison had its own
    } reapply{*this};
    ConversationTree tree = need_dialogue().tree();  // a copy: the question is not part of the conversation
    int64_t asked = c.turn;
    if (asked == 0) {
        const std::vector<int64_t> path = tree.path();
        Turn turn;
        turn.parent = path.empty() ? 0 : path.back();
        turn.role = "user";
        turn.content = c.text;
        asked = tree.add(std::move(turn));
    }
    Clock::time_point last_report{};
    int last_state = -1;
    const auto changed = [&](const Comparison& now) {
        int state = 0;
        for (const ModeAnswer& m : now.modes) state = 4 * state + static_cast<int>(m.state);
        if (state == last_state && Clock::now() - last_report < kReportEvery) return;
        last_state = state, last_report = Clock::now();
        reports_.push(ComparisonChanged{std::make_shared<const Comparison>(now)});
    };
    compare_modes(*engine_, tree, asked, c.sampling, changed, running_.get_token());
}

void Worker::handle(SelectSibling& c) {
    Dialogue& d = need_dialogue();
    d.tree().select_sibling(c.turn, c.sibling);
    publish_conversation();
    publish_recorded_timeline();
    report_cache();
    save_turns(d.tree().siblings(c.turn));
}

void Worker::answer(int64_t asked, Mode mode, const Sampling& sampling) {
    Dialogue& d = *dialogue_;
    d.tree().select(asked);
    d.tree().is_recorded = false;
    publish_conversation();
    save_turns({asked});
    OpTimes& times = engine_->op_times();
    times.clear();
    times.is_on = true;
    struct Off {
        OpTimes& t;
        ~Off() { t.is_on = false; }
    } off{times};

    Tokens tokens;
    AnswerObserver observer;
    observer.started = [&](int64_t turn, std::shared_ptr<const Timeline> timeline) {
        tokens.turn = turn;
        publish_conversation();
        reports_.push(TimelineStarted{std::move(timeline)});
    };
    observer.prefill = [&](int64_t done, int64_t total) { reports_.push(Progress{"Reading the prompt", done, total}); };
    observer.token = [&](const TokenInfo& t, const std::string& reasoning, const std::string& content) {
        if (options_.on_token) options_.on_token();
        if (tokens.n_since_rate == 0) tokens.rate_since = Clock::now();
        ++tokens.n_since_rate;
        tokens.tokens.push_back(t);
        tokens.reasoning += reasoning;
        tokens.content += content;
        if (Clock::now() - tokens.last_report >= kReportEvery) flush(tokens);
    };
    try {
        d.answer(asked, mode, sampling, observer, running_.get_token());
    } catch (...) {
        flush(tokens);
        if (tokens.turn) save_turns({tokens.turn});
        publish_conversation();
        reports_.push(Finished{tokens.turn, tokens.turn ? d.tree().at(tokens.turn).turn.stats : TurnStats{}});
        throw;
    }
    flush(tokens);
    save_turns({tokens.turn});
    publish_conversation();
    report_after_answer(d.tree().at(tokens.turn).turn.stats);
    reports_.push(Finished{tokens.turn, d.tree().at(tokens.turn).turn.stats});
    refresh_list();
}

void Worker::flush(Tokens& t) {
    if (t.turn == 0) return;
    const auto now = Clock::now();
    t.last_report = now;
    if (!t.tokens.empty())
        reports_.push(TokensAppended{t.turn, std::move(t.tokens), std::move(t.reasoning), std::move(t.content)});
    t.tokens.clear();
    t.reasoning.clear();
    t.content.clear();
    const double seconds = std::chrono::duration<double>(now - t.rate_since).count();
    if (t.n_since_rate > 1 && seconds > 0) {
        tokens_per_s_ = (t.n_since_rate - 1) / seconds;  // the first one was drawn when the clock started
        reports_.push(Meters{tokens_per_s_, watching_cost_percent_});
    }
    if (const Session* s = dialogue_->session()) reports_.push(CacheChanged{s->cache_report()});
    save_turns({t.turn});
}

void Worker::report_after_answer(const TurnStats& stats) {
    tokens_per_s_ = stats.tokens_per_s;
    reports_.push(Meters{tokens_per_s_, watching_cost_percent_});
    if (const Session* s = dialogue_->session()) reports_.push(CacheChanged{s->cache_report()});
    // A GPU's ops are not timed: nothing is shown rather than zeros.
    if (engine_->device() != kCpu) return reports_.push(OpTimesChanged{}), void();
    reports_.push(op_times(engine_->op_times(), engine_->config().n_layers(),
                           stats.n_prompt - stats.n_reused + stats.n_thinking + stats.n_answer));
}

// Hands over these turns, and the tokens and records of the branches that they stand on and that are not stored yet.
void Worker::save_turns(const std::vector<int64_t>& turns) {
    const int64_t n_files = archive_->n_files();
    if (n_files != n_files_) {  // the archive began a new file: it has nothing of this conversation
        n_files_ = n_files;
        saved_.clear();
        return save_all();
    }
    ConversationTree& tree = dialogue_->tree();
    SaveJob job{tree.id, tree.title, tree.system, engine_->info().folder, {}, {}, {}};
    const Session* session = dialogue_->session();
    for (int64_t id : turns) {
        StoredTurn t{tree.at(id), tree.is_selected(id)};
        const uint64_t branch = t.node.context.branch;
        if (branch != 0) {
            const Branch& b = tree.branches.at(branch);
            if (!saved_.count(branch)) {
                job.branches.push_back({branch, b.parent, b.n_shared});
                saved_[branch] = b.n_shared;
            }
            // A token's record exists once the token was read, a step after it was drawn, and while an answer grows one step
            // later (Session::let_records_lag): the last ones are stored twice.
            const int64_t n_read = session ? session->length() - 1 : b.end();
            for (int64_t p = saved_[branch]; p < b.end(); ++p)
                job.tokens.push_back({branch, b.tokens[p - b.n_shared], trace_->get(branch, p)});
            saved_[branch] = std::max(saved_[branch], std::min(n_read, b.end()));
        }
        job.turns.push_back(std::move(t));
    }
    archive_->save(std::move(job));
}

void Worker::save_all() {
    if (!dialogue_ || dialogue_->tree().is_empty()) return;
    std::vector<int64_t> all;
    for (const auto& [id, node] : dialogue_->tree().nodes()) all.push_back(id);
    save_turns(all);
}

void Worker::refresh_list() {
    std::string search;
    {
        const std::lock_guard lock(mutex_);
        search = search_;
    }
    archive_->list(search);
}

}  // namespace vitrine
