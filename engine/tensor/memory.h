// Where blocks of memory come from: the host's heap, or a GPU.
#pragma once
#include <cstddef>

namespace vitrine {

class Memory {
  public:
    virtual ~Memory() = default;
    virtual void* take(size_t bytes) = 0;  // aligned to 64 bytes at least; Error(out_of_memory) names bytes asked for and free
    virtual void give(void* block) noexcept = 0;
};

Memory& host_memory();

}  // namespace vitrine
