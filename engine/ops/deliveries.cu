// Watched values on their way from the GPU to the host.
#include "engine/ops/deliveries.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/ops/kernel.cuh"

namespace vitrine::cuda {
namespace {

struct Source {
    const void* data;
    int64_t count, offset;  // elements; bytes in the staging memory
    bool is_bf16;
};

// One row of blocks per source: 4-byte elements as they are, BF16 widened.
__global__ void gather_sources(const Source* sources, std::byte* to) {
    after_previous();
    const Source s = sources[blockIdx.y];
    auto* out = reinterpret_cast<float*>(to + s.offset);
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < s.count; i += step)
        out[i] = s.is_bf16 ? widen(static_cast<const bf16*>(s.data)[i]) : static_cast<const float*>(s.data)[i];
}

}  // namespace

Deliveries::~Deliveries() {
    if (on_device_) device_.memory().give(on_device_);
    if (list_) device_.memory().give(list_);
    for (std::byte* p : on_host_)
        if (p) cudaFreeHost(p);
    if (host_list_) cudaFreeHost(host_list_);
}

void Deliveries::clear() {
    items.clear(), measures_.clear();
    bytes = n_placed_ = 0;
}

// Memory is given back only after the stream was waited for: what was queued may still use it.
void Deliveries::reserve() {
    if (bytes > capacity_) {
        device_.sync();
        if (on_device_) device_.memory().give(std::exchange(on_device_, nullptr));
        capacity_ = bytes + bytes / 2;
        on_device_ = static_cast<std::byte*>(device_.memory().take(capacity_));
        for (std::byte*& p : on_host_) {
            if (p) cudaFreeHost(std::exchange(p, nullptr));
            device_.check(cudaMallocHost(&p, capacity_), "reserving host memory for watched values");
        }
    }
    const size_t list_bytes = items.size() * sizeof(Source);
    if (list_bytes > list_capacity_) {
        device_.sync();
        if (list_) device_.memory().give(std::exchange(list_, nullptr));
        if (host_list_) cudaFreeHost(std::exchange(host_list_, nullptr));
        list_capacity_ = 2 * list_bytes;
        list_ = static_cast<std::byte*>(device_.memory().take(list_capacity_));
        device_.check(cudaMallocHost(&host_list_, list_capacity_), "reserving host memory for watched values");
    }
}

// A captured step keeps its items, so their list is uploaded once.
void Deliveries::place_list() {
    if (n_placed_ == items.size()) return;
    reserve();
    longest_ = 0;
    for (size_t i = 0; i < items.size(); ++i) {
        const Tensor& t = items[i].source;
        const Source s{t.data, t.count(), static_cast<int64_t>(items[i].offset), t.dtype == DType::bf16};
        std::memcpy(host_list_ + i * sizeof s, &s, sizeof s);
        longest_ = std::max(longest_, t.count());
    }
    device_.upload(list_, host_list_, items.size() * sizeof(Source));
    n_placed_ = items.size();
}

void Deliveries::gather() {
    for (const auto& [type, measures] : measures_) measures->run(device_);
    if (items.empty()) return;
    place_list();
    const dim3 grid(std::min(ceil_div(longest_, 256), 64u), static_cast<unsigned>(items.size()));
    gather_sources<<<grid, 256, 0, device_.stream()>>>(reinterpret_cast<const Source*>(list_), on_device_);
    device_.check(cudaGetLastError(), "gathering watched values");
    turn_ = 1 - turn_;
    device_.download(on_host_[turn_], on_device_, bytes);
}

void Deliveries::hand_out(const std::vector<TokenAt>& tokens, ProbeSink& sink, int turn) const {
    for (const Item& i : items) i.put({on_host_[turn] + i.offset, tokens.data(), static_cast<int>(tokens.size())}, sink);
}

Deliveries& Device::deliveries() {
    if (!deliveries_) deliveries_ = std::make_shared<Deliveries>(*this);
    return *deliveries_;
}

void Device::deliver(const Tensor& x, Deliver put) {
    VITRINE_ASSERT(x.dtype == DType::f32 || x.dtype == DType::bf16 || x.dtype == DType::i32);
    Deliveries& d = deliveries();
    d.items.push_back({x, std::move(put), d.bytes});
    d.bytes += (static_cast<size_t>(x.count()) * 4 + 15) / 16 * 16;
}

}  // namespace vitrine::cuda
