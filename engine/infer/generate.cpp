// Generates an answer: reuse of the cache, prefill, the draw of each token, phases, stop conditions.
#include "engine/infer/generate.h"

#include <algorithm>
#include <chrono>

#include "engine/base/display_text.h"
#include "engine/infer/sampler.h"
#include "engine/text/detokenizer.h"
#include "engine/text/tokenizer.h"

namespace vitrine {
namespace {

using Clock = std::chrono::steady_clock;
double ms_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

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
        if (phase_ == Phase::thinking) reasoning += piece;
        else content += filter_.push(piece);
    }
    void finish(std::string& reasoning, std::string& content) {
        const std::string rest = bytes_.finish();
        if (phase_ == Phase::thinking) reasoning += rest;
        else content += filter_.push(rest) + filter_.finish();
    }
    bool is_stopped() const { return filter_.is_stopped(); }

  private:
    const text::Tokenizer* tokenizer_;
    text::Detokenizer bytes_;
    StopFilter filter_;
    Phase phase_;
    int32_t end_think_ = -1, dsml_ = -1;
};

}  // namespace

GenerateResult generate(Engine& engine, Session& session, const GenerateRequest& request, const GenerateCallbacks& callbacks,
                        std::stop_token stop) {
    throw_if_any(validate(request.sampling, engine.config().vocab_size));
    if (request.prompt.empty()) throw Error(ErrorKind::bad_input, "the prompt is empty: nothing to continue");
    const auto start = Clock::now();
    const text::Tokenizer* tokenizer = engine.tokenizer();
    GenerateResult r;
    AnswerReader reader(tokenizer, request.mode != Mode::non_think, request.sampling.stop);
    const auto finish = [&](const char* reason) {
        std::string reasoning, content;
        reader.finish(reasoning, content);
        r.reasoning += reasoning;
        r.content += content;
        r.stats.stop_reason = reason;
        session.keep_state();
        return std::pair{reasoning, content};
    };

    r.stats.n_prompt = static_cast<int>(request.prompt.size());
    r.stats.n_reused = static_cast<int>(session.reuse_prefix(request.prompt));
    const std::span<const int32_t> fresh = std::span(request.prompt).subspan(static_cast<size_t>(r.stats.n_reused));
    try {
        session.append(fresh, stop, [&](int64_t done) {
            if (callbacks.prefill) callbacks.prefill(done, static_cast<int64_t>(fresh.size()));
        });
    } catch (const Error& e) {
        if (e.kind() != ErrorKind::cancelled) throw;
        r.stats.prefill_ms = ms_since(start);
        r.stats.stop_reason = "stopped";
        return r;
    }
    r.stats.prefill_ms = ms_since(start);
    session.keep_state();

    const auto decode_start = Clock::now();
    const int32_t eos = engine.config().eos_id;
    const char* reason = "length";
    for (int n = 0; n < request.sampling.max_new_tokens; ++n) {
        if (stop.stop_requested()) {
            reason = "stopped";
            break;
        }
        const std::span<const float> logits = session.logits();
        const int64_t position = session.length();
        const int32_t id = sample(logits, request.sampling, session.tokens(), position);
        TokenInfo token;
        token.id = id;
        const TokenOdds odds = token_odds(logits, id);
        token.probability = odds.probability;
        token.entropy = odds.entropy;
        token.ref = {request.branch, position};
        r.output_ids.push_back(id);
        std::string reasoning, content;
        const bool is_end = id == eos;
        token.phase = reader.phase();
        if (!is_end) reader.read(id, reasoning, content);
        if (reader.phase() == Phase::tool_call) token.phase = Phase::tool_call;
        if (tokenizer) {
            token.text = display_text(tokenizer->token_bytes(id));
            token.is_special = tokenizer->is_added(id);
        }
        (token.phase == Phase::thinking ? r.stats.n_thinking : r.stats.n_answer) += is_end ? 0 : 1;
        r.reasoning += reasoning;
        r.content += content;
        if (n == 0) r.stats.first_token_ms = ms_since(start);
        if (callbacks.token) callbacks.token(token, reasoning, content);
        if (is_end || reader.is_stopped()) {
            reason = is_end ? "end of text" : "stop string";
            break;
        }
        if (position >= session.max_context()) {
            reason = "context full";
            break;
        }
        // The last token needs no logits of its own unless the watch wants its record.
        try {
            session.append({&id, 1}, stop);
        } catch (const Error& e) {
            if (e.kind() != ErrorKind::cancelled) throw;
            reason = "stopped";
            break;
        }
    }
    r.stats.decode_ms = ms_since(decode_start);
    r.stats.tokens_per_s = r.stats.decode_ms > 0 ? 1000.0 * static_cast<double>(r.output_ids.size()) / r.stats.decode_ms : 0;
    finish(reason);
    return r;
}

}  // namespace vitrine
