// One GPU: found, opened, its memory and its stream.
#include "engine/device/cuda/device.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "engine/base/error.h"

namespace vitrine::cuda {
namespace {

constexpr int kOldest = 80;  // compute capability: BF16 tensor cores

Gpu describe(int index) {
    cudaDeviceProp p{};
    if (cudaGetDeviceProperties(&p, index) != cudaSuccess) return {};
    Gpu g;
    g.index = index;
    g.name = p.name;
    g.compute_capability = p.major * 10 + p.minor;
    g.n_multiprocessors = p.multiProcessorCount;
    size_t available = 0, total = 0;
    if (cudaSetDevice(index) == cudaSuccess && cudaMemGetInfo(&available, &total) == cudaSuccess)
        g.free_bytes = available, g.total_bytes = total;
    return g;
}

class DeviceMemory : public Memory {
  public:
    explicit DeviceMemory(int index) : index_(index) {}
    void* take(size_t bytes) override {
        void* p = nullptr;
        cudaSetDevice(index_);  // the thread's current one may be another
        const cudaError_t status = cudaMalloc(&p, std::max<size_t>(bytes, 1));
        if (status == cudaSuccess) return p;
        cudaGetLastError();  // the next call starts clean
        size_t available = 0, total = 0;
        cudaMemGetInfo(&available, &total);
        if (status == cudaErrorMemoryAllocation)
            throw Error(ErrorKind::out_of_memory, "GPU " + std::to_string(index_) + " is out of memory: " + std::to_string(bytes) +
                                                      " bytes were asked for, " + std::to_string(available) + " of " +
                                                      std::to_string(total) + " are free");
        throw Error(ErrorKind::device, "GPU " + std::to_string(index_) + ", allocating " + std::to_string(bytes) +
                                           " bytes: " + cudaGetErrorString(status));
    }
    void give(void* block) noexcept override { cudaFree(block); }

  private:
    int index_;
};

}  // namespace

Gpus find_gpus();
Gpus find_gpus() {
    Gpus g;
    int n = 0;
    const cudaError_t status = cudaGetDeviceCount(&n);
    if (status != cudaSuccess || n == 0) {
        cudaGetLastError();
        g.why_none = status == cudaErrorInsufficientDriver || status == cudaErrorNoDevice || status == cudaSuccess
                         ? "no NVIDIA GPU with a driver for CUDA " + std::to_string(CUDART_VERSION / 1000) + " was found"
                         : std::string("CUDA can't be used: ") + cudaGetErrorString(status);
        return g;
    }
    int current = 0;  // stays what it is: somebody may be at work on it
    cudaGetDevice(&current);
    for (int i = 0; i < n; ++i) {
        const Gpu gpu = describe(i);
        if (gpu.compute_capability >= kOldest) g.found.push_back(gpu);
    }
    cudaSetDevice(current);
    if (g.found.empty()) g.why_none = "the GPUs here are older than compute capability 8.0";
    return g;
}

Device::Device(int index) {
    const Gpus all = find_gpus();
    const auto at = std::find_if(all.found.begin(), all.found.end(), [&](const Gpu& g) { return g.index == index; });
    if (at == all.found.end())
        throw Error(ErrorKind::device, "cuda:" + std::to_string(index) + ": " +
                                           (all.found.empty() ? all.why_none
                                                              : "expected a GPU from 0 to " +
                                                                    std::to_string(all.found.back().index)));
    gpu_ = *at;
    check(cudaSetDevice(index), "choosing it");
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
    memory_ = std::make_unique<DeviceMemory>(index);
}

Device::~Device() {
    deliveries_.reset();
    transfers_.reset();
    blas_.reset();
    if (stream_) cudaStreamDestroy(stream_);
}

uint64_t Device::free_bytes() const {
    size_t available = 0, total = 0;
    check(cudaMemGetInfo(&available, &total), "asking for free memory");
    return available;
}

void Device::check(int status, const char* what) const {
    if (status == cudaSuccess) return;
    cudaGetLastError();
    throw Error(ErrorKind::device, "GPU " + std::to_string(gpu_.index) + ", " + what + ": " +
                                       cudaGetErrorString(static_cast<cudaError_t>(status)));
}

void Device::sync() { check(cudaStreamSynchronize(stream_), "running a step"); }

void Device::upload(void* to, const void* from, size_t bytes) {
    if (bytes) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "copying to it");
}
void Device::download(void* to, const void* from, size_t bytes) {
    if (bytes) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "copying from it");
}
void Device::copy(void* to, const void* from, size_t bytes) {
    if (bytes) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "copying within it");
}
void Device::clear(void* to, size_t bytes) {
    if (bytes) check(cudaMemsetAsync(to, 0, bytes, stream_), "clearing memory");
}

Buffer::Buffer(std::shared_ptr<Device> device, size_t bytes)
    : device_(std::move(device)), data_(static_cast<std::byte*>(device_->memory().take(bytes))), bytes_(bytes) {
    device_->clear(data_, bytes_);
}
Buffer::~Buffer() { device_->memory().give(data_); }

std::shared_ptr<Buffer> Buffer::clone(size_t bytes) const {
    auto b = std::make_shared<Buffer>(device_, bytes);
    device_->copy(b->data_, data_, std::min(bytes, bytes_));
    return b;
}

double copy_gb_per_s(int gpu) {
    constexpr size_t kBytes = size_t{2} << 30;
    const auto device = std::make_shared<Device>(gpu);
    const Buffer from(device, kBytes), to(device, kBytes);
    cudaEvent_t begin = nullptr, end = nullptr;
    cudaEventCreate(&begin), cudaEventCreate(&end);
    double best = 0;
    for (int i = 0; i < 6; ++i) {  // the first one warms up
        cudaEventRecord(begin, device->stream());
        device->copy(to.data(), from.data(), kBytes);
        cudaEventRecord(end, device->stream());
        device->sync();
        float ms = 0;
        cudaEventElapsedTime(&ms, begin, end);
        if (i > 0) best = std::max(best, 2.0 * kBytes / (ms * 1e6));
    }
    cudaEventDestroy(begin), cudaEventDestroy(end);
    return best;
}

}  // namespace vitrine::cuda
