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
    decltype(&ncclReduce) reduce;
    decltype(&ncclBroadcast) broadcast;
    decltype(&ncclGroupStart) group_start;
    decltype(&ncclGroupEnd) group_end;
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
        find(reduce, "ncclReduce"), find(broadcast, "ncclBroadcast");
        find(group_start, "ncclGroupStart"), find(group_end, "ncclGroupEnd");
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
    void check_earlier(const char* what) const {
        ncclResult_t earlier = ncclSuccess;
        check(library().async_error(comm, &earlier), "asking for its state");
        check(earlier, what);
    }
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
    state_->check_earlier("summing over ranks");
}

void NcclSums::sum_to_first(void* values, size_t n, DType dtype) {
    VITRINE_ASSERT(dtype == DType::f32 || dtype == DType::bf16);
    const ncclDataType_t type = dtype == DType::f32 ? ncclFloat32 : ncclBfloat16;
    check(library().reduce(values, values, n, type, ncclSum, 0, state_->comm, state_->device.stream()),
          "summing on rank 0");
    state_->check_earlier("summing on rank 0");
}

void NcclSums::broadcast(std::span<const std::span<std::byte>> blocks) {
    check(library().group_start(), "sending to all ranks");
    for (const std::span<std::byte> b : blocks)
        check(library().broadcast(b.data(), b.data(), b.size(), ncclUint8, 0, state_->comm, state_->device.stream()),
              "sending to all ranks");
    check(library().group_end(), "sending to all ranks");
    state_->check_earlier("sending to all ranks");
}

std::string NcclSums::version() const {
    int v = 0;
    check(library().get_version(&v), "asking for its version");
    return "NCCL " + std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100);
}

}  // namespace vitrine::cuda
