// The host's heap as blocks.
#include "engine/tensor/memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>
#include <string>

#include "engine/base/error.h"

namespace vitrine {
namespace {

constexpr std::align_val_t kAlign{64};

// Large pages, where the system has them: a step walks through hundreds of megabytes.
void prefer_large_pages(void* p, size_t bytes) {
#ifdef MADV_HUGEPAGE
    constexpr size_t kPage = size_t{2} << 20, kLeast = size_t{32} << 20;
    const size_t skipped = -reinterpret_cast<uintptr_t>(p) % kPage;
    if (bytes >= kLeast) madvise(static_cast<std::byte*>(p) + skipped, (bytes - skipped) / kPage * kPage, MADV_HUGEPAGE);
#endif
}

class HostMemory : public Memory {
  public:
    void* take(size_t bytes) override {
        void* p = ::operator new(bytes, kAlign, std::nothrow);
        if (!p) throw Error(ErrorKind::out_of_memory, "out of memory: " + std::to_string(bytes) + " bytes were asked for");
        prefer_large_pages(p, bytes);
        return p;
    }
    void give(void* block) noexcept override { ::operator delete(block, kAlign); }
};

}  // namespace

Memory& host_memory() {
    static HostMemory memory;
    return memory;
}

}  // namespace vitrine
