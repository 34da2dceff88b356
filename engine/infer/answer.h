// One answer in the making: reads the prompt, draws token by token, splits phases, stops. Private to engine/infer.
//
// Who feeds the drawn tokens is the caller's business, so that one answer and many side by side have the same code.
#pragma once
#include <chrono>
#include <memory>
#include <optional>

#include "engine/infer/generate.h"

namespace vitrine {

class AnswerReader;

class Answer {
  public:
    // Error(bad_input) for a sampling or a prompt that can't be. Request and callbacks must live as long. is_kept: the session
    // lives
    // on, with states to go back to.
    Answer(Engine& engine, Session& session, const GenerateRequest& request, const GenerateCallbacks& callbacks, bool is_kept);
    ~Answer();
    Answer(const Answer&) = delete;
    Answer& operator=(const Answer&) = delete;

    bool read_prompt(std::stop_token stop);  // false: stopped; the answer has ended
    // The next token, to be fed to the session; or none, when the answer has ended.
    std::optional<int32_t> draw(std::stop_token stop);
    int n_left() const { return request_.sampling.max_new_tokens - static_cast<int>(result_.output_ids.size()); }
    void end(const char* reason);  // once: what was held back, the speed, the kept state
    Session& session() { return session_; }
    GenerateResult& result() { return result_; }

  private:
    using Clock = std::chrono::steady_clock;
    bool ends_with(int32_t id, int64_t position);
    Engine& engine_;
    Session& session_;
    const GenerateRequest& request_;
    const GenerateCallbacks& callbacks_;
    const bool is_kept_;
    std::unique_ptr<AnswerReader> reader_;
    DraftCounts drafts_before_;
    Clock::time_point start_, decode_start_;
    GenerateResult result_;
};

}  // namespace vitrine
