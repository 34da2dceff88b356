// Watched values on their way from the GPU to the host: gathered by one kernel, copied once, handed out in order.
#pragma once
#include <vector>

#include "engine/device/cuda/device.h"
#include "engine/telemetry/probes.h"
#include "engine/tensor/tensor.h"

namespace vitrine::cuda {

struct Deliveries {
    struct Item {
        Tensor source;     // valid until `gather` was queued
        Deliver put;
        size_t offset;     // in the staging memory, in bytes
    };
    std::vector<Item> items;
    size_t bytes = 0;

    explicit Deliveries(Device& device) : device_(device) {}
    ~Deliveries();
    // Queues the copies of every item to the host. Call before the sources are released.
    void gather();
    // Once the stream has been waited for: calls every `put`. `tokens` are those of the step, on the host.
    void hand_out(const std::vector<TokenAt>& tokens, ProbeSink& sink) const;
    void reserve(size_t n_bytes, size_t n_items);
    void clear() { items.clear(), bytes = 0; }
    bool empty() const { return items.empty(); }

  private:
    Device& device_;
    std::byte *on_device_ = nullptr, *on_host_ = nullptr, *list_ = nullptr, *host_list_ = nullptr;
    size_t capacity_ = 0, list_capacity_ = 0;
};

}  // namespace vitrine::cuda
