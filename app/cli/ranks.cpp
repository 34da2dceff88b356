// Work over the processes that mpirun started.
#include "app/cli/ranks.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "app/cli/common.h"
#include "app/cli/sweep.h"
#include "engine/base/error.h"
#include "engine/comm/communicator.h"
#include "engine/engine.h"
#include "engine/train/trainer.h"

namespace vitrine::cli {
namespace {

void send(Communicator& ranks, const Json& order) {
    std::string text = order.dump();
    ranks.broadcast(text);
}

// False: there is nothing more to do.
bool serve(Communicator& ranks) {
    std::string text;
    ranks.broadcast(text);
    const Json order = Json::parse(text, "an order of rank 0");
    const std::string& what = order.at("do").as_string();
    if (what == "end") return false;
    if (what == "train") {
        const auto n_threads = static_cast<int>(order.at("threads").as_int());
        const int gpu = order.at("gpu").as_bool() ? ranks.rank_on_host() : kCpu;
        Trainer::join(ranks, n_threads, gpu)->follow();
        return true;
    }
    if (what == "experts") {
        EngineOptions options;
        options.n_threads = static_cast<int>(order.at("threads").as_int());
        options.gpu = order.at("gpu").as_bool() ? ranks.rank_on_host() : kCpu;
        options.ranks = &ranks;
        Engine::serve_experts(order.at("folder").as_string(), options);
        return true;
    }
    Args args;
    for (const Json& a : order.at("args").items()) args.push_back(a.as_string());
    run_sweep_share(args, ranks);
    return true;
}

// A failure that all ranks share is rank 0's to tell: the others give it a moment before they speak.
int fail(Communicator& ranks, const std::string& message, int code) {
    const int rank = ranks.rank();
    if (rank > 0) std::this_thread::sleep_for(std::chrono::milliseconds(500));
    if (rank > 0)
        std::fprintf(stderr, "vitrine: rank %d: %s\n", rank, message.c_str());
    else
        std::fprintf(stderr, "vitrine: %s\n", message.c_str());
    std::fflush(stdout), std::fflush(stderr);
    ranks.end_all(code);
    return code;
}

}  // namespace

int started_ranks() {
    int largest = 1;
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS"})  // Open MPI; MPICH and others; MVAPICH
        if (const char* value = std::getenv(name)) largest = std::max(largest, std::atoi(value));
    return largest;
}

int with_ranks(const std::function<int(Communicator&)>& lead) {
    sigset_t interrupt;  // blocked before MPI makes its threads: rank 0 waits for it, the others leave it to rank 0
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    pthread_sigmask(SIG_BLOCK, &interrupt, nullptr);
    const std::unique_ptr<Communicator> ranks = mpi_ranks();
    if (ranks->size() == 1)  // each would take itself for the only one, and all would write the same run
        throw Error(ErrorKind::bad_input, std::to_string(started_ranks()) +
                                              " processes were started together, but MPI sees one: "
                                              "expected the mpirun of the MPI that this program was built with");
    try {
        if (ranks->rank() > 0) {
            for (bool goes_on = true; goes_on;) goes_on = serve(*ranks);
            return 0;
        }
        const int code = lead(*ranks);
        Json end = Json::object();
        end.set("do", "end");
        send(*ranks, end);
        return code;
    } catch (const UsageError& e) {
        return fail(*ranks, e.what() + std::string("\nTry 'vitrine --help' or 'vitrine SUBCOMMAND --help'."), 2);
    } catch (const std::bad_alloc&) {
        return fail(*ranks, "out of memory", 1);
    } catch (const std::exception& e) {
        return fail(*ranks, e.what(), exit_code(e));
    }
}

int with_started_ranks(const std::function<int(Communicator&)>& lead) {
    return started_ranks() > 1 ? with_ranks(lead) : lead(*alone());
}

void order_training(Communicator& ranks, int n_threads, bool is_on_gpu) {
    if (ranks.size() == 1) return;
    Json order = Json::object();
    order.set("do", "train"), order.set("threads", n_threads), order.set("gpu", is_on_gpu);
    send(ranks, order);
}

void order_sweep(Communicator& ranks, const Args& args) {
    if (ranks.size() == 1) return;
    Json order = Json::object(), words = Json::array();
    for (const std::string& a : args) words.push(a);
    order.set("do", "sweep"), order.set("args", std::move(words));
    send(ranks, order);
}

void order_experts(Communicator& ranks, const std::string& folder, int n_threads, bool is_on_gpu) {
    if (ranks.size() == 1) return;
    Json order = Json::object();
    order.set("do", "experts"), order.set("folder", folder), order.set("threads", n_threads),
        order.set("gpu", is_on_gpu);
    send(ranks, order);
}

int threads_per_rank(const Communicator& ranks, int64_t asked) {
    if (asked > 0) return static_cast<int>(asked);
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / ranks.size_on_host());
}

int gpu_of_rank(const Communicator& ranks, const std::string& device) {
    const int gpu = gpu_number(device);
    if (ranks.size() == 1 || gpu == kCpu) return gpu;
    if (device != "cuda") throw UsageError("--device " + device + ": expected cuda: each rank takes the GPU of its own number");
    return ranks.rank_on_host();
}

}  // namespace vitrine::cli
