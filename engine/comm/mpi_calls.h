// What the module libvitrine_mpi.so does for the engine. Only the module is linked with MPI, and it is opened when mpirun has
// started the program: the program itself starts on machines without MPI.
#pragma once
#include <cstddef>

namespace vitrine {

// MPI's own errors end all ranks with a message (MPI_ERRORS_ARE_FATAL): nothing here returns a failure.
struct MpiCalls {
    int rank, size, rank_on_host, size_on_host;
    void (*broadcast)(void* bytes, size_t n, int from);
    void (*exchange)(const void* from, void* to, size_t n_each);
    void (*gather)(const void* from, void* to, size_t n_each);
    void (*send)(const void* bytes, size_t n, int to);
    void (*receive)(void* bytes, size_t n, int from);
    void (*barrier)();
    void (*finish)();
    void (*end_all)(int code);
};

// Starts MPI; nullptr when it has been started before.
constexpr const char* kStartMpi = "vitrine_start_mpi";
using StartMpi = const MpiCalls* (*)();

}  // namespace vitrine
