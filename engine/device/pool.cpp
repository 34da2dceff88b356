// The thread pool: workers claim pieces from one 64-bit word, spin briefly when idle, then sleep on a futex.
#include "engine/device/pool.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "engine/base/error.h"

namespace vitrine {
namespace {

constexpr std::chrono::microseconds kSpin{20};

void pause_cpu() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
}

// Polls `ready` for at most kSpin; the clock is read every 32 polls only.
template <class F>
bool spin_until(F&& ready) {
    const auto end = std::chrono::steady_clock::now() + kSpin;
    do {
        for (int i = 0; i < 32; ++i) {
            if (ready()) return true;
            pause_cpu();
        }
    } while (std::chrono::steady_clock::now() < end);
    return ready();
}

}  // namespace

// A job is published by storing (generation << 32 | unclaimed pieces) in `claim`. A thread that takes a piece by
// compare-and-swap knows that the job of that generation cannot end before the piece is done, so it may read the plain
// fields; a thread that was asleep for several jobs fails the swap and touches nothing.
struct Pool::Impl {
    void (*f)(void*, int64_t, int64_t) = nullptr;
    void* context = nullptr;
    int64_t n = 0, grain = 1;
    int64_t n_pieces = 0;

    alignas(64) std::atomic<uint64_t> claim{0};
    alignas(64) std::atomic<uint32_t> unfinished{0};
    alignas(64) std::atomic<uint32_t> wake{0};  // what sleeping workers wait on; changes with every job and at the end
    std::atomic<bool> is_stopping{false};
    uint32_t generation = 0;
    std::vector<std::thread> workers;

    bool take_piece() {
        uint64_t seen = claim.load(std::memory_order_acquire);
        while (static_cast<uint32_t>(seen) != 0) {
            if (!claim.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel, std::memory_order_acquire))
                continue;
            const int64_t i = n_pieces - static_cast<int64_t>(static_cast<uint32_t>(seen));
            const int64_t begin = i * grain;
            f(context, begin, begin + grain < n ? begin + grain : n);
            if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished.notify_one();
            return true;
        }
        return false;
    }

    bool has_pieces() const { return static_cast<uint32_t>(claim.load(std::memory_order_relaxed)) != 0; }

    void work() {
        for (;;) {
            // `wake` is read before looking for pieces, so a job published in between makes the wait return at once.
            const uint32_t seen = wake.load(std::memory_order_acquire);
            if (is_stopping.load(std::memory_order_acquire)) return;
            while (take_piece()) {
            }
            const auto changed = [&] { return has_pieces() || wake.load(std::memory_order_relaxed) != seen; };
            if (!spin_until(changed)) wake.wait(seen, std::memory_order_acquire);
        }
    }
};

Pool::Pool(int n_threads) : impl_(std::make_unique<Impl>()) {
    VITRINE_ASSERT(n_threads >= 1);
    for (int i = 1; i < n_threads; ++i) impl_->workers.emplace_back([this] { impl_->work(); });
}

Pool::~Pool() {
    impl_->is_stopping.store(true, std::memory_order_release);
    impl_->wake.fetch_add(1, std::memory_order_acq_rel);
    impl_->wake.notify_all();
    for (std::thread& t : impl_->workers) t.join();
}

int Pool::n_threads() const {
    return static_cast<int>(impl_->workers.size()) + 1;
}

void Pool::run(int64_t n, int64_t grain, void (*f)(void*, int64_t, int64_t), void* context) {
    VITRINE_ASSERT(grain >= 1);
    if (n <= 0) return;
    const int64_t n_pieces = (n + grain - 1) / grain;
    VITRINE_ASSERT(n_pieces <= INT32_MAX);
    if (impl_->workers.empty() || n_pieces == 1) {
        for (int64_t begin = 0; begin < n; begin += grain) f(context, begin, begin + grain < n ? begin + grain : n);
        return;
    }
    Impl& p = *impl_;
    p.f = f;
    p.context = context;
    p.n = n;
    p.grain = grain;
    p.n_pieces = n_pieces;
    p.unfinished.store(static_cast<uint32_t>(n_pieces), std::memory_order_relaxed);
    p.claim.store(static_cast<uint64_t>(++p.generation) << 32 | static_cast<uint64_t>(n_pieces),
                  std::memory_order_release);
    p.wake.fetch_add(1, std::memory_order_acq_rel);
    p.wake.notify_all();
    while (p.take_piece()) {
    }
    const auto is_done = [&] { return p.unfinished.load(std::memory_order_acquire) == 0; };
    if (spin_until(is_done)) return;
    for (uint32_t left; (left = p.unfinished.load(std::memory_order_acquire)) != 0;) p.unfinished.wait(left);
}

}  // namespace vitrine
