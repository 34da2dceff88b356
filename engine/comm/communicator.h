// Processes that work on one thing: who they are, and what they can do together.
//
// Rank 0 of `size` leads. Every rank must make the same calls in the same order; each returns once this rank's part is
// done. Results depend on what the ranks hold, never on who came first. A rank that can't go on must end_all(): the
// others would wait for it. Owner: the thread that made it.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace vitrine {

class Communicator {
  public:
    virtual ~Communicator() = default;
    virtual int rank() const = 0;
    virtual int size() const = 0;
    virtual int rank_on_host() const = 0;  // 0, 1, ... among the ranks of this machine: which GPU it takes
    virtual int size_on_host() const = 0;

    // Element by element, over all ranks; every rank has the same bits afterwards. Added in f64 in the order of ranks and rounded
    // once. All ranks must pass the same count.
    void sum(std::span<float> values);
    void sum(std::span<double> values);
    virtual void broadcast(std::span<std::byte> bytes, int from = 0) = 0;
    void broadcast(std::string& text, int from = 0);  // of any length
    virtual void barrier() = 0;                       // returns once all ranks have come
    // From one rank to one other, which must ask for the same count. `send` may wait until it does.
    virtual void send(std::span<const std::byte> bytes, int to) = 0;
    virtual void receive(std::span<std::byte> bytes, int from) = 0;
    // Ends every rank's process, this one too, with this exit code: for a rank that has failed. Does not return.
    virtual void end_all(int code) = 0;

  protected:
    // Piece r of `from` goes to rank r; piece r of `to` came from rank r. [size] pieces of n_bytes each.
    virtual void exchange(const std::byte* from, std::byte* to, size_t n_bytes) = 0;
    // This rank's n_bytes to all: piece r of `to` came from rank r.
    virtual void gather(const std::byte* from, std::byte* to, size_t n_bytes) = 0;

  private:
    template <class T>
    void sum_all(std::span<T> values);
    std::vector<std::byte> sent_, received_;
};

// One process alone: nothing to send to anybody.
std::unique_ptr<Communicator> alone();

// The processes that mpirun started, this one among them (MPI_COMM_WORLD). Once per process: MPI can't be started twice.
// Error(bad_input) where this build has no MPI, or its library isn't on this machine. The destructor waits for all ranks.
std::unique_ptr<Communicator> mpi_ranks();
bool has_mpi();  // this build

}  // namespace vitrine
