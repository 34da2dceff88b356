// Where the state of a training run lies.
#include "engine/model/place.h"

#include <cstring>
#include <string>

#include "engine/base/error.h"

namespace vitrine {

Memory& Place::memory() const {
    if constexpr (kHasCuda)
        if (device_) return device_->memory();
    return host_memory();
}

std::shared_ptr<std::byte> Place::zeros(uint64_t n_bytes, const char* what) const {
    try {
        Memory& from = memory();
        auto* block = static_cast<std::byte*>(from.take(n_bytes));
        const std::shared_ptr<std::byte> owner(block, [&from, device = device_](std::byte* p) { from.give(p); });
        clear(block, n_bytes);
        return owner;
    } catch (const Error& e) {
        throw Error(e.kind(), "no memory for " + std::string(what) + ": " + e.what());
    }
}

void Place::clear(void* to, size_t n_bytes) const {
    if constexpr (kHasCuda)
        if (device_) return device_->clear(to, n_bytes);
    std::memset(to, 0, n_bytes);
}

void Place::write(void* to, const void* from, size_t n_bytes) const {
    if constexpr (kHasCuda)
        if (device_) {
            device_->upload(to, from, n_bytes);
            return device_->sync();
        }
    std::memcpy(to, from, n_bytes);
}

HostBytes Place::read(const Tensor& t) const {
    if constexpr (kHasCuda)
        if (device_) {
            HostBytes b{nullptr, std::vector<std::byte>(tensor_bytes(t))};
            device_->download(b.copy.data(), t.data, b.copy.size());
            device_->sync();
            b.data = b.copy.data();
            return b;
        }
    return {static_cast<const std::byte*>(t.data), {}};
}

}  // namespace vitrine
