// A conversation with its session: renders prompts, reuses what the session holds, generates answers, keeps branches of
// the trace.
//
// Used by the window's worker and by `vitrine chat` alike. Owner: the engine thread. Must not outlive its Engine.
#pragma once
#include <functional>
#include <memory>
#include <stop_token>

#include "app/conversation.h"
#include "engine/engine.h"
#include "engine/infer/generate.h"

namespace vitrine {

// What is told while an answer is generated; any may be empty.
struct AnswerObserver {
    std::function<void(int64_t turn, std::shared_ptr<const Timeline>)> started;
    std::function<void(int64_t done, int64_t total)> prefill;
    std::function<void(const TokenInfo&, const std::string& reasoning, const std::string& content)> token;
};

struct RenderedPrompt;

class Dialogue {
  public:
    // `trace` null: nothing is recorded.
    Dialogue(Engine& engine, std::shared_ptr<Trace> trace);

    // Answers a user's turn with a new turn, which is selected. Before it exists an Error leaves everything as it was
    // (no tokenizer, prompt over the context); later ones end it with stop_reason "error: ..." and are thrown. Returns
    // its id.
    int64_t answer(int64_t asked, Mode mode, const Sampling& sampling, const AnswerObserver& observer,
                   std::stop_token stop);

    // Computes the record of one token again, with these probes besides the watched ones, and puts it into the trace.
    void recompute(const TokenRef& token, ProbeSet probes, std::stop_token stop);

    // Another conversation; the session keeps its tokens, so a common beginning is not read again.
    void replace(ConversationTree tree);
    void forget_session();  // after new numerics
    // Guesses per forward pass by the MTP module, from the next answer on: the same text in less time. 0: none.
    void draft(int n);

    ConversationTree& tree() { return tree_; }
    Engine& engine() { return engine_; }
    const Session* session() const { return session_.get(); }  // null: nothing was read yet
    // The same when what it holds is the shown path's last answer; null: it holds another conversation or branch, or nothing.
    const Session* session_of_shown() const;

  private:
    uint64_t branch_for(const RenderedPrompt& prompt, int64_t n_reused);
    void finish(int64_t turn, const GenerateResult& result);
    Engine& engine_;
    std::shared_ptr<Trace> trace_;
    ConversationTree tree_;
    std::unique_ptr<Session> session_;
    int n_drafts_ = 0;
    uint64_t branch_ = 0;              // of the session's tokens
    std::vector<TokenInfo> timeline_;  // the branch's tokens: begins with the session's
};

}  // namespace vitrine
