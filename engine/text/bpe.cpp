// Byte-pair merging with per-rank queues.
#include "engine/text/bpe.h"

#include <algorithm>
#include <functional>
#include <queue>

#include "engine/base/error.h"
#include "engine/base/rng.h"

namespace vitrine::text {
namespace {

uint64_t pair_hash(int32_t left, int32_t right) {
    return mix64((static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right));
}

int bits_of(size_t n) {
    int b = 1;
    while (n >>= 1) ++b;
    return b;
}

// Positions at which the pair of one rank stood when it was formed, handed out in ascending order. Filled before it is
// drained (always so with trained merges), it is a sorted vector; positions that arrive later go to a heap.
struct Bucket {
    static constexpr size_t kAhead = 8;  // so many positions are known in advance: enough to fetch what stands there

    int32_t rank = 0;
    std::vector<int32_t> positions;
    size_t cursor = 0;
    bool is_draining = false;
    std::vector<int32_t> late;  // a heap, the lowest on top

    void push(int32_t at, uint64_t& steps) {
        ++steps;
        if (!is_draining || positions.back() < at) {
            positions.push_back(at);
        } else {
            steps += bits_of(late.size());
            late.push_back(at);
            std::push_heap(late.begin(), late.end(), std::greater<>());
        }
    }
    int32_t pop(uint64_t& steps) {
        ++steps;
        if (!is_draining) {
            is_draining = true;
            if (!std::is_sorted(positions.begin(), positions.end())) {
                steps += positions.size() * bits_of(positions.size());
                std::sort(positions.begin(), positions.end());
            }
        }
        if (late.empty() || (cursor < positions.size() && positions[cursor] < late.front())) return positions[cursor++];
        steps += bits_of(late.size());
        std::pop_heap(late.begin(), late.end(), std::greater<>());
        const int32_t at = late.back();
        late.pop_back();
        return at;
    }
    int32_t ahead(int32_t otherwise) const {
        return cursor + kAhead < positions.size() ? positions[cursor + kAhead] : otherwise;
    }
    bool is_empty() const { return cursor == positions.size() && late.empty(); }
    void restart() {
        positions.clear();
        cursor = 0;
        is_draining = false;
    }
};

}  // namespace

// All buckets of one piece and the heap of ranks that have something to hand out. Empty between pieces, with its memory
// kept.
class Bpe::Queue {
  public:
    void begin(size_t n_ranks) {
        if (bucket_of_rank_.size() != n_ranks) bucket_of_rank_.assign(n_ranks, -1);
    }
    void end() {
        for (size_t k = 0; k < n_used_; ++k) bucket_of_rank_[buckets_[k].rank] = -1;
        n_used_ = 0;
    }
    void push(int32_t rank, int32_t at, uint64_t& steps) {
        int32_t& index = bucket_of_rank_[rank];
        if (index < 0) {
            index = static_cast<int32_t>(n_used_++);
            if (n_used_ > buckets_.size()) buckets_.emplace_back();
            buckets_[index].rank = rank;
        }
        Bucket& b = buckets_[index];
        if (b.is_empty()) {
            b.restart();
            steps += bits_of(ranks_.size());
            ranks_.push(rank);
        }
        b.push(at, steps);
    }
    bool is_empty() const { return ranks_.empty(); }
    // The lowest rank and its leftmost position; `ahead`, one that is likely to come soon.
    int32_t pop(int32_t& rank, int32_t& ahead, uint64_t& steps) {
        rank = ranks_.top();
        Bucket& b = buckets_[bucket_of_rank_[rank]];
        const int32_t at = b.pop(steps);
        ahead = b.ahead(at);
        if (b.is_empty()) {
            steps += bits_of(ranks_.size());
            ranks_.pop();
        }
        return at;
    }
    size_t held_bytes() const {
        size_t n = bucket_of_rank_.capacity() * sizeof(int32_t) + buckets_.capacity() * sizeof(Bucket);
        for (const Bucket& b : buckets_) n += (b.positions.capacity() + b.late.capacity()) * sizeof(int32_t);
        return n;
    }

  private:
    std::vector<int32_t> bucket_of_rank_;  // -1: none
    std::vector<Bucket> buckets_;          // the first n_used_ belong to a rank
    size_t n_used_ = 0;
    std::priority_queue<int32_t, std::vector<int32_t>, std::greater<>> ranks_;
};

Bpe::Scratch::Scratch() : queue(std::make_unique<Queue>()) {}
Bpe::Scratch::~Scratch() = default;
size_t Bpe::Scratch::held_bytes() const {
    return places.capacity() * sizeof(Place) + ranks.capacity() * sizeof(int32_t) + queue->held_bytes();
}

Bpe::Bpe(std::vector<Merge> merges, int64_t* duplicate) : merges_(std::move(merges)) {
    uint64_t size = 16;
    while (size < merges_.size() * 2) size *= 2;
    slots_.assign(size, -1);
    mask_ = size - 1;
    if (duplicate) *duplicate = -1;
    for (size_t r = 0; r < merges_.size(); ++r) {
        const Merge& m = merges_[r];
        uint64_t h = pair_hash(m.left, m.right) & mask_;
        while (slots_[h] >= 0) {
            const Merge& other = merges_[slots_[h]];
            if (duplicate && other.left == m.left && other.right == m.right) *duplicate = static_cast<int64_t>(r);
            h = (h + 1) & mask_;
        }
        slots_[h] = static_cast<int32_t>(r);
    }
}

int32_t Bpe::rank_of(int32_t left, int32_t right) const {
    if (slots_.empty()) return -1;
    for (uint64_t h = pair_hash(left, right) & mask_;; h = (h + 1) & mask_) {
        const int32_t r = slots_[h];
        if (r < 0 || (merges_[r].left == left && merges_[r].right == right)) return r;
    }
}

void Bpe::merge(std::vector<int32_t>& ids, Scratch& s) const {
    if (ids.size() < 2 || merges_.empty()) return;
    VITRINE_ASSERT(ids.size() < (size_t{1} << 31) - 1);
    if (ids.size() <= kShort)
        merge_short(ids, s);
    else
        merge_long(ids, s);
}

// At most kShort symbols: the next merge is found by looking at every pair.
void Bpe::merge_short(std::vector<int32_t>& ids, Scratch& s) const {
    auto& ranks = s.ranks;  // ranks[i] of the pair (i, i + 1)
    ranks.resize(ids.size() - 1);
    for (size_t i = 0; i + 1 < ids.size(); ++i) ranks[i] = rank_of(ids[i], ids[i + 1]);
    s.stats.lookups += ranks.size();
    for (;;) {
        size_t best = ranks.size();
        for (size_t i = 0; i < ranks.size(); ++i)
            if (ranks[i] >= 0 && (best == ranks.size() || ranks[i] < ranks[best])) best = i;
        s.stats.queue_steps += ranks.size();
        if (best == ranks.size()) return;
        ids[best] = merges_[ranks[best]].merged;
        ids.erase(ids.begin() + best + 1);
        ranks.erase(ranks.begin() + best);
        if (best > 0) ranks[best - 1] = rank_of(ids[best - 1], ids[best]);
        if (best < ranks.size()) ranks[best] = rank_of(ids[best], ids[best + 1]);
        s.stats.lookups += 2;
    }
}

// id < 0 marks a place that was merged into the symbol to its left. An entry of the queue is stale when the pair at its
// position is no longer the one of its rank; symbols only grow, so a stale pair never comes back.
void Bpe::merge_long(std::vector<int32_t>& ids, Scratch& s) const {
    const auto n = static_cast<int32_t>(ids.size());
    s.places.resize(ids.size());
    Scratch::Place* const places = s.places.data();
    Queue& queue = *s.queue;
    EncodeStats stats = s.stats;
    queue.begin(merges_.size());
    const auto offer = [&](int32_t left, int32_t right) {
        ++stats.lookups;
        const int32_t rank = rank_of(places[left].id, places[right].id);
        if (rank >= 0) queue.push(rank, left, stats.queue_steps);
    };
    for (int32_t i = 0; i < n; ++i) places[i] = {ids[i], i};
    for (int32_t i = 0; i + 1 < n; ++i) offer(i, i + 1);
    while (!queue.is_empty()) {
        int32_t rank = 0, ahead = 0;
        const int32_t at = queue.pop(rank, ahead, stats.queue_steps);
        __builtin_prefetch(&places[ahead], 1);
        const Merge& m = merges_[rank];
        const int32_t right = places[at].other + 1;
        if (places[at].id != m.left || right >= n || places[right].id != m.right) continue;
        const int32_t last = places[right].other;
        places[right].id = -1;
        places[at] = {m.merged, last};
        places[last].other = at;
        if (at > 0) offer(places[at - 1].other, at);
        if (last + 1 < n) offer(at, last + 1);
    }
    queue.end();
    s.stats = stats;
    ids.clear();
    for (int32_t i = 0; i < n; i = places[i].other + 1) ids.push_back(places[i].id);
}

}  // namespace vitrine::text
