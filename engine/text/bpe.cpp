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
    int32_t rank = 0;
    std::vector<int32_t> positions;
    size_t cursor = 0;
    bool is_draining = false;
    std::priority_queue<int32_t, std::vector<int32_t>, std::greater<>> late;

    void push(int32_t at, uint64_t& steps) {
        ++steps;
        if (!is_draining || positions.back() < at) {
            positions.push_back(at);
        } else {
            steps += bits_of(late.size());
            late.push(at);
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
        if (late.empty() || (cursor < positions.size() && positions[cursor] < late.top())) return positions[cursor++];
        steps += bits_of(late.size());
        const int32_t at = late.top();
        late.pop();
        return at;
    }
    bool is_empty() const { return cursor == positions.size() && late.empty(); }
    void restart() {
        positions.clear();
        cursor = 0;
        is_draining = false;
    }
};

// All buckets of one piece and the heap of ranks that have something to hand out.
class Queue {
  public:
    Queue(std::vector<int32_t>& bucket_of_rank, uint64_t& steps) : bucket_of_rank_(bucket_of_rank), steps_(steps) {}
    ~Queue() {
        for (const Bucket& b : buckets_) bucket_of_rank_[b.rank] = -1;
    }
    void push(int32_t rank, int32_t at) {
        int32_t& index = bucket_of_rank_[rank];
        if (index < 0) {
            index = static_cast<int32_t>(buckets_.size());
            buckets_.emplace_back().rank = rank;
        }
        Bucket& b = buckets_[index];
        if (b.is_empty()) {
            b.restart();
            steps_ += bits_of(ranks_.size());
            ranks_.push(rank);
        }
        b.push(at, steps_);
    }
    bool is_empty() const { return ranks_.empty(); }
    // The lowest rank and its leftmost position.
    int32_t pop(int32_t& rank) {
        rank = ranks_.top();
        Bucket& b = buckets_[bucket_of_rank_[rank]];
        const int32_t at = b.pop(steps_);
        if (b.is_empty()) {
            steps_ += bits_of(ranks_.size());
            ranks_.pop();
        }
        return at;
    }

  private:
    std::vector<int32_t>& bucket_of_rank_;
    uint64_t& steps_;
    std::vector<Bucket> buckets_;
    std::priority_queue<int32_t, std::vector<int32_t>, std::greater<>> ranks_;
};

}  // namespace

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

// Symbols form a linked list; id < 0 marks a symbol that was merged into its left neighbour. An entry of the queue is
// stale when the pair at its position is no longer the one of its rank; symbols only grow, so a stale pair never comes
// back.
void Bpe::merge_long(std::vector<int32_t>& ids, Scratch& s) const {
    const auto n = static_cast<int32_t>(ids.size());
    auto& symbols = s.symbols;
    symbols.resize(ids.size());
    if (s.bucket_of_rank.size() != merges_.size()) s.bucket_of_rank.assign(merges_.size(), -1);
    Queue queue(s.bucket_of_rank, s.stats.queue_steps);
    const auto offer = [&](int32_t left, int32_t right) {
        ++s.stats.lookups;
        const int32_t rank = rank_of(symbols[left].id, symbols[right].id);
        if (rank >= 0) queue.push(rank, left);
    };
    for (int32_t i = 0; i < n; ++i) symbols[i] = {ids[i], i - 1, i + 1 < n ? i + 1 : -1};
    for (int32_t i = 0; i + 1 < n; ++i) offer(i, i + 1);
    while (!queue.is_empty()) {
        int32_t rank = 0;
        const int32_t at = queue.pop(rank);
        const Merge& m = merges_[rank];
        auto& left = symbols[at];
        if (left.id != m.left || left.next < 0 || symbols[left.next].id != m.right) continue;
        auto& right = symbols[left.next];
        left.id = m.merged;
        left.next = right.next;
        right.id = -1;
        if (left.next >= 0) symbols[left.next].prev = at;
        if (left.prev >= 0) offer(left.prev, at);
        if (left.next >= 0) offer(at, left.next);
    }
    ids.clear();
    for (int32_t i = 0; i >= 0; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace vitrine::text
