// Sums over ranks, from exchanges of bytes.
#include "engine/comm/communicator.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "engine/base/error.h"

namespace vitrine {
namespace {

constexpr size_t kPieceElements = size_t{1} << 16;  // of one rank in one round: bounds the scratch memory

class Alone : public Communicator {
  public:
    int rank() const override { return 0; }
    int size() const override { return 1; }
    int rank_on_host() const override { return 0; }
    int size_on_host() const override { return 1; }
    void broadcast(std::span<std::byte>, int) override {}
    void barrier() override {}
    void send(std::span<const std::byte>, int) override {
        throw Error(ErrorKind::internal, "there is no other rank to send to");
    }
    void receive(std::span<std::byte>, int) override {
        throw Error(ErrorKind::internal, "there is no other rank that sends");
    }
    void end_all(int) override { throw Error(ErrorKind::internal, "there are no other ranks to end"); }

  protected:
    void exchange(const std::byte* from, std::byte* to, size_t n) override { std::memcpy(to, from, n); }
    void gather(const std::byte* from, std::byte* to, size_t n) override { std::memcpy(to, from, n); }
};

}  // namespace

std::unique_ptr<Communicator> alone() {
    return std::make_unique<Alone>();
}

// In rounds of one piece per rank: rank r gets everybody's piece r, adds them in the order of ranks, and hands the sum to all.
// Each rank sends and receives 2 (size - 1) / size of the bytes, as with any other way to add them everywhere.
template <class T>
void Communicator::sum_all(std::span<T> values) {
    const auto n_ranks = static_cast<size_t>(size());
    if (n_ranks == 1) return;
    for (size_t at = 0; at < values.size();) {
        const size_t n = std::min(values.size() - at, n_ranks * kPieceElements);
        const size_t piece = (n + n_ranks - 1) / n_ranks, piece_bytes = piece * sizeof(T);
        sent_.assign(n_ranks * piece_bytes, std::byte{0});  // the last piece may be shorter
        received_.resize(n_ranks * piece_bytes);
        std::memcpy(sent_.data(), values.data() + at, n * sizeof(T));
        exchange(sent_.data(), received_.data(), piece_bytes);
        const T* parts = reinterpret_cast<const T*>(received_.data());
        T* total = reinterpret_cast<T*>(sent_.data());
        for (size_t i = 0; i < piece; ++i) {
            double sum = parts[i];
            for (size_t r = 1; r < n_ranks; ++r) sum += parts[r * piece + i];
            total[i] = static_cast<T>(sum);
        }
        gather(sent_.data(), received_.data(), piece_bytes);
        std::memcpy(values.data() + at, received_.data(), n * sizeof(T));
        at += n;
    }
}

void Communicator::sum(std::span<float> values) {
    sum_all(values);
}
void Communicator::sum(std::span<double> values) {
    sum_all(values);
}

void Communicator::broadcast(std::string& text, int from) {
    uint64_t n = text.size();
    broadcast(std::as_writable_bytes(std::span(&n, 1)), from);
    text.resize(n);
    broadcast(std::as_writable_bytes(std::span(text.data(), text.size())), from);
}

}  // namespace vitrine
