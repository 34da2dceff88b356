// Many prompts continued together: each step of the model serves all that are still being answered.
#include <algorithm>
#include <memory>

#include "engine/infer/engine_impl.h"

namespace vitrine {
namespace {

struct Answer {
    explicit Answer(SequenceCache c) : cache(std::move(c)) {}
    SequenceCache cache;
    size_t index = 0;  // of the request
    int32_t next = 0;  // drawn, not yet fed
};

int32_t largest(const float* logits, int64_t n) {
    int32_t best = 0;
    for (int64_t i = 1; i < n; ++i)
        if (logits[i] > logits[best]) best = static_cast<int32_t>(i);
    return best;
}

}  // namespace

std::vector<std::vector<int32_t>> Engine::continue_greedily(const std::vector<GreedyRequest>& requests, int n_together,
                                                            std::stop_token stop,
                                                            const std::function<void(size_t)>& progress) {
    Impl& e = *impl_;
    for (const GreedyRequest& r : requests)
        for (int32_t id : r.prompt)
            if (id < 0 || id >= e.config.vocab_size)
                throw Error(ErrorKind::bad_input,
                            "id " + std::to_string(id) + ": expected one below " + std::to_string(e.config.vocab_size));
    const Session::Impl pattern(e);
    std::vector<std::vector<int32_t>> out(requests.size());
    std::vector<std::unique_ptr<Answer>> active;

    // Runs segments and gives each one's last logits to `use`.
    const auto run = [&](std::span<const int32_t> tokens, const std::vector<Segment>& segments, auto use) {
        const Arena::Scope scratch(e.arena);
        Ctx ctx{e.arena, e.pool, e.numerics, nullptr, nullptr, stop, &e.times, -1};
        const Batch batch{tokens, segments};
        if constexpr (kHasCuda) {
            if (e.gpu) {
                const GpuRunner::Result r = e.gpu->run(ctx, e.config, batch, LogitRows::last);
                for (size_t i = 0; i < segments.size(); ++i)
                    use(i, r.logits + static_cast<int64_t>(i) * e.config.vocab_size);
                return;
            }
        }
        const Tensor logits_SV = forward(ctx, e.config, e.weights, batch, LogitRows::last);
        throw_if_mapping_failed();
        for (size_t i = 0; i < segments.size(); ++i) use(i, logits_SV.row<float>(static_cast<int64_t>(i)));
    };
    // Takes the drawn token. False: the answer is complete.
    const auto take = [&](Answer& a) {
        std::vector<int32_t>& ids = out[a.index];
        ids.push_back(a.next);
        return a.next != e.config.eos_id && static_cast<int>(ids.size()) < requests[a.index].max_new_tokens &&
               a.cache.length < e.max_context;
    };

    size_t n_done = 0;
    const auto finish_one = [&] {
        if (progress) progress(++n_done);
    };
    for (size_t begun = 0; begun < requests.size() || !active.empty();) {
        for (; begun < requests.size() && active.size() < static_cast<size_t>(n_together); ++begun) {
            const GreedyRequest& r = requests[begun];
            const auto n = static_cast<int64_t>(r.prompt.size());
            if (n == 0 || n > e.max_context)
                throw Error(ErrorKind::bad_input, "a prompt of " + std::to_string(n) + " tokens: expected 1 to " +
                                                      std::to_string(e.max_context));
            auto a = std::make_unique<Answer>(pattern.empty_cache());
            a->index = begun;
            for (int64_t at = 0; at < n;) {
                const int64_t chunk = std::min(a->cache.max_chunk(), n - at);
                run(std::span(r.prompt).subspan(static_cast<size_t>(at), static_cast<size_t>(chunk)),
                    {{&a->cache, 0, chunk, a->cache.length}},
                    [&](size_t, const float* logits) { a->next = largest(logits, e.config.vocab_size); });
                a->cache.length += chunk, at += chunk;
            }
            if (take(*a))
                active.push_back(std::move(a));
            else
                finish_one();
        }
        if (active.empty()) continue;
        std::vector<int32_t> tokens;
        std::vector<Segment> segments;
        for (auto& a : active) {
            const auto at = static_cast<int64_t>(tokens.size());
            segments.push_back({&a->cache, at, at + 1, a->cache.length});
            tokens.push_back(a->next);
        }
        run(tokens, segments,
            [&](size_t i, const float* logits) { active[i]->next = largest(logits, e.config.vocab_size); });
        for (auto& a : active) {
            ++a->cache.length;
            if (take(*a)) continue;
            a.reset();
            finish_one();
        }
        std::erase(active, nullptr);
    }
    return out;
}

}  // namespace vitrine
