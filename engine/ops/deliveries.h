// What a step leaves for later. Watched values on their way from the GPU to the host: measured for all layers at once, gathered by
// one kernel, copied once, handed out in order.
#pragma once
#include <algorithm>
#include <map>
#include <memory>
#include <typeindex>
#include <vector>

#include "engine/device/cuda/device.h"
#include "engine/telemetry/probes.h"
#include "engine/tensor/tensor.h"

namespace vitrine::cuda {

// What one launch measures, an argument of the kernel: a row of blocks for each.
template <class Job>
struct Jobs {
    static constexpr int kMost = 8;
    Job at[kMost];
    int n;
    static_assert(kMost * sizeof(Job) <= 4080, "a kernel's arguments");
};

struct WaitingMix;
struct Mixing;

struct Deliveries {
    std::shared_ptr<WaitingMix> waiting_mix;  // of streams that are still to be made (cuda::hyper_mix)
    std::shared_ptr<Mixing> mixing;  // of the newest site, until a kernel before its mix makes them (take_mixing)
    struct Item {
        Tensor source;     // valid until `gather` was queued
        Deliver put;
        size_t offset;     // in the staging memory, in bytes
    };
    std::vector<Item> items;
    size_t bytes = 0;

    explicit Deliveries(Device& device) : device_(device) {}
    ~Deliveries();
    // `launch` gets this job and those of other layers when `gather` is called: what they read must still be there.
    template <class Job>
    void measure_later(const Job& job, void (*launch)(Device&, const Jobs<Job>&)) {
        auto& kind = measures_[typeid(Job)];
        if (!kind) kind = std::make_unique<MeasuresOf<Job>>(launch);
        static_cast<MeasuresOf<Job>&>(*kind).jobs.push_back(job);
    }
    // Queues measures and the copies of every item to the host. Call before the sources are released; again for the same items
    // when a captured step has run again.
    void gather();
    // Once the stream has been waited for: calls every `put` with what the last `gather` copied, or that of another turn. `tokens`
    // are those of the step, on the host.
    void hand_out(const std::vector<TokenAt>& tokens, ProbeSink& sink) const { hand_out(tokens, sink, turn_); }
    void hand_out(const std::vector<TokenAt>& tokens, ProbeSink& sink, int turn) const;
    int turn() const { return turn_; }  // of the last gather: its values lie on the host until the next but one
    void clear();
    bool empty() const { return items.empty(); }

  private:
    struct Measures {
        virtual ~Measures() = default;
        virtual void run(Device& device) const = 0;
    };
    template <class Job>
    struct MeasuresOf : Measures {
        explicit MeasuresOf(void (*f)(Device&, const Jobs<Job>&)) : launch(f) {}
        void run(Device& device) const override {
            for (size_t i = 0; i < jobs.size(); i += Jobs<Job>::kMost) {
                Jobs<Job> some{};
                some.n = static_cast<int>(std::min<size_t>(Jobs<Job>::kMost, jobs.size() - i));
                std::copy_n(jobs.begin() + static_cast<std::ptrdiff_t>(i), some.n, some.at);
                launch(device, some);
            }
        }
        void (*launch)(Device&, const Jobs<Job>&);
        std::vector<Job> jobs;
    };
    void reserve();
    void place_list();

    Device& device_;
    std::map<std::type_index, std::unique_ptr<Measures>> measures_;
    std::byte *on_device_ = nullptr, *on_host_[2] = {}, *list_ = nullptr, *host_list_ = nullptr;
    size_t capacity_ = 0, list_capacity_ = 0, n_placed_ = 0;  // n_placed_: items in the list on the GPU
    int64_t longest_ = 0;
    int turn_ = 0;
};

}  // namespace vitrine::cuda
