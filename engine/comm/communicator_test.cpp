// Sums over ranks: every count, one order, the same bits everywhere; a rank that fails leaves nobody waiting.
#include "engine/comm/communicator.h"

#include <gtest/gtest.h>

#include <cstring>

#include "engine/base/rng.h"
#include "tests/support/thread_ranks.h"

namespace vitrine {
namespace {

template <class T>
std::vector<T> values_of(int rank, size_t n) {
    const CounterRng rng(7, static_cast<uint64_t>(rank));
    std::vector<T> v(n);
    for (size_t i = 0; i < n; ++i) v[i] = static_cast<T>(rng.normal(i) * (rank == 1 ? 1e6 : 1));
    return v;
}

template <class T>
void expect_sums(int size, size_t n) {
    std::vector<T> want(n);
    for (size_t i = 0; i < n; ++i) {
        double sum = 0;
        for (int r = 0; r < size; ++r) sum += static_cast<double>(values_of<T>(r, n)[i]);
        want[i] = static_cast<T>(sum);
    }
    std::vector<std::vector<T>> got(static_cast<size_t>(size));
    test::ThreadRanks(size).run([&](Communicator& c) {
        std::vector<T> mine = values_of<T>(c.rank(), n);
        c.sum(std::span<T>(mine));
        got[static_cast<size_t>(c.rank())] = mine;
    });
    for (const auto& g : got) {
        ASSERT_EQ(g.size(), n) << size << " ranks";
        if (n == 0) continue;  // an empty vector's data may be null, which memcmp does not take
        EXPECT_EQ(std::memcmp(g.data(), want.data(), n * sizeof(T)), 0) << size << " ranks, " << n;
    }
}

TEST(Communicator, a_sum_has_the_same_bits_on_every_rank) {
    for (const int size : {1, 2, 3, 5})
        for (const size_t n : {0, 1, 2, 17, 257}) expect_sums<float>(size, n), expect_sums<double>(size, n);
}

TEST(Communicator, more_values_than_one_round_takes) {
    std::vector<float> first;
    const size_t n = 3 * 65536 + 11;
    test::ThreadRanks(2).run([&](Communicator& c) {
        std::vector<float> mine(n);
        for (size_t i = 0; i < n; ++i) mine[i] = static_cast<float>(i % 1000) * (c.rank() ? 2.0F : 1.0F);
        c.sum(std::span<float>(mine));
        if (c.rank() == 0) first = mine;
    });
    for (size_t i = 0; i < n; ++i) ASSERT_EQ(first[i], 3.0F * static_cast<float>(i % 1000)) << i;
}

TEST(Communicator, text_of_any_length_reaches_all) {
    std::vector<std::string> got(3);
    test::ThreadRanks(3).run([&](Communicator& c) {
        std::string text = c.rank() == 1 ? "from the middle" : "something longer that must go away";
        c.broadcast(text, 1);
        std::string empty = c.rank() == 0 ? "" : "x";
        c.broadcast(empty);
        got[static_cast<size_t>(c.rank())] = text + empty;
    });
    for (const std::string& g : got) EXPECT_EQ(g, "from the middle");
}

TEST(Communicator, messages_arrive_in_the_order_they_were_sent) {
    std::vector<int> got;
    test::ThreadRanks(3).run([&](Communicator& c) {
        for (int i = 0; i < 3 && c.rank() > 0; ++i) {
            const int value = 10 * c.rank() + i;
            c.send(std::as_bytes(std::span(&value, 1)), 0);
        }
        for (int i = 0; i < 6 && c.rank() == 0; ++i) {
            got.push_back(-1);
            c.receive(std::as_writable_bytes(std::span(&got.back(), 1)), i < 3 ? 2 : 1);
        }
    });
    EXPECT_EQ(got, (std::vector<int>{20, 21, 22, 10, 11, 12}));
    int value = 0;
    EXPECT_THROW(alone()->receive(std::as_writable_bytes(std::span(&value, 1)), 0), Error);
}

TEST(Communicator, alone_nothing_changes) {
    const auto c = alone();
    std::vector<double> v = {1, 2};
    c->sum(std::span<double>(v));
    EXPECT_EQ(v, (std::vector<double>{1, 2}));
    EXPECT_EQ(c->size(), 1);
}

TEST(Communicator, a_rank_that_fails_leaves_nobody_waiting) {
    EXPECT_THROW(test::ThreadRanks(3).run([](Communicator& c) {
        if (c.rank() == 2) throw Error(ErrorKind::io, "no");
        c.barrier();
    }),
                 Error);
}

}  // namespace
}  // namespace vitrine
