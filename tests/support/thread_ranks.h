// Ranks as threads of the test's process: what the sums and the trainer do over ranks, without MPI.
#pragma once
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/base/error.h"
#include "engine/comm/communicator.h"

namespace vitrine::test {

class ThreadRanks {
  public:
    explicit ThreadRanks(int size) : size_(size), from_(static_cast<size_t>(size)) {}

    // body(ranks) on every rank at once; the first rank's exception that was thrown comes out.
    void run(const std::function<void(Communicator&)>& body) {
        std::vector<std::thread> threads;
        std::exception_ptr failed;
        for (int r = 0; r < size_; ++r)
            threads.emplace_back([&, r] {
                Rank rank(*this, r);
                try {
                    body(rank);
                } catch (...) {
                    const std::lock_guard lock(mutex_);
                    if (!failed) failed = std::current_exception();
                    is_over_ = true, moved_.notify_all();
                }
            });
        for (std::thread& t : threads) t.join();
        if (failed) std::rethrow_exception(failed);
    }

  private:
    class Rank : public Communicator {
      public:
        Rank(ThreadRanks& all, int rank) : all_(all), rank_(rank) {}
        int rank() const override { return rank_; }
        int size() const override { return all_.size_; }
        int rank_on_host() const override { return rank_; }
        int size_on_host() const override { return all_.size_; }
        void barrier() override { all_.meet(); }
        void send(std::span<const std::byte> bytes, int to) override {
            const std::lock_guard lock(all_.mutex_);
            all_.letters_[{rank_, to}].emplace_back(bytes.begin(), bytes.end());
            all_.moved_.notify_all();
        }
        void receive(std::span<std::byte> bytes, int from) override {
            std::unique_lock lock(all_.mutex_);
            auto& waiting = all_.letters_[{from, rank_}];
            all_.moved_.wait(lock, [&] { return !waiting.empty() || all_.is_over_; });
            if (waiting.empty()) throw Error(ErrorKind::internal, "another rank has failed");
            VITRINE_ASSERT(waiting.front().size() == bytes.size());
            std::memcpy(bytes.data(), waiting.front().data(), bytes.size());
            waiting.pop_front();
        }
        void end_all(int code) override {
            throw Error(ErrorKind::internal, "rank " + std::to_string(rank_) + " ended all with " + std::to_string(code));
        }
        void broadcast(std::span<std::byte> bytes, int from) override {
            show(bytes.data());
            if (rank_ != from) std::memcpy(bytes.data(), all_.from_[static_cast<size_t>(from)], bytes.size());
            all_.meet();
        }

      protected:
        void exchange(const std::byte* from, std::byte* to, size_t n) override {
            show(from);
            for (size_t r = 0; r < all_.from_.size(); ++r)
                std::memcpy(to + r * n, all_.from_[r] + static_cast<size_t>(rank_) * n, n);
            all_.meet();
        }
        void gather(const std::byte* from, std::byte* to, size_t n) override {
            show(from);
            for (size_t r = 0; r < all_.from_.size(); ++r) std::memcpy(to + r * n, all_.from_[r], n);
            all_.meet();
        }

      private:
        void show(const std::byte* from) {
            all_.from_[static_cast<size_t>(rank_)] = from;
            all_.meet();
        }
        ThreadRanks& all_;
        int rank_;
    };

    void meet() {
        std::unique_lock lock(mutex_);
        const int64_t round = round_;
        if (++n_here_ == size_) n_here_ = 0, ++round_, moved_.notify_all();
        moved_.wait(lock, [&] { return round_ != round || is_over_; });
        if (round_ == round) throw Error(ErrorKind::internal, "another rank has failed");
    }

    const int size_;
    std::vector<const std::byte*> from_;
    std::map<std::pair<int, int>, std::deque<std::vector<std::byte>>> letters_;  // by sender and receiver
    std::mutex mutex_;
    std::condition_variable moved_;
    int n_here_ = 0;
    int64_t round_ = 0;
    bool is_over_ = false;
};

}  // namespace vitrine::test
