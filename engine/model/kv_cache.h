// One sequence's cache: window rows and compressor rows in rings, compressed entries in shared blocks (v4-spec 4.5, 4.8).
//
// Everything is addressed by absolute position, so going back within the rings' slack is changing `length`; what lies beyond
// it is stale and is written again before it is read. Entries never change once complete; blocks are shared between forks and
// copied when written while shared. Owner: the engine thread.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/base/config/numerics.h"
#include "engine/device/cpu/kernels.h"
#include "engine/device/cuda/device.h"
#include "engine/telemetry/cache_report.h"

namespace vitrine {

inline constexpr int64_t kRollbackSlack = 64;   // rows kept beyond what the next token needs
inline constexpr int64_t kMaxChunk = 512;       // most new tokens of one sequence in one forward pass
inline constexpr int64_t kMaxGpuChunk = 4096;   // the same on a GPU
inline constexpr int64_t kEntriesPerBlock = 128;

// Rows [position - capacity + 1, position], row p in slot p mod capacity.
class RowRing {
  public:
    RowRing() = default;
    // capacity = needed + slack + chunk; on the GPU when there is one
    RowRing(int64_t row_bytes, int64_t needed_rows, int64_t chunk = kMaxChunk, const std::shared_ptr<cuda::Device>& gpu = {});
    std::byte* row(int64_t position) { return data_.data() + position % capacity_ * row_bytes_; }
    const std::byte* row(int64_t position) const { return data_.data() + position % capacity_ * row_bytes_; }
    int64_t row_bytes() const { return row_bytes_; }
    int64_t capacity() const { return capacity_; }
    int64_t needed_rows() const { return needed_; }
    uint64_t bytes() const { return static_cast<uint64_t>(row_bytes_ * capacity_); }
    std::byte* on_gpu() const { return gpu_ ? gpu_->data() : nullptr; }
    void own_gpu_memory();                             // a copy of what a copy of this shares
    // The rows that a token at `length` may still need, oldest first, to saved_bytes(length) bytes of the memory that holds
    // the ring; and back. On a GPU queued, as all its work.
    int64_t saved_bytes(int64_t length) const { return (length - oldest_saved(length)) * row_bytes_; }
    void save(int64_t length, std::byte* to) const;
    void restore(int64_t length, const std::byte* from);

  private:
    int64_t oldest_saved(int64_t length) const { return std::max<int64_t>(0, length - needed_ - kRollbackSlack); }
    // Calls f(offset in the ring, offset in what is saved, bytes) for each stretch of the saved rows that lies in one piece.
    template <class F>
    void for_each_stretch(int64_t length, F&& f) const {
        const int64_t first = oldest_saved(length);
        for (int64_t p = first; p < length && row_bytes_ > 0;) {
            const int64_t slot = p % capacity_, n = std::min(capacity_ - slot, length - p);
            f(slot * row_bytes_, (p - first) * row_bytes_, static_cast<size_t>(n * row_bytes_));
            p += n;
        }
    }
    int64_t row_bytes_ = 0, capacity_ = 1, needed_ = 0;
    std::vector<std::byte> data_;
    std::shared_ptr<cuda::Buffer> gpu_;
};

class EntryStore {
  public:
    EntryStore() = default;
    explicit EntryStore(int64_t row_bytes, const std::shared_ptr<cuda::Device>& gpu = {});
    const std::byte* row(int64_t i) const { return blocks_[i / kEntriesPerBlock]->data() + i % kEntriesPerBlock * row_bytes_; }
    std::byte* writable_row(int64_t i);                // grows by blocks; copies a shared block
    void drop_from(int64_t n_entries);                 // gives back whole blocks that hold nothing below n_entries
    int64_t row_bytes() const { return row_bytes_; }
    uint64_t bytes() const { return gpu_ ? gpu_->bytes() : blocks_.size() * kEntriesPerBlock * row_bytes_; }
    // On a GPU: one piece that grows by doubling, so the rows may move; never given back before the sequence ends.
    void reserve(int64_t n_entries);
    static int64_t gpu_capacity(int64_t n_entries);    // rows that are allocated once n_entries were asked for
    int64_t reserved() const { return reserved_; }
    std::byte* on_gpu() const { return gpu_ ? gpu_->data() : nullptr; }
    void own_gpu_memory();

  private:
    using Block = std::vector<std::byte>;
    int64_t row_bytes_ = 0;
    std::vector<std::shared_ptr<Block>> blocks_;
    std::shared_ptr<cuda::Buffer> gpu_;
    int64_t reserved_ = 0;   // most entries ever asked for
};

struct LayerCache {
    RowRing window;          // kv rows, EntryFormat
    RowRing compressor;      // K | S rows of the main compressor, FP32 [2, o·c]
    RowRing index_compressor;  // K | S rows of the indexer's compressor, FP32 [2, o·D]
    EntryStore entries;      // EntryFormat
    EntryStore index_keys;   // IndexKeyFormat
    RowRing streams;         // of the drafter's layer: the trunk's streams [N, D] that it reads; on a GPU as the activations
    std::array<RowRing*, 4> rings() { return {&window, &compressor, &index_compressor, &streams}; }
    std::array<const RowRing*, 4> rings() const { return {&window, &compressor, &index_compressor, &streams}; }
};

class SequenceCache {
  public:
    // has_drafter: one more layer, the MTP module's: its window and the streams that it reads.
    SequenceCache(const ModelConfig& config, Numerics numerics, std::shared_ptr<cuda::Device> gpu = {}, bool has_drafter = false);
    int64_t length = 0;      // tokens whose rows and entries are valid
    // Of the drafter's layer: its row at position t holds what token t + 1 is, so those below `drafter_length` are valid.
    int64_t drafter_length = 0;
    bool has_drafter() const { return layers.size() > ratios_.size(); }
    int64_t ahead = 0;       // rows beyond `length` that a forward pass has written and that may still become tokens
    std::vector<LayerCache> layers;
    cpu::EntryFormat entry_format;
    cpu::IndexKeyFormat index_format;

    // Going back without a kept state: possible while the rows that n needs are still in the rings, at least kRollbackSlack
    // tokens. Gives back entry blocks that hold nothing any more.
    bool can_truncate_to(int64_t n) const { return n >= oldest_ && n <= length; }
    void truncate(int64_t n);
    // The forward pass is about to write rows up to (not including) position `end`.
    void will_write_to(int64_t end);

    int64_t max_chunk() const { return max_chunk_; }
    // On a GPU. Addresses of layer l for the kernels; valid until will_write_to.
    cuda::LayerView view(size_t l) const;
    // On a GPU a copy shares its rows until this is called.
    void own_gpu_memory();

    // One entry of c floats, or index key of D floats, in the cache's own format (packed in `reference`).
    void store_entry(const float* entry, std::byte* row) const;
    void store_index_key(const float* key, std::byte* row) const;

    // Everything needed to go on from `length`: ring rows; entries are shared. On a GPU entries are not kept: those below
    // `length` stay where they are for as long as a state that needs them is kept.
    struct State {
        int64_t length = 0;
        int64_t drafter_length = 0;
        int64_t oldest = 0;                                 // shortest length whose rows are all in it
        std::vector<std::byte> rings;                       // what every ring saved, one behind the other
        std::shared_ptr<cuda::Buffer> gpu_rings;            // the same in the GPU's memory: no copy through the host
        std::vector<std::array<EntryStore, 2>> stores;      // on a GPU none: entries stay where they are
        uint64_t bytes() const;
    };
    State save() const;
    void restore(const State& s);
    CacheReport report(const ModelConfig& config) const;

  private:
    std::shared_ptr<cuda::Device> gpu_;
    int64_t max_chunk_ = kMaxChunk;
    int64_t oldest_ = 0;     // shortest length whose rows are all still there
    std::vector<int> ratios_;   // of the trunk's layers
};

}  // namespace vitrine
