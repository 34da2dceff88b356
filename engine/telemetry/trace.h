// The trace: what was published for each token, kept by token so that every token of a conversation can be selected.
//
// The engine fills one TokenRecord per token (RecordBuilder; engine thread, or the pool beside it), freezes it and puts
// it into the Trace. A record never changes afterwards, so the UI holds it by shared pointer and draws without a lock.
// The Trace is bounded in bytes; the oldest records fall out and say so.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/telemetry/catalog.h"

namespace vitrine {

// One published array of a token. Rows x cols; rows is 1 for vectors.
template <class T>
struct ProbeView {
    std::span<const T> data;
    int rows = 0, cols = 0;
    bool empty() const { return data.empty(); }
    T operator()(int r, int c) const { return data[static_cast<size_t>(r) * cols + c]; }
    T operator[](size_t i) const { return data[i]; }
};

class TokenRecord {
  public:
    static constexpr int kNoLayer = -1;
    // Empty views when the probe was not recorded.
    ProbeView<float> floats(Probe p, int layer = kNoLayer) const;
    ProbeView<int32_t> ints(Probe p, int layer = kNoLayer) const;
    bool has(Probe p, int layer = kNoLayer) const { return find(p, layer) != nullptr; }
    size_t bytes() const;
    // A self-describing blob (versioned, checked on reading) for files.
    std::string serialize() const;
    static std::shared_ptr<const TokenRecord> parse(std::string_view blob, const std::string& file);

  private:
    friend class RecordBuilder;
    struct Entry {
        uint16_t probe;
        int16_t layer;
        uint32_t rows, cols, offset;  // offset in 4-byte words
    };
    const Entry* find(Probe p, int layer) const;
    std::vector<Entry> entries_;   // sorted by (layer, probe), those of no layer last
    std::vector<uint32_t> words_;  // float and int32 bits
};

// Collects the records of the tokens of one forward pass. Owner: the engine thread. One that is kept from pass to pass
// makes records of single tokens in memory that it has already, and hands out copies of their size.
class RecordBuilder {
  public:
    void begin(int n_tokens);
    void put(int token, Probe p, int layer, const float* data, int rows, int cols) {
        append(token, p, layer, data, rows, cols);
    }
    void put(int token, Probe p, int layer, const int32_t* data, int rows, int cols) {
        append(token, p, layer, data, rows, cols);
    }
    std::shared_ptr<const TokenRecord> finish(int token);  // once for each token

  private:
    void append(int token, Probe p, int layer, const void* data, int rows, int cols);
    std::vector<TokenRecord> records_;
};

// Records by (branch, position). Bounded; thread-safe; a lock is held for look-up and insertion only.
class Trace {
  public:
    explicit Trace(size_t max_bytes = size_t{256} << 20) : max_bytes_(max_bytes) {}
    void put(uint64_t branch, int64_t position, std::shared_ptr<const TokenRecord> record);
    std::shared_ptr<const TokenRecord> get(uint64_t branch, int64_t position) const;  // nullptr: never recorded or fell out
    void fork(uint64_t from, uint64_t to, int64_t n_positions);  // `to` shares the records of positions < n_positions
    void cut(uint64_t branch, int64_t n_positions);              // forgets positions >= n_positions
    size_t bytes() const;
    size_t max_bytes() const { return max_bytes_; }
    int64_t n_dropped() const;

  private:
    void evict_locked();
    using Key = std::pair<uint64_t, int64_t>;
    mutable std::mutex mutex_;
    std::map<Key, std::pair<uint64_t, std::shared_ptr<const TokenRecord>>> records_;  // value: (age, record)
    std::map<uint64_t, Key> by_age_;
    uint64_t next_age_ = 0;
    size_t max_bytes_, bytes_ = 0;
    int64_t n_dropped_ = 0;
};

}  // namespace vitrine
