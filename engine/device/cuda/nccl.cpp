// NCCL behind dlopen.
#include "engine/device/cuda/nccl.h"

#include <cuda_runtime.h>
#include <dlfcn.h>
#include <nccl.h>

#include <exception>
#include <span>

#include "engine/base/error.h"
#include "engine/comm/communicator.h"
#include "engine/device/cuda/device.h"

namespace vitrine::cuda {
namespace {

// The library and what is used of it; opened once and kept.
struct Library {
    void* handle = nullptr;
    std::string why_not;
    decltype(&ncclGetVersion) get_version;
    decltype(&ncclGetUniqueId) get_id;
    decltype(&ncclCommInitRank) init;
    decltype(&ncclAllReduce) all_reduce;
    decltype(&ncclCommDestroy) destroy;
    decltype(&ncclCommAbort) give_up;
    decltype(&ncclGetErrorString) error_text;
    decltype(&ncclCommGetAsyncError) async_error;

    Library() {
        const std::string file = "libnccl.so." + std::to_string(NCCL_MAJOR);
        for (const std::string& name : {file, std::string(VITRINE_NCCL_LIBRARIES) + "/" + file, "/usr/local/cuda/lib64/" + file})
            if ((handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL))) break;
        if (!handle) {
            why_not = file + " was not found";
            return;
        }
        find(get_version, "ncclGetVersion"), find(get_id, "ncclGetUniqueId"), find(init, "ncclCommInitRank");
        find(all_reduce, "ncclAllReduce"), find(destroy, "ncclCommDestroy"), find(give_up, "ncclCommAbort");
        find(error_text, "ncclGetErrorString"), find(async_error, "ncclCommGetAsyncError");
    }
    template <class F>
    void find(F& function, const char* name) {
        function = reinterpret_cast<F>(dlsym(handle, name));
        if (!function) why_not = std::string("NCCL has no function ") + name;
    }
};

const Library& library() {
    static const Library opened;
    return opened;
}

void check(ncclResult_t status, const char* what) {
    if (status != ncclSuccess) throw Error(ErrorKind::device, std::string("NCCL, ") + what + ": " + library().error_text(status));
}

}  // namespace

std::string nccl_missing() {
    return library().why_not;
}

struct NcclSums::State {
    Device& device;
    ncclComm_t comm = nullptr;
    ~State() {
        if (!comm) return;
        if (std::uncaught_exceptions() > 0)
            library().give_up(comm);  // the others may never come
        else
            library().destroy(comm);
    }
};

NcclSums::NcclSums(Device& device, Communicator& ranks) : state_(std::make_shared<State>(State{device})) {
    device.check(cudaSetDevice(device.gpu().index), "choosing it");  // NCCL takes the thread's current one
    ncclUniqueId id{};
    if (ranks.rank() == 0) check(library().get_id(&id), "starting");
    ranks.broadcast(std::as_writable_bytes(std::span(&id, 1)));
    check(library().init(&state_->comm, ranks.size(), id, ranks.rank()), "joining the other ranks");
}

void NcclSums::sum(float* values, size_t n) {
    check(library().all_reduce(values, values, n, ncclFloat32, ncclSum, state_->comm, state_->device.stream()), "summing");
    ncclResult_t earlier = ncclSuccess;
    check(library().async_error(state_->comm, &earlier), "asking for its state");
    check(earlier, "summing over ranks");
}

std::string NcclSums::version() const {
    int v = 0;
    check(library().get_version(&v), "asking for its version");
    return "NCCL " + std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100);
}

}  // namespace vitrine::cuda
