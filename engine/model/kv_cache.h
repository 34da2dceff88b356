// One sequence's cache: window rows and compressor rows in rings, compressed entries in shared blocks (v4-spec 4.5, 4.8).
//
// Everything is addressed by absolute position, so going back within the rings' slack is changing `length`; what lies beyond
// it is stale and is written again before it is read. Entries never change once complete; blocks are shared between forks and
// copied when written while shared. Owner: the engine thread.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/base/config/numerics.h"
#include "engine/device/cpu/kernels.h"
#include "engine/telemetry/cache_report.h"

namespace vitrine {

inline constexpr int64_t kRollbackSlack = 64;   // rows kept beyond what the next token needs
inline constexpr int64_t kMaxChunk = 512;       // most new tokens of one sequence in one forward pass
inline constexpr int64_t kEntriesPerBlock = 128;

// Rows [position - capacity + 1, position], row p in slot p mod capacity.
class RowRing {
  public:
    RowRing() = default;
    RowRing(int64_t row_bytes, int64_t needed_rows);   // capacity = needed + slack + chunk
    std::byte* row(int64_t position) { return data_.data() + position % capacity_ * row_bytes_; }
    const std::byte* row(int64_t position) const { return data_.data() + position % capacity_ * row_bytes_; }
    int64_t row_bytes() const { return row_bytes_; }
    int64_t capacity() const { return capacity_; }
    int64_t needed_rows() const { return needed_; }
    uint64_t bytes() const { return data_.size(); }
    // The rows that a token at `length` may still need, oldest first; and back.
    std::string save(int64_t length) const;
    void restore(int64_t length, const std::string& rows);

  private:
    int64_t row_bytes_ = 0, capacity_ = 1, needed_ = 0;
    std::vector<std::byte> data_;
};

class EntryStore {
  public:
    EntryStore() = default;
    explicit EntryStore(int64_t row_bytes) : row_bytes_(row_bytes) {}
    const std::byte* row(int64_t i) const { return blocks_[i / kEntriesPerBlock]->data() + i % kEntriesPerBlock * row_bytes_; }
    std::byte* writable_row(int64_t i);                // grows by blocks; copies a shared block
    void drop_from(int64_t n_entries);                 // gives back whole blocks that hold nothing below n_entries
    int64_t row_bytes() const { return row_bytes_; }
    uint64_t bytes() const { return blocks_.size() * kEntriesPerBlock * row_bytes_; }

  private:
    using Block = std::vector<std::byte>;
    int64_t row_bytes_ = 0;
    std::vector<std::shared_ptr<Block>> blocks_;
};

struct LayerCache {
    RowRing window;          // kv rows, EntryFormat
    RowRing compressor;      // K | S rows of the main compressor, FP32 [2, o·c]
    RowRing index_compressor;  // K | S rows of the indexer's compressor, FP32 [2, o·D]
    EntryStore entries;      // EntryFormat
    EntryStore index_keys;   // IndexKeyFormat
};

class SequenceCache {
  public:
    SequenceCache(const ModelConfig& config, Numerics numerics);
    int64_t length = 0;      // tokens whose rows and entries are valid
    std::vector<LayerCache> layers;
    cpu::EntryFormat entry_format;
    cpu::IndexKeyFormat index_format;

    // Going back without a kept state: possible while the rows that n needs are still in the rings, at least kRollbackSlack
    // tokens. Gives back entry blocks that hold nothing any more.
    bool can_truncate_to(int64_t n) const { return n >= oldest_ && n <= length; }
    void truncate(int64_t n);
    // The forward pass is about to write rows up to (not including) position `end`.
    void will_write_to(int64_t end);

    // One entry of c floats, or index key of D floats, in the cache's own format (packed in `reference`).
    void store_entry(const float* entry, std::byte* row) const;
    void store_index_key(const float* key, std::byte* row) const;

    // Everything needed to go on from `length`: ring rows; entries are shared.
    struct State {
        int64_t length = 0;
        std::vector<std::array<std::string, 3>> rings;
        std::vector<std::array<EntryStore, 2>> stores;
        uint64_t bytes() const;
    };
    State save() const;
    void restore(const State& s);
    CacheReport report(const ModelConfig& config) const;

  private:
    int64_t oldest_ = 0;     // shortest length whose rows are all still there
    std::vector<int> ratios_;
};

}  // namespace vitrine
