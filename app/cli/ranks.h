// Work over the processes that mpirun started: rank 0 reads the command line, the others do what it tells them.
#pragma once
#include <functional>

#include "app/cli/options.h"
#include "engine/base/json.h"

namespace vitrine {
class Communicator;
}

namespace vitrine::cli {

// How many processes mpirun (or srun) started together; 1 without it. From the variables that it sets for each.
int started_ranks();

// Runs `lead` on rank 0 and serves its orders on the others; returns the exit code. One that fails tells why and ends all.
int with_ranks(const std::function<int(Communicator&)>& lead);
// The same where mpirun has started several; else lead(alone()).
int with_started_ranks(const std::function<int(Communicator&)>& lead);

// What rank 0 asks all others to do; each order is served until it is done.
void order_training(Communicator& ranks, int n_threads, bool is_on_gpu);  // then Trainer::invite
void order_sweep(Communicator& ranks, const Args& args);                  // then take part as they do
void order_experts(Communicator& ranks, const std::string& folder, int n_threads, bool is_on_gpu);  // then Engine::load

// Threads of each rank when --threads isn't given: the machine's cores, shared.
int threads_per_rank(const Communicator& ranks, int64_t asked);
// --device of each rank: cuda is the GPU of its number on its machine. UsageError for cuda:N with several ranks.
int gpu_of_rank(const Communicator& ranks, const std::string& device);

}  // namespace vitrine::cli
