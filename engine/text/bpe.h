// Byte-pair merging: bytes of one piece to token ids, by the ranks of the merge table.
//
// Order as in every BPE: always the pair of lowest rank, the leftmost among equals. Short pieces search linearly; long
// ones keep one queue of positions per rank, so that n symbols cost O(n log n) in the worst case and about n in
// practice, with no recursion.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace vitrine::text {

struct Merge {
    int32_t left = 0, right = 0, merged = 0;  // token ids
};

// Work done, for tests of complexity: no clock is involved.
struct EncodeStats {
    uint64_t points = 0;       // code points looked at by pre-tokenizer stages and added-token search
    uint64_t lookups = 0;      // pairs looked up in the merge table
    uint64_t queue_steps = 0;  // comparisons and moves in queues of pairs
    uint64_t total() const { return points + lookups + queue_steps; }
};

class Bpe {
  public:
    Bpe() = default;
    // merges[r] has rank r. Returns through `duplicate` (when not null) the rank of a pair that was there before, or
    // -1.
    explicit Bpe(std::vector<Merge> merges, int64_t* duplicate = nullptr);

    // Buffers that one call after another uses, so that a text of many pieces allocates little.
    class Queue;
    struct Scratch {
        // A symbol of the long form is the stretch of places that its bytes had. Its first place has its id, and its
        // first and last place know each other by `other`: neighbours are one place away.
        struct Place {
            int32_t id, other;
        };
        std::vector<Place> places;
        std::vector<int32_t> ranks;  // of the short form
        std::unique_ptr<Queue> queue;
        EncodeStats stats;

        Scratch();
        ~Scratch();
        size_t held_bytes() const;
    };

    // Replaces `ids` (one id per byte of the piece) by the ids after all merges. At most 2^31 - 2 symbols.
    void merge(std::vector<int32_t>& ids, Scratch& s) const;

    size_t n_merges() const { return merges_.size(); }

    static constexpr size_t kShort = 64;  // pieces up to this length use the short form

  private:
    int32_t rank_of(int32_t left, int32_t right) const;  // -1: no such merge
    void merge_short(std::vector<int32_t>& ids, Scratch& s) const;
    void merge_long(std::vector<int32_t>& ids, Scratch& s) const;

    std::vector<Merge> merges_;
    std::vector<int32_t> slots_;  // open addressing, rank or -1; size is a power of two
    uint64_t mask_ = 0;
};

}  // namespace vitrine::text
