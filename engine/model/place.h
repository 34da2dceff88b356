// Where the state of a training run lies: in the host's memory or in a GPU's.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/device/cuda/device.h"
#include "engine/tensor/tensor.h"

namespace vitrine {

// The bytes of a tensor as the host sees them: the tensor's own memory, or a copy.
struct HostBytes {
    const std::byte* data;
    std::vector<std::byte> copy;
};

class Place {
  public:
    // nullptr: the host.
    explicit Place(std::shared_ptr<cuda::Device> device = nullptr) : device_(std::move(device)) {}
    cuda::Device* gpu() const { return device_.get(); }
    Memory& memory() const;
    size_t alignment() const { return gpu() ? 256 : 64; }
    // Zeroed and aligned; `what` for the message of Error(out_of_memory): "the optimizer".
    std::shared_ptr<std::byte> zeros(uint64_t n_bytes, const char* what) const;
    void clear(void* to, size_t n_bytes) const;
    void write(void* to, const void* from, size_t n_bytes) const;  // from the host; `from` may go when it returns
    HostBytes read(const Tensor& t) const;                         // waits for what was queued

  private:
    std::shared_ptr<cuda::Device> device_;
};

inline uint64_t tensor_bytes(const Tensor& t) { return (static_cast<uint64_t>(t.count()) * dtype_bits(t.dtype) + 7) / 8; }

}  // namespace vitrine
