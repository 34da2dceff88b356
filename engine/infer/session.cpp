// A session: feeding tokens in chunks, going back, forking, and where its records go.
#include <algorithm>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/reader.h"
#include "engine/infer/engine_impl.h"
#include "engine/infer/sampler.h"

namespace vitrine {
namespace {

constexpr int64_t kKeepEvery = 2048;                      // tokens between kept states in a long prefill
constexpr uint64_t kStateBudget = uint64_t{256} << 20;    // [bytes] of kept states
constexpr int kNextTokens = 32;                           // recorded alternatives

// Fills trace records and forwards to another sink with absolute positions.
class RecordSink : public ProbeSink {
  public:
    // records: null where nothing is recorded
    RecordSink(int n_tokens, RecordBuilder* records, int64_t position, ProbeSink* next)
        : records_(records), position_(position), next_(next) {
        if (records_) records_->begin(n_tokens);
    }
    void put(int token, Probe p, int layer, const float* data, int rows, int cols) override {
        both(token, p, layer, data, rows, cols);
    }
    void put(int token, Probe p, int layer, const int32_t* data, int rows, int cols) override {
        both(token, p, layer, data, rows, cols);
    }

  private:
    template <class T>
    void both(int token, Probe p, int layer, const T* data, int rows, int cols) {
        if (records_) records_->put(token, p, layer, data, rows, cols);
        if (next_) next_->put(static_cast<int>(position_) + token, p, layer, data, rows, cols);
    }
    RecordBuilder* records_;
    int64_t position_;
    ProbeSink* next_;
};

bool wants_all_logits(const Watch& w) {
    return w.wants(kLogits) || w.wants(kNextIds) || w.wants(kNextProbs) || w.wants(kNextEntropy);
}

// `logits` [n_tokens, V].
void publish_logits(const Watch& watch, std::span<const float> logits, int n_tokens, ProbeSink& sink) {
    const size_t v = logits.size() / static_cast<size_t>(n_tokens);
    const bool wants_next = watch.wants(kNextIds) || watch.wants(kNextProbs) || watch.wants(kNextEntropy);
    for (int t = 0; t < n_tokens; ++t) {
        const auto row = logits.subspan(static_cast<size_t>(t) * v, v);
        if (watch.wants(kLogits)) sink.put(t, kLogits, -1, row.data(), 1, static_cast<int>(v));
        if (!wants_next) continue;
        const NextTokens n = next_tokens(row, kNextTokens);
        const auto k = static_cast<int>(n.ids.size());
        if (watch.wants(kNextIds)) sink.put(t, kNextIds, -1, n.ids.data(), 1, k);
        if (watch.wants(kNextProbs)) sink.put(t, kNextProbs, -1, n.probabilities.data(), 1, k);
        if (watch.wants(kNextEntropy)) sink.put(t, kNextEntropy, -1, &n.entropy, 1, 1);
    }
}

}  // namespace

void Engine::Impl::finish_late_record() {
    pool.finish_beside();
    if (const auto finish = std::exchange(late_record, nullptr)) finish();
}

Tensor run_pass(Engine::Impl& engine, GpuRunner* gpu, Ctx& ctx, const Batch& given, LogitRows rows, Pass pass,
                GpuRunner::Watched* watched) {
    Batch batch = given;
    if (!engine.edits.layers.empty()) batch.edits = &engine.edits;
    ctx.expert_ranks = engine.ranks.get();
    if constexpr (kHasCuda)
        if (gpu) {
            const auto meanwhile = [&] { engine.finish_late_record(); };
            const GpuRunner::Result r = gpu->run(ctx, engine.config, batch, rows, pass, meanwhile, watched);
            return {const_cast<float*>(r.logits), DType::f32, {r.n, engine.config.vocab_size}};
        }
    if (engine.late_record) engine.finish_late_record();  // a sink gets tokens in their order
    Tensor logits_TV;
    if (pass == Pass::forward) logits_TV = forward(ctx, engine.config, engine.weights, batch, rows);
    else if (pass == Pass::draft_keys) draft_keys(ctx, engine.config, engine.weights, batch);
    else logits_TV = draft(ctx, engine.config, engine.weights, batch, pass == Pass::draft_going_on);
    engine.finish_late_record();
    throw_if_mapping_failed();
    return logits_TV;
}

SequenceCache Session::Impl::empty_cache() const {
    if constexpr (kHasCuda)
        if (gpu) return SequenceCache(engine.config, numerics, gpu->device(), can_draft);
    return SequenceCache(engine.config, numerics, {}, can_draft);
}

Session::Session() = default;
Session::~Session() {
    if (!impl_ || !impl_->records_lag) return;
    try {
        impl_->engine.finish_late_record();
    } catch (const std::exception& e) {  // the GPU was lost
        log_warning(std::string("the record of the last token is lost: ") + e.what());
    }
}

void Session::Impl::feed(std::span<const int32_t> ids, std::stop_token stop, int64_t n_sure) {
    drop_pending();
    const auto n = static_cast<int64_t>(ids.size());
    if (n_sure < 0) n_sure = n;
    const bool records = trace != nullptr, lags = records_lag && n == 1;
    if (records_lag) last_builder = 1 - last_builder;  // what is late is still in the other
    RecordBuilder& builder = builders[last_builder];
    const auto out = std::make_shared<RecordSink>(static_cast<int>(n), records ? &builder : nullptr, cache.length, sink);
    const Arena::Scope scratch(engine.arena);
    Ctx ctx{engine.arena, engine.pool, numerics, nullptr, out.get(), stop, &engine.times, -1};
    ctx.active_experts = engine.active_experts;
    Watch watched;  // the set is read once a chunk, so that a record holds the same probes in every layer
    const ProbeSet probes = records || sink ? engine.watch.get() : kNoProbes;
    watched.set(probes);
    ctx.watch = &watched;
    const Segment segment{&cache, 0, n, cache.length};
    const Batch batch{ids, {&segment, 1}};
    const bool publishes = wants_all_logits(watched), all = publishes || n_sure < n;
    Tensor logits_TV;
    GpuRunner::Watched on_its_way;
    try {
        logits_TV = run_pass(engine, gpu.get(), ctx, batch, all ? LogitRows::all : LogitRows::last, Pass::forward,
                             lags ? &on_its_way : nullptr);
    } catch (...) {
        cache.truncate(cache.length);  // gives back what the abandoned chunk grew
        if (records_lag) last_builder = 1 - last_builder;
        throw;
    }
    const auto after = [&](int64_t i) {  // logits after id i
        const float* row = logits_TV.row<float>(all ? i : 0);
        return std::vector<float>(row, row + logits_TV.dim(1));
    };
    logits = after(n_sure - 1);
    if (lags && (records || sink)) {
        std::function<void()> finish = [out, probes, publishes, on_its_way = std::move(on_its_way),
                              row = publishes ? logits : std::vector<float>(), from = records ? &builder : nullptr, to = trace,
                              branch = branch, position = cache.length] {
            Watch wanted;
            wanted.set(probes);
            if (on_its_way) on_its_way(*out);
            if (publishes) publish_logits(wanted, row, 1, *out);
            if (from) to->put(branch, position, from->finish(0));
        };
        // A CPU's idle worker fills it while the next token is computed; a sink is called on this thread only.
        if (gpu || sink) engine.late_record = std::move(finish);
        else engine.pool.beside(std::move(finish));
    } else {
        const std::span<const float> rows{logits_TV.f32(), static_cast<size_t>(logits_TV.count())};
        if (publishes) publish_logits(watched, rows, static_cast<int>(n), *out);
        for (int64_t i = 0; i < n_sure && records; ++i) trace->put(branch, cache.length + i, builder.finish(static_cast<int>(i)));
    }
    for (int64_t i = n_sure; i < n; ++i) {
        pending.ids.push_back(ids[static_cast<size_t>(i)]);
        pending.logits.push_back(after(i));
        pending.records.push_back(records ? builder.finish(static_cast<int>(i)) : nullptr);
    }
    cache.length += n_sure;
    cache.ahead = n - n_sure;
    tokens.insert(tokens.end(), ids.begin(), ids.begin() + n_sure);
}

uint64_t Session::Impl::states_bytes() const {
    uint64_t n = 0;
    for (const auto& s : states) n += s.bytes();
    return n;
}

void Session::Impl::keep_state() {
    if (cache.length == 0 || (!states.empty() && states.back().length == cache.length)) return;
    try {
        states.push_back(cache.save());
    } catch (const Error& e) {
        // Going back then reads more tokens again; what these hold is wanted elsewhere.
        if (e.kind() != ErrorKind::out_of_memory) throw;
        states.clear(), state_logits.clear();
        return log_warning("states to go back to are not kept: " + std::string(e.what()));
    }
    state_logits.push_back(logits);
    // Thinned: the state whose neighbours are closest goes first, the newest stays.
    while (states_bytes() > kStateBudget && states.size() > 1) {
        size_t worst = 0;
        int64_t gap = INT64_MAX;
        for (size_t i = 0; i + 1 < states.size(); ++i) {
            const int64_t before = i == 0 ? 0 : states[i - 1].length, g = states[i + 1].length - before;
            if (g < gap) gap = g, worst = i;
        }
        states.erase(states.begin() + static_cast<std::ptrdiff_t>(worst));
        state_logits.erase(state_logits.begin() + static_cast<std::ptrdiff_t>(worst));
    }
}

// Feeds tokens whose records exist already: nothing is published.
void Session::Impl::feed_quietly(std::span<const int32_t> ids, std::stop_token stop) {
    const auto saved_trace = std::exchange(trace, nullptr);
    const auto saved_sink = std::exchange(sink, nullptr);
    try {
        const auto chunk = static_cast<size_t>(cache.max_chunk());
        for (size_t at = 0; at < ids.size(); at += chunk) feed(ids.subspan(at, std::min(chunk, ids.size() - at)), stop);
    } catch (...) {
        trace = saved_trace;
        sink = saved_sink;
        throw;
    }
    trace = saved_trace;
    sink = saved_sink;
}

// To n tokens, or to the longest shorter prefix that the rings or a kept state still have.
void Session::Impl::restore_at_most(int64_t n) {
    drop_pending();
    while (!states.empty() && states.back().length > n) states.pop_back(), state_logits.pop_back();
    if (cache.can_truncate_to(n)) {
        cache.truncate(n);
    } else if (!states.empty()) {
        cache.restore(states.back());
    } else {
        cache = empty_cache();
    }
    tokens.resize(static_cast<size_t>(cache.length));
    logits.clear();
    if (!states.empty() && states.back().length == cache.length) logits = state_logits.back();
}

void Session::Impl::go_back_to(int64_t n, std::stop_token stop) {
    const std::vector<int32_t> kept(tokens.begin(), tokens.begin() + n);
    restore_at_most(n);
    if (cache.length < n) feed_quietly({kept.data() + cache.length, static_cast<size_t>(n - cache.length)}, stop);
}

void Session::Impl::need_logits() {
    if (!logits.empty() || tokens.empty()) return;
    const int32_t last = tokens.back();
    go_back_to(cache.length - 1, {});
    feed_quietly({&last, 1}, {});
}

int64_t Session::length() const { return impl_->cache.length; }
const std::vector<int32_t>& Session::tokens() const { return impl_->tokens; }
int64_t Session::max_context() const { return impl_->engine.max_context; }

void Session::Impl::require_room(std::span<const int32_t> ids) const {
    const int vocab = engine.config.vocab_size;
    for (size_t i = 0; i < ids.size(); ++i)
        if (ids[i] < 0 || ids[i] >= vocab)
            throw Error(ErrorKind::bad_input, "token " + std::to_string(i) + " has id " + std::to_string(ids[i]) +
                                                  ": expected an id in [0, " + std::to_string(vocab - 1) + "]");
    const auto n = static_cast<int64_t>(ids.size());
    if (cache.length + n > engine.max_context)
        throw Error(ErrorKind::bad_input, "the prompt does not fit: " + std::to_string(cache.length + n) +
                                              " tokens, the context holds at most " + std::to_string(engine.max_context) +
                                              "; --ctx makes it longer");
}

void Session::append(std::span<const int32_t> ids, std::stop_token stop, const std::function<void(int64_t)>& progress) {
    Impl& s = *impl_;
    s.require_room(ids);
    const auto n = static_cast<int64_t>(ids.size());
    for (int64_t done = 0; done < n;) {
        if (stop.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled");
        const int64_t chunk = std::min(s.cache.max_chunk(), n - done);
        s.feed(ids.subspan(static_cast<size_t>(done), static_cast<size_t>(chunk)), stop);
        done += chunk;
        if (n > 1 && s.cache.length / kKeepEvery != (s.cache.length - chunk) / kKeepEvery) s.keep_state();
        if (progress) progress(done);
    }
}

std::span<const float> Session::logits() const {
    impl_->need_logits();
    VITRINE_ASSERT(!impl_->logits.empty());
    return impl_->logits;
}

void Session::rewind(int64_t n, std::stop_token stop) {
    VITRINE_ASSERT(n >= 0 && n <= length());
    impl_->engine.finish_late_record();
    if (n == length()) return impl_->drop_pending();
    if (impl_->trace) impl_->trace->cut(impl_->branch, n);
    impl_->go_back_to(n, stop);
}

int64_t Session::reuse_prefix(std::span<const int32_t> ids) {
    const auto& mine = impl_->tokens;
    const auto limit = static_cast<int64_t>(std::min(mine.size(), ids.empty() ? 0 : ids.size() - 1));
    int64_t n = 0;
    while (n < limit && mine[n] == ids[n]) ++n;
    impl_->engine.finish_late_record();
    if (n < length()) impl_->restore_at_most(n);
    if (impl_->trace) impl_->trace->cut(impl_->branch, length());
    return length();
}

std::unique_ptr<Session> Session::fork() const {
    impl_->engine.finish_late_record();
    std::unique_ptr<Session> s(new Session);
    s->impl_ = std::make_unique<Impl>(*impl_);
    s->impl_->trace = nullptr;
    s->impl_->sink = nullptr;
    s->impl_->records_lag = false;
    s->impl_->drop_pending();
    s->impl_->cache.own_gpu_memory();
    return s;
}

void Session::keep_state() {
    impl_->drop_pending();
    impl_->keep_state();
}

CacheReport Session::cache_report() const {
    CacheReport r = impl_->cache.report(impl_->engine.config);
    r.snapshot_bytes = impl_->states_bytes();
    return r;
}

void Session::record_to(std::shared_ptr<Trace> trace, uint64_t branch) {
    impl_->engine.finish_late_record();
    impl_->trace = std::move(trace);
    impl_->branch = branch;
}

void Session::publish_to(ProbeSink* sink) {
    impl_->engine.finish_late_record();
    impl_->sink = sink;
}

void Session::let_records_lag(bool may_lag) {
    impl_->engine.finish_late_record();
    impl_->records_lag = may_lag;
}

}  // namespace vitrine
