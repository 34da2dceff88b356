// The module that knows MPI: engine/comm/mpi_calls.h by MPI's functions.
#include <mpi.h>

#include <algorithm>

#include "engine/comm/mpi_calls.h"

namespace {

constexpr size_t kMostBytes = size_t{1} << 30;  // MPI counts in int

void broadcast(void* bytes, size_t n, int from) {
    for (size_t at = 0; at < n; at += kMostBytes)
        MPI_Bcast(static_cast<char*>(bytes) + at, static_cast<int>(std::min(n - at, kMostBytes)), MPI_BYTE, from, MPI_COMM_WORLD);
}
void exchange(const void* from, void* to, size_t n) {
    MPI_Alltoall(from, static_cast<int>(n), MPI_BYTE, to, static_cast<int>(n), MPI_BYTE, MPI_COMM_WORLD);
}
void gather(const void* from, void* to, size_t n) {
    MPI_Allgather(from, static_cast<int>(n), MPI_BYTE, to, static_cast<int>(n), MPI_BYTE, MPI_COMM_WORLD);
}
void send(const void* bytes, size_t n, int to) {
    for (size_t at = 0; at < n; at += kMostBytes)
        MPI_Send(static_cast<const char*>(bytes) + at, static_cast<int>(std::min(n - at, kMostBytes)), MPI_BYTE, to, 0,
                 MPI_COMM_WORLD);
}
void receive(void* bytes, size_t n, int from) {
    for (size_t at = 0; at < n; at += kMostBytes)
        MPI_Recv(static_cast<char*>(bytes) + at, static_cast<int>(std::min(n - at, kMostBytes)), MPI_BYTE, from, 0,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}
void barrier() {
    MPI_Barrier(MPI_COMM_WORLD);
}
void finish() {
    MPI_Finalize();
}
void end_all(int code) {
    MPI_Abort(MPI_COMM_WORLD, code);
}

}  // namespace

extern "C" const vitrine::MpiCalls* vitrine_start_mpi() {
    static vitrine::MpiCalls calls{0, 1, 0, 1, broadcast, exchange, gather, send, receive, barrier, finish, end_all};
    int is_started = 0;
    MPI_Initialized(&is_started);
    if (is_started) return nullptr;
    int given = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given);  // other threads compute; one communicates
    MPI_Comm_rank(MPI_COMM_WORLD, &calls.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &calls.size);
    MPI_Comm host;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
    MPI_Comm_rank(host, &calls.rank_on_host);
    MPI_Comm_size(host, &calls.size_on_host);
    MPI_Comm_free(&host);
    return &calls;
}
