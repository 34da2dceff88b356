// Per-step scratch: activations are bump-allocated and released all at once.
#pragma once
#include <cstddef>
#include <vector>

#include "engine/tensor/memory.h"
#include "engine/tensor/tensor.h"

namespace vitrine {

// Bump allocator in blocks of the host's or a GPU's memory. Grows by blocks, never shrinks. What is made is aligned to 64 bytes,
// and to 256 on a GPU. What differs in size from step to step leaves gaps at the ends of blocks: merge() now and then.
// Owner: the engine thread.
class Arena {
  public:
    explicit Arena(Memory& memory = host_memory(), size_t align = 64) : memory_(memory), align_(align) {}
    ~Arena();
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    Tensor make(DType t, Shape s);                   // uninitialised
    template <class T>
    Tensor make(Shape s) { return make(dtype_of<T>(), s); }
    void* bytes(size_t n);

    // Releases everything allocated since the mark when it goes out of scope.
    class Scope {
      public:
        explicit Scope(Arena& a) : arena_(a), block_(a.block_), used_(a.used_) {}
        ~Scope() { arena_.block_ = block_, arena_.used_ = used_; }
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

      private:
        Arena& arena_;
        size_t block_, used_;
    };
    void clear() { block_ = used_ = 0; }             // releases everything, keeps the memory
    // Releases everything; several blocks become one that is as large as all of them. Nothing may refer to them any more, queued
    // work of a GPU neither.
    void merge();
    size_t used_bytes() const;                       // handed out at present, in whole blocks but the last
    size_t allocated_bytes() const;                  // as held from the system

  private:
    struct Block {
        std::byte* base;
        size_t size;
    };
    Memory& memory_;
    size_t align_;
    std::vector<Block> blocks_;
    size_t block_ = 0, used_ = 0;
};

}  // namespace vitrine
