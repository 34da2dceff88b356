// The thread pool used inside CPU ops: a blocking parallel-for over a fixed split.
//
// Workers spin at most 20 microseconds after their last task, then block on a futex; there is no busy barrier. The
// split of [0, n) depends on n and grain alone, never on the number of threads, so results are the same bits for any
// thread count.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>

namespace vitrine {

class Pool {
  public:
    explicit Pool(int n_threads);  // in all, the caller included; >= 1
    ~Pool();
    int n_threads() const;

    // Calls f(begin, end) for the pieces of [0, n) of `grain` items each (the last may be shorter), on any thread, and
    // returns when all are done. Exceptions must not leave f. Not reentrant; called by the engine thread only.
    template <class F>
    void parallel_for(int64_t n, int64_t grain, F&& f) {
        run(
            n, grain, [](void* c, int64_t b, int64_t e) { (*static_cast<std::remove_reference_t<F>*>(c))(b, e); }, &f);
    }

    // A hint, given before a job: the one after it will read this memory from beginning to end, cut evenly over its pieces.
    // Workers that wait in between fetch their part into the cache. Memory that is gone by then does no harm.
    void will_read(const void* data, uint64_t bytes);

    // One job beside the others: done by a worker that has no piece left, at the latest by the caller in finish_beside(), which
    // throws what it threw. Pieces that run meanwhile must not touch what it touches. One at a time: finish it before the next.
    void beside(std::function<void()> job);
    void finish_beside();

  private:
    void run(int64_t n, int64_t grain, void (*f)(void*, int64_t, int64_t), void* context);
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace vitrine
