// Small lists on their way to a GPU and small results on their way back, during a training step.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "engine/device/cuda/device.h"
#include "engine/tensor/arena.h"

namespace vitrine::cuda {
namespace {

// Memory that the GPU copies to and from while the host goes on.
class PinnedMemory : public Memory {
  public:
    void* take(size_t bytes) override {
        void* p = nullptr;
        if (cudaMallocHost(&p, bytes) == cudaSuccess) return p;
        cudaGetLastError();
        throw Error(ErrorKind::out_of_memory,
                    "no host memory for copies to a GPU: " + std::to_string(bytes) + " bytes were asked for");
    }
    void give(void* block) noexcept override { cudaFreeHost(block); }
};

}  // namespace

struct Device::Transfers {
    explicit Transfers(Memory& device) : on_device(device, 256), on_host(pinned) {}
    struct Reading {
        const void* data;
        std::function<void(const void*)> use;
    };
    PinnedMemory pinned;
    Arena on_device, on_host;
    std::map<std::vector<int32_t>, const int32_t*> lists;
    std::vector<Reading> readings;
};

Device::Transfers& Device::transfers() {
    if (!transfers_) transfers_ = std::make_shared<Transfers>(*memory_);
    return *transfers_;
}

const int32_t* Device::ints(std::span<const int32_t> values) {
    Transfers& t = transfers();
    auto [at, is_new] = t.lists.try_emplace(std::vector<int32_t>(values.begin(), values.end()));
    if (!is_new) return at->second;
    const size_t bytes = std::max<size_t>(values.size_bytes(), 4);
    void *staged = t.on_host.bytes(bytes), *there = t.on_device.bytes(bytes);
    std::memcpy(staged, values.data(), values.size_bytes());
    upload(there, staged, values.size_bytes());
    return at->second = static_cast<const int32_t*>(there);
}

void Device::read_later(const Tensor& x, std::function<void(const void*)> use) {
    Transfers& t = transfers();
    const size_t bytes = static_cast<size_t>(x.count()) * dtype_bits(x.dtype) / 8;
    void* to = t.on_host.bytes(bytes);
    download(to, x.data, bytes);
    t.readings.push_back({to, std::move(use)});
}

Arena& Device::kept() { return transfers().on_device; }

void Device::collect() {
    sync();
    const auto readings = std::exchange(transfers().readings, {});
    for (const Transfers::Reading& r : readings) r.use(r.data);
}

void Device::forget() {
    sync();
    Transfers& t = transfers();
    t.lists.clear(), t.readings.clear();
    t.on_device.merge(), t.on_host.merge();
}

}  // namespace vitrine::cuda
