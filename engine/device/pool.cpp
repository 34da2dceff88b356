// The thread pool: every thread has a run of pieces and helps others after it; idle workers spin briefly, then sleep.
#include "engine/device/pool.h"

#include <atomic>
#include <chrono>
#include <exception>
#include <thread>
#include <utility>
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

// Polls `ready` for at most kSpin, calling `idle` in between; the clock is read every 32 polls only.
template <class F, class G>
bool spin_until(F&& ready, G&& idle) {
    const auto end = std::chrono::steady_clock::now() + kSpin;
    do {
        for (int i = 0; i < 32; ++i) {
            if (ready()) return true;
            idle();
        }
    } while (std::chrono::steady_clock::now() < end);
    return ready();
}

}  // namespace

// The pieces of a job are cut into one run of neighbours per thread. A thread takes its own from the front, so that it
// reads memory in the order in which it lies and contends with nobody, and, once they are gone, those of others from
// the back. A run is one word, (next piece << 32 | end). Taking a piece is one compare-and-swap on it: where it
// succeeds the piece belongs to the job that is now published, which can't end before the piece is done, so the plain
// fields may be read after it.
struct Pool::Impl {
    struct alignas(64) Run {
        std::atomic<uint64_t> left{0};
    };
    void (*f)(void*, int64_t, int64_t) = nullptr;
    void* context = nullptr;
    int64_t n = 0, grain = 1;

    std::vector<Run> runs;  // one per thread, the caller's first
    alignas(64) std::atomic<uint32_t> unfinished{0};
    alignas(64) std::atomic<uint32_t> wake{0};  // what sleeping workers wait on; changes with every job and at the end
    std::atomic<bool> is_stopping{false};
    std::atomic<const char*> soon{nullptr};  // what the next job will read; see Pool::will_read
    std::atomic<uint64_t> soon_bytes{0};
    std::vector<std::thread> workers;

    enum Beside : uint32_t { kNone, kWaiting, kRunning };
    std::atomic<uint32_t> beside{kNone};
    std::function<void()> job;      // owned by whoever set `beside` to kRunning
    std::exception_ptr job_failed;  // what it threw

    // Whether there was a job that nobody had begun.
    bool do_job() {
        uint32_t expected = kWaiting;
        if (beside.load(std::memory_order_relaxed) != kWaiting ||
            !beside.compare_exchange_strong(expected, kRunning, std::memory_order_acq_rel))
            return false;
        try {
            job();
        } catch (...) {
            job_failed = std::current_exception();
        }
        job = nullptr;
        beside.store(kNone, std::memory_order_release);
        beside.notify_one();
        return true;
    }

    static bool is_empty(uint64_t left) { return static_cast<uint32_t>(left >> 32) >= static_cast<uint32_t>(left); }

    // The next piece of a run, or -1.
    static int64_t take(Run& run, bool is_mine) {
        uint64_t seen = run.left.load(std::memory_order_acquire);
        while (!is_empty(seen)) {
            const uint64_t rest = is_mine ? seen + (uint64_t{1} << 32) : seen - 1;
            if (run.left.compare_exchange_weak(seen, rest, std::memory_order_acq_rel, std::memory_order_acquire))
                return static_cast<int64_t>(is_mine ? seen >> 32 : (seen & 0xffffffffu) - 1);
        }
        return -1;
    }

    // Works on pieces until there are none to take. A piece counts as done when its thread has no more of that run.
    void work_off(size_t me) {
        for (size_t i = 0; i < runs.size(); ++i) {
            Run& run = runs[(me + i) % runs.size()];
            uint32_t n_done = 0;
            for (int64_t piece; (piece = take(run, i == 0)) >= 0; ++n_done) {
                const int64_t begin = piece * grain;
                f(context, begin, begin + grain < n ? begin + grain : n);
            }
            if (n_done != 0 && unfinished.fetch_sub(n_done, std::memory_order_acq_rel) == n_done)
                unfinished.notify_one();
        }
    }

    // Fetches a little of this thread's part of what will be read soon into its L2 cache. A prefetch can't fault, so the two
    // words may be of different hints.
    void fetch_early(size_t me, const char*& hint, uint64_t& done) const {
        constexpr uint64_t kAtMost = 384 << 10, kStep = 512;
        const char* data = soon.load(std::memory_order_relaxed);
        if (data != hint) hint = data, done = 0;
        const uint64_t part = soon_bytes.load(std::memory_order_relaxed) / runs.size();
        if (data == nullptr || done >= kAtMost || done >= part) return pause_cpu();
        const char* from = data + part * me + done;
        for (uint64_t i = 0; i < kStep; i += 64) __builtin_prefetch(from + i, 0, 2);
        done += kStep;
    }

    void work(size_t me) {
        const char* hint = nullptr;
        uint64_t done = 0;
        for (;;) {
            // `wake` is read before looking for pieces, so a job published in between makes the wait return at once.
            const uint32_t seen = wake.load(std::memory_order_acquire);
            if (is_stopping.load(std::memory_order_acquire)) return;
            work_off(me);
            do_job();
            const auto changed = [&] { return wake.load(std::memory_order_relaxed) != seen; };
            if (!spin_until(changed, [&] { fetch_early(me, hint, done); })) wake.wait(seen, std::memory_order_acquire);
        }
    }
};

Pool::Pool(int n_threads) : impl_(std::make_unique<Impl>()) {
    VITRINE_ASSERT(n_threads >= 1);
    impl_->runs = std::vector<Impl::Run>(static_cast<size_t>(n_threads));
    for (int i = 1; i < n_threads; ++i) impl_->workers.emplace_back([this, i] { impl_->work(static_cast<size_t>(i)); });
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

void Pool::will_read(const void* data, uint64_t bytes) {
    impl_->soon_bytes.store(bytes, std::memory_order_relaxed);
    impl_->soon.store(static_cast<const char*>(data), std::memory_order_relaxed);
}

void Pool::beside(std::function<void()> job) {
    VITRINE_ASSERT(impl_->beside.load(std::memory_order_acquire) == Impl::kNone);
    impl_->job = std::move(job);
    impl_->beside.store(Impl::kWaiting, std::memory_order_release);
}

void Pool::finish_beside() {
    impl_->do_job();
    impl_->beside.wait(Impl::kRunning, std::memory_order_acquire);
    if (impl_->job_failed) std::rethrow_exception(std::exchange(impl_->job_failed, nullptr));
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
    p.unfinished.store(static_cast<uint32_t>(n_pieces), std::memory_order_relaxed);
    const auto n_runs = static_cast<int64_t>(p.runs.size());
    for (int64_t i = n_runs - 1; i >= 0; --i)  // the caller's own last: whoever is awake may begin
        p.runs[static_cast<size_t>(i)].left.store(
            static_cast<uint64_t>(i * n_pieces / n_runs) << 32 | static_cast<uint64_t>((i + 1) * n_pieces / n_runs),
            std::memory_order_release);
    p.wake.fetch_add(1, std::memory_order_acq_rel);
    p.wake.notify_all();
    p.work_off(0);
    const auto is_done = [&] { return p.unfinished.load(std::memory_order_acquire) == 0; };
    if (spin_until(is_done, pause_cpu)) return;
    for (uint32_t left; (left = p.unfinished.load(std::memory_order_acquire)) != 0;) p.unfinished.wait(left);
}

}  // namespace vitrine
