// How fast this machine reads memory: the yardstick for decoding, whose time goes into reading weights.
#pragma once
#include <cstdint>
#include <memory>

#include "engine/device/pool.h"

namespace vitrine::cpu {

struct Bandwidth {
    double best_gb_per_s = 0;  // of the fastest pass; GB = 1e9 bytes
    double median_gb_per_s = 0;
    uint64_t bytes_read = 0;  // over all passes
    int n_threads = 0;
};

// Reads a buffer of `buffer_bytes` (far larger than the caches; ordinary 4 KiB pages, like a mapped file) from end to
// end with all threads of the pool, until at least `total_bytes` are read and at least 5 passes are made. Throws
// Error(out_of_memory) when there is no room for the buffer.
Bandwidth measure_read_bandwidth(Pool& pool, uint64_t total_bytes = uint64_t{4} << 30,
                                 uint64_t buffer_bytes = uint64_t{512} << 20);

// The same in short slices, to be taken in turn with what is compared with it: both then see the machine in the same state
// (on a virtual machine the bandwidth of two threads was seen to change between 27 and 47 GB/s from second to second).
class ReadMeter {
  public:
    explicit ReadMeter(Pool& pool, uint64_t buffer_bytes = uint64_t{256} << 20);  // Error(out_of_memory)
    double slice();  // reads half of the buffer, each half in turn; GB/s
    uint64_t bytes_read() const { return bytes_read_; }

  private:
    Pool& pool_;
    int64_t n_;  // words
    std::unique_ptr<uint64_t[]> buffer_;
    int64_t n_slices_ = 0;
    uint64_t bytes_read_ = 0;
};

// The sum of n words (n a multiple of 8), read front to back.
uint64_t read_words(const uint64_t* p, int64_t n);

}  // namespace vitrine::cpu
