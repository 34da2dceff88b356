// NCCL behind dlopen: sums over GPUs of several processes. nccl.cpp where CMake found nccl.h, no_nccl.cpp else.
#pragma once
#include <cstddef>
#include <memory>
#include <string>

namespace vitrine {
class Communicator;
}

namespace vitrine::cuda {
class Device;

// Why NCCL can't be used in this process, in a few words; "" when it can.
std::string nccl_missing();

// Only where nccl_missing() is "" on every rank. Made by all ranks at once. Error(device) with NCCL's own words.
class NcclSums {
  public:
    NcclSums(Device& device, Communicator& ranks);
    void sum(float* values, size_t n);  // in place, queued on the device's stream
    std::string version() const;        // "NCCL 2.28.9"

  private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace vitrine::cuda
