// Generates answers: one, its tokens checked against drafts on the way, or many side by side.
#include "engine/infer/generate.h"

#include <algorithm>
#include <utility>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/base/stop.h"
#include "engine/infer/answer.h"

namespace vitrine {
namespace {

// False: cancelled.
template <class F>
bool unless_cancelled(F&& feed) {
    try {
        feed();
        return true;
    } catch (const Error& e) {
        if (e.kind() != ErrorKind::cancelled) throw;
        return false;
    }
}

// Records may lag while it lives. An answer that ends as it should has them on time by let_records_lag(false).
class LaggingRecords {
  public:
    explicit LaggingRecords(Session& session) : session_(session) { session_.let_records_lag(true); }
    ~LaggingRecords() {
        try {
            session_.let_records_lag(false);
        } catch (const std::exception& e) {  // another error is on its way already
            log_warning(std::string("the record of the last token is lost: ") + e.what());
        }
    }
    LaggingRecords(const LaggingRecords&) = delete;
    LaggingRecords& operator=(const LaggingRecords&) = delete;

  private:
    Session& session_;
};

}  // namespace

GenerateResult generate(Engine& engine, Session& session, const GenerateRequest& request,
                        const GenerateCallbacks& callbacks, std::stop_token stop) {
    Answer answer(engine, session, request, callbacks, true);
    if (!answer.read_prompt(stop)) return std::move(answer.result());
    const LaggingRecords lagging(session);
    while (const std::optional<int32_t> id = answer.draw(stop)) {
        // What follows the last token is not wanted.
        const int n_drafts = std::clamp(answer.n_left() - 1, 0, request.n_drafts);
        if (!unless_cancelled([&] { session.append_drafting(*id, n_drafts, stop); })) {
            answer.end("stopped");
            break;
        }
    }
    session.let_records_lag(false);
    return std::move(answer.result());
}

std::vector<GenerateResult> generate_many(Engine& engine, std::span<const GenerateRequest> requests,
                                          const ManyOptions& options,
                                          const std::function<void(size_t, const GenerateResult&)>& done,
                                          std::stop_token stop) {
    struct Running {
        size_t request;
        std::unique_ptr<Session> session;
        std::unique_ptr<Answer> answer;
    };
    const GenerateCallbacks quiet;
    std::vector<GenerateResult> results(requests.size());
    std::vector<Running> running;
    const auto leave = [&](Running& r) {
        results[r.request] = std::move(r.answer->result());
        if (done) done(r.request, results[r.request]);
        r.answer.reset();
    };
    for (size_t next = 0; next < requests.size() || !running.empty();) {
        while (next < requests.size() && running.size() < static_cast<size_t>(std::max(options.n_together, 1))) {
            if (requests[next].n_drafts > 0)
                throw Error(ErrorKind::bad_input, "n_drafts: expected 0 for prompts that are answered side by side");
            Running r{next, engine.new_session(), nullptr};
            r.answer = std::make_unique<Answer>(engine, *r.session, requests[next++], quiet, false);
            if (r.answer->read_prompt(stop))
                running.push_back(std::move(r));
            else
                leave(r);
        }
        std::vector<Session*> sessions;
        std::vector<int32_t> ids;
        for (Running& r : running) {
            if (const std::optional<int32_t> id = r.answer->draw(stop))
                sessions.push_back(r.session.get()), ids.push_back(*id);
            else
                leave(r);
        }
        std::erase_if(running, [](const Running& r) { return !r.answer; });
        if (unless_cancelled([&] { Session::append_each(sessions, ids, options.is_batch_invariant, stop); })) continue;
        for (Running& r : running) r.answer->end("stopped"), leave(r);
        running.clear();
    }
    return results;
}

std::vector<std::vector<int32_t>> Engine::continue_greedily(const std::vector<GreedyRequest>& requests, int n_together,
                                                            std::stop_token stop,
                                                            const std::function<void(size_t)>& progress,
                                                            bool is_batch_invariant) {
    std::vector<GenerateRequest> all;
    for (const GreedyRequest& r : requests) {
        all.push_back({r.prompt, {}});
        all.back().sampling.temperature = 0, all.back().sampling.max_new_tokens = r.max_new_tokens;
    }
    size_t n_done = 0;
    const auto done = [&](size_t, const GenerateResult&) {
        if (progress) progress(++n_done);
    };
    std::vector<std::vector<int32_t>> out;
    for (GenerateResult& r : generate_many(*this, all, {n_together, is_batch_invariant}, done, stop))
        out.push_back(std::move(r.output_ids));
    throw_if_stopped(stop);
    return out;
}

}  // namespace vitrine
