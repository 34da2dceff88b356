// One answer: reuse of the cache, prefill, the draw of each token, phases, stop conditions.
#include "engine/infer/answer.h"

#include <algorithm>

#include "engine/base/display_text.h"
#include "engine/infer/sampler.h"
#include "engine/text/detokenizer.h"
#include "engine/text/tokenizer.h"

namespace vitrine {
namespace {

double ms_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

// Holds back the end of a text while it may still become a stop string.
class StopFilter {
  public:
    explicit StopFilter(const std::vector<std::string>& stops) : stops_(stops) {}
    // Text that is certain to stay. After a match `is_stopped` is true and the rest is dropped.
    std::string push(const std::string& text) {
        held_ += text;
        size_t cut = std::string::npos;
        for (const auto& s : stops_)
            if (!s.empty()) cut = std::min(cut, held_.find(s));
        if (cut != std::string::npos) {
            is_stopped_ = true;
            return take(cut);
        }
        size_t keep = 0;
        for (const auto& s : stops_)
            for (size_t n = std::min(s.size() > 0 ? s.size() - 1 : 0, held_.size()); n > keep; --n)
                if (held_.compare(held_.size() - n, n, s, 0, n) == 0) keep = n;
        return take(held_.size() - keep);
    }
    std::string finish() { return is_stopped_ ? "" : take(held_.size()); }
    bool is_stopped() const { return is_stopped_; }

  private:
    std::string take(size_t n) {
        std::string s = held_.substr(0, n);
        held_.erase(0, n);
        return s;
    }
    const std::vector<std::string>& stops_;
    std::string held_;
    bool is_stopped_ = false;
};

}  // namespace

// Turns drawn tokens into phases and whole-UTF-8 text.
class AnswerReader {
  public:
    AnswerReader(const text::Tokenizer* tokenizer, bool starts_thinking, const std::vector<std::string>& stops)
        : tokenizer_(tokenizer), filter_(stops), phase_(starts_thinking ? Phase::thinking : Phase::answer) {
        if (!tokenizer_) return;
        end_think_ = tokenizer_->id_of("</think>").value_or(-1);
        dsml_ = tokenizer_->id_of("｜DSML｜").value_or(-1);
    }
    Phase phase() const { return phase_; }

    void read(int32_t id, std::string& reasoning, std::string& content) {
        if (!tokenizer_) return;
        if (phase_ == Phase::thinking && id == end_think_) {
            reasoning += bytes_.finish();
            phase_ = Phase::answer;
            return;
        }
        if (id == dsml_ && phase_ == Phase::answer) phase_ = Phase::tool_call;
        const std::string piece = bytes_.push(tokenizer_->token_bytes(id));
        if (phase_ == Phase::thinking)
            reasoning += piece;
        else
            content += filter_.push(piece);
    }
    void finish(std::string& reasoning, std::string& content) {
        const std::string rest = bytes_.finish();
        if (phase_ == Phase::thinking)
            reasoning += rest;
        else
            content += filter_.push(rest) + filter_.finish();
    }
    bool is_stopped() const { return filter_.is_stopped(); }

  private:
    const text::Tokenizer* tokenizer_;
    text::Detokenizer bytes_;
    StopFilter filter_;
    Phase phase_;
    int32_t end_think_ = -1, dsml_ = -1;
};

Answer::Answer(Engine& engine, Session& session, const GenerateRequest& request, const GenerateCallbacks& callbacks,
               bool is_kept)
    : engine_(engine),
      session_(session),
      request_(request),
      callbacks_(callbacks),
      is_kept_(is_kept),
      drafts_before_(session.draft_counts()),
      start_(Clock::now()),
      decode_start_(start_) {
    throw_if_any(validate(request.sampling, engine.config().vocab_size));
    if (request.prompt.empty()) throw Error(ErrorKind::bad_input, "the prompt is empty: nothing to continue");
    reader_ =
        std::make_unique<AnswerReader>(engine.tokenizer(), request.mode != Mode::non_think, request.sampling.stop);
}

Answer::~Answer() = default;

bool Answer::read_prompt(std::stop_token stop) {
    TurnStats& stats = result_.stats;
    stats.n_prompt = static_cast<int>(request_.prompt.size());
    stats.n_reused = static_cast<int>(session_.reuse_prefix(request_.prompt));
    const std::span<const int32_t> fresh = std::span(request_.prompt).subspan(static_cast<size_t>(stats.n_reused));
    try {
        session_.append(fresh, stop, [&](int64_t done) {
            if (callbacks_.prefill) callbacks_.prefill(done, static_cast<int64_t>(fresh.size()));
        });
    } catch (const Error& e) {
        if (e.kind() != ErrorKind::cancelled) throw;
        stats.prefill_ms = ms_since(start_);
        stats.stop_reason = "stopped";
        return false;
    }
    stats.prefill_ms = ms_since(start_);
    if (is_kept_) session_.keep_state();
    decode_start_ = Clock::now();
    return true;
}

// The last token needs no logits of its own unless the watch wants its record: one that ends the answer is not fed.
bool Answer::ends_with(int32_t id, int64_t position) {
    const char* reason = engine_.config().ends_text(id)       ? "end of text"
                         : reader_->is_stopped()              ? "stop string"
                         : position >= session_.max_context() ? "context full"
                                                              : nullptr;
    const bool was_guessed = reason && session_.is_guessed(id);  // rightly, though nothing is fed after it
    if (reason) end(reason);
    result_.stats.n_accepted += was_guessed;
    return reason != nullptr;
}

std::optional<int32_t> Answer::draw(std::stop_token stop) {
    if (n_left() <= 0 || stop.stop_requested()) {
        end(n_left() <= 0 ? "length" : "stopped");
        return {};
    }
    GenerateResult& r = result_;
    const std::span<const float> logits = session_.logits();
    const int64_t position = session_.length();
    const int32_t id = sample(logits, request_.sampling, session_.tokens(), position);
    const Phase before = reader_->phase();
    std::string reasoning, content;
    const bool is_end = engine_.config().ends_text(id);
    if (!is_end) reader_->read(id, reasoning, content);
    const Phase phase = reader_->phase() == Phase::tool_call ? Phase::tool_call : before;
    r.output_ids.push_back(id);
    (phase == Phase::thinking ? r.stats.n_thinking : r.stats.n_answer) += is_end ? 0 : 1;
    r.reasoning += reasoning;
    r.content += content;
    if (r.output_ids.size() == 1) r.stats.first_token_ms = ms_since(start_);
    if (callbacks_.token) {
        TokenInfo token;
        token.id = id;
        token.phase = phase;
        const TokenOdds odds = token_odds(logits, id);
        token.probability = odds.probability;
        token.entropy = odds.entropy;
        token.ref = {request_.branch, position};
        if (const text::Tokenizer* tokenizer = engine_.tokenizer()) {
            token.text = display_text(tokenizer->token_bytes(id));
            token.is_special = tokenizer->is_added(id);
        }
        callbacks_.token(token, reasoning, content);
    }
    if (ends_with(id, position)) return {};
    return id;
}

void Answer::end(const char* reason) {
    TurnStats& stats = result_.stats;
    stats.decode_ms = ms_since(decode_start_);
    stats.tokens_per_s =
        stats.decode_ms > 0 ? 1000.0 * static_cast<double>(result_.output_ids.size()) / stats.decode_ms : 0;
    const DraftCounts now = session_.draft_counts();
    stats.n_passes = static_cast<int>(now.n_passes - drafts_before_.n_passes);
    stats.n_drafted = static_cast<int>(now.n_drafted - drafts_before_.n_drafted);
    stats.n_accepted = static_cast<int>(now.n_accepted - drafts_before_.n_accepted);
    stats.stop_reason = reason;
    std::string reasoning, content;
    reader_->finish(reasoning, content);
    result_.reasoning += reasoning;
    result_.content += content;
    if (is_kept_) session_.keep_state();
}

}  // namespace vitrine
