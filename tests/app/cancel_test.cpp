// Cancels at random points of prefill, decoding and loading: each is answered, and what comes after is as if nothing
// had been. Prints how long the answers took, from the call to the worker's "idle", of all repeats so far
// (--gtest_repeat=5 for 500 and more; docs/PERF.md has figures). Nothing here judges times.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>

#include "app/worker.h"
#include "engine/base/rng.h"

namespace vitrine {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kCancels = 100, kLoads = 20, kCheckEvery = 10;
const std::string kModels = VITRINE_SOURCE_DIR;

double ms_since(Clock::time_point t) {
    return std::chrono::duration<double, std::milli>(Clock::now() - t).count();
}

class Cancels : public ::testing::Test {
  protected:
    Sampling greedy(int n) const {
        Sampling s;
        s.temperature = 0, s.max_new_tokens = n;
        return s;
    }
    // Takes reports until the command is done; false after a minute.
    bool until_idle() {
        const auto begin = Clock::now();
        for (;; std::this_thread::sleep_for(std::chrono::microseconds(200))) {
            bool is_idle = false;
            for (Update& u : worker_.take_reports()) {
                is_idle |= std::holds_alternative<Idle>(u);
                if (auto* x = std::get_if<ConversationChanged>(&u)) conversation_ = x->conversation;
                if (auto* x = std::get_if<ModelLoaded>(&u)) model_ = x->info->name;
                if (auto* x = std::get_if<Notice>(&u); x && x->level == Notice::Level::error) errors_ += x->text + "\n";
            }
            if (is_idle) return true;
            if (ms_since(begin) > 60e3) return false;
        }
    }
    void run(Command c) {
        ASSERT_TRUE(worker_.send(std::move(c)));
        ASSERT_TRUE(until_idle());
    }
    // A uniform number in [0, 1): the i-th of a stream.
    double random(uint64_t i) const { return CounterRng(kSeed, stream_).uniform(i); }
    // The command is cancelled after a share of the time that it takes when it is left alone.
    void cancel_within(Command c, double longest_ms, uint64_t i) {
        worker_.take_reports();
        ASSERT_TRUE(worker_.send(std::move(c)));
        std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(random(i) * longest_ms));
        const auto begin = Clock::now();
        worker_.cancel();
        ASSERT_TRUE(until_idle()) << "cancel " << i << " is not answered";
        answered_.push_back(ms_since(begin));
    }
    void report(const char* what, std::vector<double>& all) {
        all.insert(all.end(), answered_.begin(), answered_.end());
        std::sort(all.begin(), all.end());
        const auto at = [&](double q) { return all[static_cast<size_t>(q * static_cast<double>(all.size() - 1))]; };
        std::printf("%s: %zu cancels answered, median %.2f ms, p99 %.2f ms, longest %.2f ms\n", what, all.size(),
                    at(0.5), at(0.99), all.back());
    }
    // Another stretch of random numbers in each repeat.
    static uint64_t next_stream() {
        static uint64_t n = 0;
        return n++;
    }

    static constexpr uint64_t kSeed = 7;
    const uint64_t stream_ = next_stream();
    Worker worker_{{.engine = {.n_threads = 2}, .measures_watching = false}, [] {}};
    std::shared_ptr<const Conversation> conversation_;
    std::string model_, errors_;
    std::vector<double> answered_;
};

TEST_F(Cancels, in_prefill_and_decoding) {
    run(LoadModel{kModels + "/assets/models/seedling"});
    std::string text;
    for (int i = 0; i < 200; ++i) text += std::to_string(i * 37 % 1000) + "+" + std::to_string(i) + "=?\n";
    auto begin = Clock::now();
    run(SendMessage{text, Mode::non_think, greedy(1)});
    const double prefill_ms = ms_since(begin);
    run(NewConversation{""});
    begin = Clock::now();
    run(SendMessage{"72*59=?", Mode::max, greedy(200)});
    const double decode_ms = ms_since(begin);
    for (int i = 0; i < kCancels; ++i) {
        run(NewConversation{""});
        if (i % 2)
            cancel_within(SendMessage{text, Mode::non_think, greedy(1)}, prefill_ms, static_cast<uint64_t>(i));
        else
            cancel_within(SendMessage{"72*59=?", Mode::max, greedy(200)}, decode_ms, static_cast<uint64_t>(i));
        if (HasFatalFailure()) return;
        if (i % kCheckEvery) continue;
        run(NewConversation{""});
        run(SendMessage{"74*82=?", Mode::non_think, greedy(20)});
        ASSERT_EQ(conversation_->path.back().content, "6108") << "after cancel " << i;
    }
    EXPECT_EQ(errors_, "");
    static std::vector<double> all;
    report("prefill and decoding", all);
}

TEST_F(Cancels, in_loading) {
    const std::string seedling = kModels + "/assets/models/seedling", other = kModels + "/tests/golden/flashlike";
    const auto begin = Clock::now();
    run(LoadModel{seedling});
    const double load_ms = ms_since(begin);
    for (int i = 0; i < kLoads; ++i) {
        cancel_within(LoadModel{i % 2 ? seedling : other}, load_ms, static_cast<uint64_t>(1000 + i));
        if (HasFatalFailure()) return;
        ASSERT_FALSE(model_.empty()) << "what was open stays open";
    }
    EXPECT_EQ(errors_, "");
    run(LoadModel{seedling});
    run(SendMessage{"74*82=?", Mode::non_think, greedy(20)});
    EXPECT_EQ(conversation_->path.back().content, "6108");
    static std::vector<double> all;
    report("loading", all);
}

}  // namespace
}  // namespace vitrine
