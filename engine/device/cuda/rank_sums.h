// Sums over ranks of numbers in a GPU's memory, each rank with a GPU of its own: by NCCL, or through the host's memory.
#pragma once
#include <cstddef>
#include <memory>
#include <string>

#include "engine/device/cuda/device.h"

namespace vitrine {
class Communicator;
}

namespace vitrine::cuda {

// NCCL is opened at first use, like cuBLAS; without it (not there, a build that had no nccl.h, ranks that share a GPU) the numbers
// go through pinned host memory and Communicator::sum. Made and used by all ranks at once. Errors as Device's.
class RankSums {
  public:
    RankSums(Device& device, Communicator& ranks);
    ~RankSums();
    RankSums(const RankSums&) = delete;
    RankSums& operator=(const RankSums&) = delete;

    // f32 in place, the same bits on every rank. By NCCL: queued on the device's stream, added in FP32 in the order of NCCL's
    // rings, which the same machine repeats. Through the host: waits; added in FP64 in the order of ranks.
    void sum(float* values, size_t n);
    const std::string& way() const { return way_; }  // "NCCL 2.28.9", or why it goes through the host

  private:
    struct Nccl;
    Device& device_;
    Communicator& ranks_;
    std::unique_ptr<Nccl> nccl_;
    float* staged_ = nullptr;  // pinned
    std::string way_;
};

}  // namespace vitrine::cuda
