// A conversation with its session.
#include "app/dialogue.h"

#include <algorithm>
#include <utility>

#include "app/prompt.h"
#include "engine/base/error.h"

namespace vitrine {
namespace {

int64_t common_prefix(std::span<const int32_t> a, const std::vector<TokenInfo>& b) {
    const size_t n = std::min(a.size(), b.size());
    size_t i = 0;
    while (i < n && a[i] == b[i].id) ++i;
    return static_cast<int64_t>(i);
}

}  // namespace

Dialogue::Dialogue(Engine& engine, std::shared_ptr<Trace> trace) : engine_(engine), trace_(std::move(trace)) {}

void Dialogue::replace(ConversationTree tree) {
    tree_ = std::move(tree);
}

void Dialogue::forget_session() {
    session_.reset();
    timeline_.clear();
    branch_ = 0;
}

const Session* Dialogue::session_of_shown() const {
    if (!session_ || branch_ == 0) return nullptr;
    const std::vector<int64_t> path = tree_.path();
    for (auto turn = path.rbegin(); turn != path.rend(); ++turn)
        if (const TurnContext& c = tree_.at(*turn).context; c.branch != 0)
            return c.branch == branch_ && c.n_total >= session_->length() ? session_.get() : nullptr;
    return nullptr;
}

void Dialogue::draft(int n) {
    if ((n > 0) != (n_drafts_ > 0)) forget_session();  // it is made to draft, or not
    n_drafts_ = n;
}

// The branch that the prompt continues, or a new one that shares what is reused. Sets timeline_ to the prompt.
uint64_t Dialogue::branch_for(const RenderedPrompt& prompt, int64_t n_reused) {
    const auto n_known = static_cast<int64_t>(timeline_.size());
    const std::vector<int32_t> ids = prompt.ids();
    // A branch belongs to one conversation, and to what that conversation knows of it.
    const auto own = tree_.branches.find(branch_);
    const bool continues =
        own != tree_.branches.end() && own->second.end() == n_known && common_prefix(ids, timeline_) == n_known;
    std::vector<TokenInfo> kept(timeline_.begin(),
                                timeline_.begin() + (continues ? n_known : std::min(n_reused, n_known)));
    if (!continues) {
        const uint64_t from = std::exchange(branch_, static_cast<uint64_t>(unique_id()));
        const auto n_shared = static_cast<int64_t>(kept.size());
        if (trace_ && from != 0) trace_->fork(from, branch_, n_shared);
        Branch b;
        // What another conversation read is copied: a conversation is stored whole.
        if (own != tree_.branches.end() && own->second.end() >= n_shared)
            b.parent = from, b.n_shared = n_shared;
        else
            b.tokens = kept;
        for (TokenInfo& t : b.tokens) t.ref.branch = branch_;
        tree_.branches[branch_] = std::move(b);
    }
    Branch& branch = tree_.branches[branch_];
    for (TokenInfo& t : kept) t.ref.branch = branch_;  // keeps phase and probability of what was generated
    for (size_t p = kept.size(); p < prompt.tokens.size(); ++p) {
        TokenInfo t = prompt.tokens[p];
        t.ref = {branch_, static_cast<int64_t>(p)};
        kept.push_back(t);
        branch.tokens.push_back(std::move(t));
    }
    timeline_ = std::move(kept);
    return branch_;
}

int64_t Dialogue::answer(int64_t asked, Mode mode, const Sampling& sampling, const AnswerObserver& observer,
                         std::stop_token stop) {
    const RenderedPrompt prompt = render_prompt(engine_, tree_, asked, mode);
    const auto n_prompt = static_cast<int64_t>(prompt.tokens.size());
    if (!session_) forget_session(), session_ = engine_.new_session(n_drafts_ > 0);
    if (n_prompt >= session_->max_context())
        throw Error(ErrorKind::bad_input, "the prompt has " + std::to_string(n_prompt) + " tokens, the context holds " +
                                              std::to_string(session_->max_context()) +
                                              ": expected at least one less; --ctx makes it longer");
    const int64_t n_before = session_->length();
    const std::vector<int32_t> ids = prompt.ids();
    // As Session::reuse_prefix: one token at least is fed, for its logits.
    const int64_t n_reused =
        std::min({std::mismatch(ids.begin(), ids.end(), session_->tokens().begin(), session_->tokens().end()).first -
                      ids.begin(),
                  n_prompt - 1});

    Turn turn;
    turn.parent = asked;
    turn.role = "assistant";
    turn.mode = mode;
    turn.sampling = sampling;
    turn.is_complete = false;
    turn.model = engine_.info().folder;
    turn.numerics = numerics_name(engine_.numerics());
    TurnContext context;
    context.reuse_reason = explain_reuse(timeline_, n_before, prompt, n_reused);
    context.branch = branch_for(prompt, n_reused);
    context.n_prompt = context.n_total = n_prompt;
    context.n_reused = n_reused;
    context.prompt_text = prompt.text;
    context.segments = prompt.segments;
    const int64_t id = tree_.add(std::move(turn));
    tree_.select(id);
    tree_.at(id).context = std::move(context);
    if (observer.started) observer.started(id, std::make_shared<const Timeline>(tree_.timeline(id)));

    // Before the session goes back: going back cuts the branch it records to, and the old one stays whole.
    session_->record_to(trace_, branch_);
    const GenerateRequest request{ids, sampling, mode, branch_, n_drafts_};
    GenerateCallbacks callbacks;
    callbacks.prefill = observer.prefill;
    callbacks.token = [&](const TokenInfo& token, const std::string& reasoning, const std::string& content) {
        auto& node = tree_.at(id);
        node.turn.reasoning += reasoning;
        node.turn.content += content;
        ++node.context.n_total;
        tree_.branches[branch_].tokens.push_back(token);
        timeline_.push_back(token);
        if (observer.token) observer.token(token, reasoning, content);
    };
    try {
        finish(id, generate(engine_, *session_, request, callbacks, stop));
    } catch (const std::exception& e) {
        Turn& t = tree_.at(id).turn;
        t.is_complete = true;
        t.stats.stop_reason = std::string("error: ") + e.what();
        forget_session();  // its state is not known any more
        throw;
    }
    return id;
}

void Dialogue::finish(int64_t id, const GenerateResult& result) {
    Turn& turn = tree_.at(id).turn;
    turn.reasoning = result.reasoning;
    turn.content = result.content;
    turn.stats = result.stats;
    turn.is_complete = true;
}

void Dialogue::recompute(const TokenRef& token, ProbeSet probes, std::stop_token stop) {
    if (!trace_) throw Error(ErrorKind::bad_input, "nothing is recorded here");
    const std::vector<TokenInfo> infos = tree_.tokens(token.branch, 0, token.position + 1);
    if (token.position < 0 || static_cast<int64_t>(infos.size()) != token.position + 1)
        throw Error(ErrorKind::bad_input, "this token is not known any more, so its record can't be computed again");
    std::vector<int32_t> ids;
    for (const TokenInfo& t : infos) ids.push_back(t.id);

    // A copy of the session saves reading what it shares; nothing of the session itself changes.
    auto scratch = session_ ? session_->fork() : engine_.new_session();
    scratch->record_to(nullptr, 0);
    const auto n_common =
        std::mismatch(ids.begin(), ids.end(), scratch->tokens().begin(), scratch->tokens().end()).first - ids.begin();
    scratch->rewind(std::min<int64_t>(n_common, token.position));
    const std::span<const int32_t> all(ids);
    if (scratch->length() < token.position)
        scratch->append(all.subspan(scratch->length(), token.position - scratch->length()), stop);
    const ProbeSet watched = engine_.watch().get();
    struct Restore {
        Watch& watch;
        ProbeSet set;
        ~Restore() { watch.set(set); }
    } restore{engine_.watch(), watched};
    engine_.watch().set(watched | base_probes() | probes);
    scratch->record_to(trace_, token.branch);
    scratch->append(all.subspan(token.position), stop);
    scratch->record_to(nullptr, 0);
}

}  // namespace vitrine
