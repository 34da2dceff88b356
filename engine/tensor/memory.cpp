// The host's heap as blocks.
#include "engine/tensor/memory.h"

#include <new>
#include <string>

#include "engine/base/error.h"

namespace vitrine {
namespace {

constexpr std::align_val_t kAlign{64};

class HostMemory : public Memory {
  public:
    void* take(size_t bytes) override {
        void* p = ::operator new(bytes, kAlign, std::nothrow);
        if (!p) throw Error(ErrorKind::out_of_memory, "out of memory: " + std::to_string(bytes) + " bytes were asked for");
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
