// The three modes on one question: choices of experts through a sink, the cache as each phase ends.
#include "app/comparison.h"

#include <algorithm>
#include <chrono>

#include "app/conversation.h"
#include "app/prompt.h"
#include "engine/base/error.h"
#include "engine/engine.h"
#include "engine/infer/generate.h"
#include "engine/infer/sampler.h"
#include "engine/text/chat.h"

namespace vitrine {
namespace {
using Clock = std::chrono::steady_clock;
using State = ModeAnswer::State;

// Which experts each token took, by position.
class ChoiceSink : public ProbeSink {
  public:
    ChoiceSink(int n_layers, int n_chosen) : n_layers_(n_layers), n_chosen_(n_chosen) {}
    void put(int, Probe, int, const float*, int, int) override {}
    void put(int token, Probe p, int layer, const int32_t* data, int rows, int cols) override {
        if (p != kRouterIndices || token < 0 || layer < 0 || layer >= n_layers_) return;
        const size_t width = static_cast<size_t>(n_layers_) * n_chosen_, at = static_cast<size_t>(token) * width;
        if (choices_.size() < at + width) choices_.resize(at + width, -1);
        for (int k = 0; k < std::min(rows * cols, n_chosen_); ++k)
            choices_[at + static_cast<size_t>(layer) * n_chosen_ + k] = static_cast<int16_t>(data[k]);
    }
    // Of positions [begin, end), as far as they were read.
    void count(PhaseMeasure& m, int64_t begin, int64_t end, int n_experts) const {
        const size_t width = static_cast<size_t>(n_layers_) * n_chosen_;
        const auto n_read = static_cast<int64_t>(choices_.size() / std::max<size_t>(width, 1));
        m.n_counted = static_cast<int>(std::max<int64_t>(0, std::min(end, n_read) - begin));
        m.loads.assign(static_cast<size_t>(n_layers_) * n_experts, 0);
        if (m.n_counted == 0) return;
        const auto first = choices_.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(begin) * width);
        const size_t n = static_cast<size_t>(m.n_counted) * width;
        for (size_t i = 0; i < n; ++i)
            if (const int16_t e = first[static_cast<std::ptrdiff_t>(i)]; e >= 0 && e < n_experts)
                ++m.loads[i % width / static_cast<size_t>(n_chosen_) * static_cast<size_t>(n_experts) +
                          static_cast<size_t>(e)];
        const size_t kept = std::min(n, size_t{PhaseMeasure::kMaxKept} * width);
        m.choices.assign(first, first + static_cast<std::ptrdiff_t>(kept));
    }

  private:
    int n_layers_, n_chosen_;
    std::vector<int16_t> choices_;  // [token][L][K]
};

// Fills the phases of one answer while it is written.
class PhaseClock {
  public:
    PhaseClock(ModeAnswer& answer, const Engine& engine, const Session& session)
        : answer_(answer), engine_(engine), session_(session), since_(Clock::now()) {}
    void drawn(Phase p) {
        p = p == Phase::tool_call ? Phase::answer : p;
        if (p != phase_) end_phase(), phase_ = p;
        ++phase(p).n_tokens;
    }
    void end_phase() {
        const auto now = Clock::now();
        phase(phase_).ms += std::chrono::duration<double, std::milli>(now - since_).count();
        since_ = now;
        phase(phase_).cache = session_.cache_report();
        phase(phase_).filled =
            filled_bytes(phase(phase_).cache, engine_.config(), engine_.numerics() == Numerics::reference);
    }

  private:
    PhaseMeasure& phase(Phase p) { return answer_.phases[static_cast<size_t>(p)]; }
    ModeAnswer& answer_;
    const Engine& engine_;
    const Session& session_;
    Phase phase_ = Phase::prompt;
    Clock::time_point since_;
};

struct Watching {
    Watch& watch;
    ProbeSet before;
    explicit Watching(Watch& w) : watch(w), before(w.get()) { watch.set(before | probe_bit(kRouterIndices)); }
    ~Watching() { watch.set(before); }
};

void count_phases(ModeAnswer& a, const ChoiceSink& choices, int n_experts) {
    int64_t begin = 0;
    for (PhaseMeasure& m : a.phases) {
        choices.count(m, begin, begin + m.n_tokens, n_experts);
        begin += m.n_tokens;
    }
}

void answer_in(Engine& engine, const ConversationTree& tree, int64_t asked, Mode mode, Comparison& c,
               const std::function<void()>& changed, std::stop_token stop) {
    ModeAnswer& a = c.modes[static_cast<size_t>(mode)];
    const RenderedPrompt prompt = render_prompt(engine, tree, asked, mode);
    const auto session = engine.new_session();
    if (static_cast<int64_t>(prompt.tokens.size()) >= session->max_context())
        throw Error(ErrorKind::bad_input, "the prompt has " + std::to_string(prompt.tokens.size()) +
                                              " tokens, the context holds " + std::to_string(session->max_context()) +
                                              ": expected at least one less; --ctx makes it longer");
    ChoiceSink choices(c.n_layers, c.n_chosen);
    session->publish_to(&choices);
    a.phases[static_cast<size_t>(Phase::prompt)].n_tokens = static_cast<int>(prompt.tokens.size());
    PhaseClock clock(a, engine, *session);
    GenerateCallbacks callbacks;
    callbacks.prefill = [&](int64_t done, int64_t) {
        a.stats.n_prompt = static_cast<int>(done);
        changed();
    };
    callbacks.token = [&](const TokenInfo& token, const std::string& reasoning, const std::string& content) {
        clock.drawn(token.phase);
        a.reasoning += reasoning;
        a.content += content;
        (token.phase == Phase::thinking ? a.stats.n_thinking : a.stats.n_answer) += !engine.config().ends_text(token.id);
        changed();
    };
    const GenerateRequest request{prompt.ids(), c.sampling, mode};
    GenerateResult r = generate(engine, *session, request, callbacks, stop);
    clock.end_phase();
    a.reasoning = std::move(r.reasoning);
    a.content = std::move(r.content);
    a.stats = r.stats;
    count_phases(a, choices, c.n_experts);
}

// Pages of the weights that nobody has read yet would be on the first mode's bill.
void warm_up(Engine& engine, const ConversationTree& tree, int64_t asked, std::stop_token stop) {
    constexpr size_t kTokens = 64;
    std::vector<int32_t> ids;
    for (const Mode m : {Mode::non_think, Mode::high, Mode::max})
        if (ids.empty() && engine.chat_format().why_not(m).empty()) ids = render_prompt(engine, tree, asked, m).ids();
    if (ids.empty()) return;
    const auto session = engine.new_session();
    session->append(std::span(ids).first(std::min({ids.size(), kTokens, static_cast<size_t>(session->max_context())})),
                    stop);
}

}  // namespace

Comparison compare_modes(Engine& engine, const ConversationTree& tree, int64_t asked, const Sampling& sampling,
                         const std::function<void(const Comparison&)>& changed, std::stop_token stop) {
    throw_if_any(validate(sampling, engine.config().vocab_size));
    const ModelConfig& config = engine.config();
    Comparison c;
    c.question = tree.at(asked).turn.content;
    c.n_earlier_turns = static_cast<int>(tree.path_to(asked).size()) - 1;
    c.sampling = sampling;
    c.n_layers = config.n_layers(), c.n_experts = config.n_experts, c.n_chosen = config.n_experts_per_tok;
    measure_distances(c);
    const auto tell = [&] {
        if (changed) changed(c);
    };
    tell();
    const Watching watching(engine.watch());
    try {
        warm_up(engine, tree, asked, stop);
    } catch (const Error& e) {
        if (e.kind() != ErrorKind::cancelled) throw;
    }
    for (const Mode mode : {Mode::non_think, Mode::high, Mode::max}) {
        ModeAnswer& a = c.modes[static_cast<size_t>(mode)];
        if (stop.stop_requested()) {
            a.state = State::failed, a.problem = "stopped";
            continue;
        }
        a.state = State::running;
        tell();
        try {
            answer_in(engine, tree, asked, mode, c, tell, stop);
            a.state = State::done;
        } catch (const Error& e) {
            if (e.kind() != ErrorKind::bad_input) throw;
            a.state = State::failed, a.problem = e.what();
        }
        measure_distances(c);
        tell();
    }
    return c;
}

}  // namespace vitrine
