// More than one row in a step: tokens guessed by the MTP module and checked in the pass of the token before them, and
// several sessions side by side.
//
// The module's window row at position t is made of the trunk's streams at t and of token t + 1 (v4-spec 6), so it can
// be made as soon as that token is drawn: guess() first makes the rows that are missing, of the last window at most,
// and guesses from the last one. Nothing of it enters the trunk: a wrong guess costs time, never a bit of the output.
#include <algorithm>
#include <string_view>

#include "engine/base/stop.h"
#include "engine/infer/engine_impl.h"

namespace vitrine {
namespace {

// Passes that nobody watches.
class NoProbes : public ProbeSink {
  public:
    void put(int, Probe, int, const float*, int, int) override {}
    void put(int, Probe, int, const int32_t*, int, int) override {}
};

Ctx unwatched(Engine::Impl& e, Numerics numerics, NoProbes& nobody, std::stop_token stop) {
    Ctx ctx{e.arena, e.pool, numerics, nullptr, &nobody, std::move(stop), &e.times, -1};
    ctx.active_experts = e.active_experts;
    return ctx;
}

// Sequences in one pass whose products sum in one order, however many they are: a GPU's own kernels take so many rows,
// and a CPU takes tiles (AMX, BF16 products) from one more on.
size_t rows_in_one_order(bool is_on_gpu, Numerics numerics) {
    if (is_on_gpu) return kRowsSideBySide;
    const bool has_tiles = std::string_view(cpu::kernels().name) == "amx_bf16" && numerics == Numerics::reference;
    return has_tiles ? kRowsSideBySide - 1 : SIZE_MAX;
}

}  // namespace

Tensor Session::Impl::run_drafter(std::span<const int32_t> next, int64_t position, Pass pass, std::stop_token stop) {
    NoProbes nobody;
    Ctx ctx = unwatched(engine, numerics, nobody, std::move(stop));
    const Segment segment{&cache, 0, static_cast<int64_t>(next.size()), position};
    return run_pass(engine, gpu.get(), ctx, {next, {&segment, 1}}, LogitRows::last, pass);
}

std::vector<int32_t> Session::Impl::guess(int32_t id, int64_t n, std::stop_token stop) {
    const int64_t length = cache.length, window = engine.config.sliding_window;
    // A GPU replays a captured step where no product has more than kRowsSideBySide rows: one of each stream of each token.
    const int64_t few = std::max<int64_t>(1, kRowsSideBySide / engine.config.hc_mult);
    for (int64_t at = std::max(cache.drafter_length, length - window); at < length - 1;) {
        const int64_t left = length - 1 - at, n_here = std::min(left, gpu && left <= kMaxDrafts ? few : cache.max_chunk());
        const Arena::Scope scratch(engine.arena);
        run_drafter({tokens.data() + at + 1, static_cast<size_t>(n_here)}, at, Pass::draft_keys, stop);
        at += n_here;
    }
    std::vector<int32_t> guesses;
    for (int64_t i = 0; i < n; ++i) {
        const int32_t next = i == 0 ? id : guesses.back();
        const Arena::Scope scratch(engine.arena);
        const Tensor logits_1V = run_drafter({&next, 1}, length - 1 + i, i + 1 < n ? Pass::draft_going_on : Pass::draft, stop);
        const float* z = logits_1V.f32();
        guesses.push_back(static_cast<int32_t>(std::max_element(z, z + logits_1V.count()) - z));
    }
    cache.drafter_length = length;
    return guesses;
}

bool Session::Impl::take_pending(int32_t id) {
    if (pending.next >= pending.ids.size() || pending.ids[pending.next] != id) return false;
    const size_t i = pending.next++;
    logits = std::move(pending.logits[i]);
    if (trace && pending.records[i]) trace->put(branch, cache.length, pending.records[i]);
    ++cache.length;
    --cache.ahead;
    tokens.push_back(id);
    return true;
}

bool Session::is_guessed(int32_t id) const {
    const PendingDrafts& p = impl_->pending;
    return p.next < p.ids.size() && p.ids[p.next] == id;
}

void Session::Impl::drop_pending() {
    if (cache.ahead > 0) cache.truncate(cache.length);
    pending = {};
}

void Session::append_drafting(int32_t id, int n_drafts, std::stop_token stop) {
    Impl& s = *impl_;
    s.require_room({&id, 1});
    if (n_drafts < 0 || n_drafts > kMaxDrafts || (n_drafts > 0 && !s.can_draft))
        throw Error(ErrorKind::bad_input, "drafts: " + std::to_string(n_drafts) + ": expected 0 to " +
                                              std::to_string(s.can_draft ? kMaxDrafts : 0) +
                                              (s.can_draft ? "" : ", the session was not made to draft"));
    throw_if_stopped(stop);
    if (s.take_pending(id)) {
        ++s.draft_counts.n_accepted;
        return;
    }
    s.drop_pending();
    const int64_t n = std::min<int64_t>(n_drafts, s.engine.max_context - s.cache.length - 1);
    std::vector<int32_t> ids{id};
    if (n > 0 && s.cache.length > 0) {
        const std::vector<int32_t> guesses = s.guess(id, n, stop);
        ids.insert(ids.end(), guesses.begin(), guesses.end());
    }
    s.feed(ids, stop, 1);
    ++s.draft_counts.n_passes;
    s.draft_counts.n_drafted += static_cast<int64_t>(ids.size()) - 1;
}

DraftCounts Session::draft_counts() const {
    return impl_->draft_counts;
}

void Session::append_each(std::span<Session* const> sessions, std::span<const int32_t> ids, bool is_batch_invariant,
                          std::stop_token stop) {
    VITRINE_ASSERT(sessions.size() == ids.size());
    if (sessions.empty()) return;
    const Impl& first = *sessions[0]->impl_;
    for (size_t i = 0; i < ids.size(); ++i) {
        const Impl& s = *sessions[i]->impl_;
        VITRINE_ASSERT(&s.engine == &first.engine && s.gpu == first.gpu && s.numerics == first.numerics && !s.trace &&
                       !s.sink);
        s.require_room(ids.subspan(i, 1));
    }
    const size_t most = is_batch_invariant ? rows_in_one_order(first.gpu != nullptr, first.numerics) : ids.size();
    for (size_t at = 0; at < ids.size(); at += most) {
        const auto some = sessions.subspan(at, std::min(most, ids.size() - at));
        std::vector<Segment> segments;
        for (Session* session : some) {
            Impl& s = *session->impl_;
            s.drop_pending();
            const auto row = static_cast<int64_t>(segments.size());
            segments.push_back({&s.cache, row, row + 1, s.cache.length});
        }
        const Arena::Scope scratch(first.engine.arena);
        NoProbes nobody;
        Ctx ctx = unwatched(first.engine, first.numerics, nobody, stop);
        Tensor logits_SV;
        try {
            logits_SV =
                run_pass(first.engine, first.gpu.get(), ctx, {ids.subspan(at, some.size()), segments}, LogitRows::last);
        } catch (...) {
            for (Session* session : some) session->impl_->cache.truncate(session->impl_->cache.length);
            throw;
        }
        for (size_t i = 0; i < some.size(); ++i) {
            Impl& s = *some[i]->impl_;
            const float* row = logits_SV.row<float>(static_cast<int64_t>(i));
            s.logits.assign(row, row + logits_SV.dim(1));
            s.tokens.push_back(ids[at + i]);
            ++s.cache.length;
        }
    }
}

}  // namespace vitrine
