// One GPU as the engine uses it: its memory, its stream, what the kernels of a step read, and how probes come back.
//
// A build without nvcc has kHasCuda false, and everything below but `gpus` is declared and never defined: callers stand behind
// `if constexpr (kHasCuda)`. Owner: the engine thread.
#pragma once
#include <vitrine_cuda.h>  // VITRINE_CUDA, 0 or 1: written by engine/CMakeLists.txt

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/tensor/memory.h"
#include "engine/tensor/tensor.h"

struct CUstream_st;

namespace vitrine {
class Arena;
class ProbeSink;
#if VITRINE_CUDA
inline constexpr bool kHasCuda = true;
#else
inline constexpr bool kHasCuda = false;
#endif
}  // namespace vitrine

namespace vitrine::cuda {

struct Gpu {
    int index = 0;
    std::string name;                       // "NVIDIA H200"
    int compute_capability = 0;             // 90
    int n_multiprocessors = 0;
    uint64_t total_bytes = 0, free_bytes = 0;
};
// Those that this program can use; with none, why there is none, in one line.
struct Gpus {
    std::vector<Gpu> found;
    std::string why_none;
};
Gpus gpus();                                // in every build
// Bytes read and written per second, in units of 1e9, by copies within the GPU's memory of 2 GiB: the best of five.
double copy_gb_per_s(int gpu);

// A token of the batch.
struct TokenAt {
    int32_t id, sequence;
    int64_t position;
};

// One layer's cache of one sequence: row p of a ring lies in slot p mod capacity.
struct LayerView {
    std::byte *window, *entries, *index_keys;
    float *compressor, *index_compressor;
    int64_t window_capacity, compressor_capacity, index_compressor_capacity;
    std::byte* streams = nullptr;           // of the drafter's layer: the trunk's streams [N, D], ctx.activation()
    int64_t streams_capacity = 1;
};

// What the kernels of one forward pass read in place of host values, so that a captured step serves any token and position.
// Pointers are to the GPU's memory.
struct Step {
    const TokenAt* tokens = nullptr;        // [n_tokens]
    const LayerView* views = nullptr;       // [n_layers, n_sequences]
    const int32_t* last_rows = nullptr;     // [n_sequences] a sequence's last row of the batch
    int n_tokens = 0, n_sequences = 0;
    int64_t longest = 0;                    // no sequence is longer after this step: sizes grids and scratch, no result
    const LayerView* layer(int l) const { return views + static_cast<int64_t>(l) * n_sequences; }
};

// A value that somebody watches, as it came back to the host: the rows of one tensor, BF16 widened to FP32.
struct Arrived {
    const void* data;
    const TokenAt* tokens;                  // [n_tokens] of the batch
    int n_tokens;
    const float* f32() const { return static_cast<const float*>(data); }
    const int32_t* i32() const { return static_cast<const int32_t*>(data); }
};
using Deliver = std::function<void(const Arrived&, ProbeSink&)>;
struct Deliveries;

class Device {
  public:
    explicit Device(int index);             // Error(device) when it is not there
    ~Device();
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    const Gpu& gpu() const { return gpu_; }
    uint64_t free_bytes() const;
    CUstream_st* stream() const { return stream_; }
    Memory& memory() const { return *memory_; }
    // Error(device) with what was being done; the device may be lost for good then.
    void check(int status, const char* what) const;
    void sync();                            // waits for all that was queued
    // Queued copies; from pageable memory `upload` returns once the bytes are read.
    void upload(void* to, const void* from, size_t bytes);
    void download(void* to, const void* from, size_t bytes);
    void copy(void* to, const void* from, size_t bytes);
    void clear(void* to, size_t bytes);

    // Queues the whole tensor x (f32, bf16 or i32, in this GPU's memory) for the watcher: `put` is called on the host once the
    // step, or its block, is done. A captured step keeps its queue, so `put` may depend on nothing but what it is given.
    void deliver(const Tensor& x, Deliver put);
    Deliveries& deliveries();               // engine/ops/deliveries.h

    std::shared_ptr<Deliveries> exchange_deliveries(std::shared_ptr<Deliveries> d) {
        deliveries_.swap(d);
        return d;
    }
    // ---- for a training step, whose ops know their batch on the host
    // These numbers in the GPU's memory until `forget`, uploaded once for each list.
    const int32_t* ints(std::span<const int32_t> values);
    // Queues a copy of x to the host; `use` is called with its bytes by the next `collect`, which waits for all of them.
    void read_later(const Tensor& x, std::function<void(const void*)> use);
    void collect();
    Arena& kept();                          // memory until `forget`: what a whole step shares
    void forget();                          // at the start of a step; waits for what was queued

    // Products that were made together before the ops that own them ask for them (cuda::linear_ahead).
    struct Ahead {
        const void *x, *w;
        Tensor y;
    };
    std::vector<Ahead> ahead;
    // All weights together are more than 1 GiB: what a token reads of them would fill the second-level cache.
    bool reads_weights_once = false;
    std::function<void()> after_block;      // set: a block's watched values must go before its memory is used again

    // cuBLAS, opened at first use (engine/device/cuda/blas.h).
    struct Blas;
    Blas& blas();

    Step step;

  private:
    Gpu gpu_;
    CUstream_st* stream_ = nullptr;
    std::unique_ptr<Memory> memory_;
    std::shared_ptr<Blas> blas_;
    struct Transfers;
    std::shared_ptr<Transfers> transfers_;
    Transfers& transfers();
    std::shared_ptr<Deliveries> deliveries_;
};

// A block of a GPU's memory.
class Buffer {
  public:
    Buffer(std::shared_ptr<Device> device, size_t bytes);
    ~Buffer();
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    std::byte* data() const { return data_; }
    size_t bytes() const { return bytes_; }
    Device& device() const { return *device_; }
    std::shared_ptr<Buffer> clone(size_t bytes) const;  // of `bytes`, the common part copied

  private:
    std::shared_ptr<Device> device_;
    std::byte* data_;
    size_t bytes_;
};

}  // namespace vitrine::cuda
