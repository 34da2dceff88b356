// The pool covers every item once, in pieces that do not depend on the number of threads, and survives being idle.
#include "engine/device/pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace vitrine {
namespace {

TEST(Pool, EveryItemOnceForAnyThreadsAndGrain) {
    for (int threads : {1, 2, 3, 8}) {
        Pool pool(threads);
        EXPECT_EQ(pool.n_threads(), threads);
        for (int64_t n : {0, 1, 2, 17, 257, 1000}) {
            for (int64_t grain : {1, 3, 64, 5000}) {
                std::vector<int> seen(static_cast<size_t>(n), 0);
                pool.parallel_for(n, grain, [&](int64_t b, int64_t e) {
                    for (int64_t i = b; i < e; ++i) ++seen[static_cast<size_t>(i)];
                });
                for (int count : seen) ASSERT_EQ(count, 1) << threads << " threads, n " << n << ", grain " << grain;
            }
        }
    }
}

TEST(Pool, PiecesDependOnSizeAndGrainOnly) {
    std::set<std::pair<int64_t, int64_t>> first;
    for (int threads : {1, 2, 5}) {
        Pool pool(threads);
        std::mutex lock;
        std::set<std::pair<int64_t, int64_t>> pieces;
        pool.parallel_for(103, 10, [&](int64_t b, int64_t e) {
            const std::lock_guard hold(lock);
            pieces.emplace(b, e);
        });
        EXPECT_EQ(pieces.size(), 11u);
        if (first.empty()) first = pieces;
        EXPECT_EQ(pieces, first);
    }
}

// Jobs follow each other at once, after the spin has ended, and with more pieces than threads; plain (non-atomic)
// writes must be visible to the caller: this is the test to run under the thread sanitizer.
TEST(Pool, ManyJobsInARow) {
    Pool pool(4);
    std::vector<int64_t> value(64, 0);
    for (int64_t round = 0; round < 3000; ++round) {
        pool.parallel_for(64, 5, [&](int64_t b, int64_t e) {
            for (int64_t i = b; i < e; ++i) value[static_cast<size_t>(i)] += i + round;
        });
        if (round % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    for (int64_t i = 0; i < 64; ++i) ASSERT_EQ(value[static_cast<size_t>(i)], 3000 * i + 2999 * 3000 / 2);
}

TEST(Pool, OtherThreadsTakePart) {
    Pool pool(2);
    std::atomic<int> inside{0};
    std::atomic<bool> met{false};
    // Each of the two pieces waits for the other: finishes only if two threads run them at the same time.
    pool.parallel_for(2, 1, [&](int64_t, int64_t) {
        inside.fetch_add(1);
        while (inside.load() < 2) std::this_thread::yield();
        met = true;
    });
    EXPECT_TRUE(met.load());
}

TEST(Pool, ComesAndGoes) {
    for (int i = 0; i < 50; ++i) {
        Pool pool(3);
        int64_t sum = 0;
        if (i % 2) pool.parallel_for(1, 1, [&](int64_t, int64_t e) { sum += e; });
        EXPECT_EQ(sum, i % 2);
    }
}

// Plain writes again: the caller sees them after finish_beside, whoever did the job.
TEST(Pool, AJobBesideIsDoneOnceWhoeverDoesIt) {
    for (int threads : {1, 2, 4}) {
        Pool pool(threads);
        pool.finish_beside();  // nothing to finish
        std::vector<int> done(300, 0);
        int64_t sum = 0;
        for (size_t i = 0; i < done.size(); ++i) {
            pool.beside([&, i] { done[i] += 1; });
            std::vector<int64_t> parts(16);
            for (int j = 0; j < 3; ++j)
                pool.parallel_for(16, 1, [&](int64_t b, int64_t) { parts[static_cast<size_t>(b)] += b; });
            if (i % 100 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // workers are asleep
            pool.finish_beside();
            ASSERT_EQ(done[i], 1) << threads << " threads";
            for (int64_t p : parts) sum += p;
        }
        EXPECT_EQ(sum, 300 * 3 * 120);
    }
}

TEST(Pool, WhatAJobBesideThrowsComesOutOfFinish) {
    for (int threads : {1, 2}) {
        Pool pool(threads);
        pool.beside([] { throw std::runtime_error("no memory for the record"); });
        pool.parallel_for(100, 1, [](int64_t, int64_t) {});
        EXPECT_THROW(pool.finish_beside(), std::runtime_error);
        pool.finish_beside();  // told once
        int n = 0;
        pool.beside([&] { ++n; });
        pool.finish_beside();
        EXPECT_EQ(n, 1);
    }
}

}  // namespace
}  // namespace vitrine
