// NCCL behind dlopen: sums over GPUs of several processes. nccl.cpp where CMake found nccl.h, no_nccl.cpp else.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "engine/tensor/tensor.h"

namespace vitrine {
class Communicator;
}

namespace vitrine::cuda {
class Device;

// Why NCCL can't be used in this process, in a few words; "" when it can.
std::string nccl_missing();

// The same for all of these ranks, each of which needs a GPU of its own. By all ranks at once; where one can't, each
// says why.
std::string why_no_nccl(Device& device, Communicator& ranks);

// Only where why_no_nccl() is "". Made by all ranks at once. Error(device) with NCCL's own words.
class NcclSums {
  public:
    NcclSums(Device& device, Communicator& ranks);
    // Queued on the device's stream, in place.
    void sum(float* values, size_t n);
    // f32 or bf16; only rank 0 has the sum, the others' values are lost.
    void sum_to_first(void* values, size_t n, DType dtype);
    void broadcast(std::span<const std::span<std::byte>> blocks);  // rank 0's to all
    std::string version() const;        // "NCCL 2.28.9"

  private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace vitrine::cuda
