// Sums over ranks' GPUs: through the host, where NCCL isn't the way.
#include "engine/device/cuda/rank_sums.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <set>
#include <vector>

#include "engine/base/error.h"
#include "engine/comm/communicator.h"
#include "engine/device/cuda/nccl.h"

namespace vitrine::cuda {
namespace {

constexpr size_t kStaged = size_t{4} << 20;  // numbers on their way at a time

// Two ranks on one GPU, which NCCL refuses.
std::string why_shared(Communicator& ranks, const Device& device) {
    cudaDeviceProp p{};
    device.check(cudaGetDeviceProperties(&p, device.gpu().index), "asking who it is");
    constexpr size_t kBytes = sizeof p.uuid.bytes;
    std::vector<double> all(kBytes * static_cast<size_t>(ranks.size()));  // every rank fills its own row
    for (size_t i = 0; i < kBytes; ++i)
        all[kBytes * static_cast<size_t>(ranks.rank()) + i] = static_cast<unsigned char>(p.uuid.bytes[i]);
    ranks.sum(std::span<double>(all));
    std::set<std::vector<double>> different;
    for (size_t r = 0; r < static_cast<size_t>(ranks.size()); ++r)
        different.insert(
            {all.begin() + static_cast<ptrdiff_t>(r * kBytes), all.begin() + static_cast<ptrdiff_t>((r + 1) * kBytes)});
    return different.size() < static_cast<size_t>(ranks.size()) ? "ranks share a GPU" : "";
}

// Every rank must go the same way: NCCL only if all can open it.
std::string why_not_all(Communicator& ranks, const std::string& why_not_here) {
    std::vector<double> is_missing(static_cast<size_t>(ranks.size()));
    is_missing[static_cast<size_t>(ranks.rank())] = !why_not_here.empty();
    ranks.sum(std::span<double>(is_missing));
    if (!why_not_here.empty()) return why_not_here;
    for (size_t r = 0; r < is_missing.size(); ++r)
        if (is_missing[r] != 0) return "rank " + std::to_string(r) + " has no NCCL";
    return "";
}

}  // namespace

std::string why_no_nccl(Device& device, Communicator& ranks) {
    const std::string shared = why_shared(ranks, device);
    return shared.empty() ? why_not_all(ranks, nccl_missing()) : shared;
}

struct RankSums::Nccl {
    NcclSums sums;
};

RankSums::RankSums(Device& device, Communicator& ranks) : device_(device), ranks_(ranks) {
    const std::string why_not = why_no_nccl(device, ranks);
    if (why_not.empty()) {
        nccl_ = std::make_unique<Nccl>(Nccl{NcclSums(device, ranks)});
        way_ = nccl_->sums.version();
        return;
    }
    way_ = "the host's memory (" + why_not + ")";
    device_.check(cudaMallocHost(reinterpret_cast<void**>(&staged_), kStaged * sizeof(float)), "taking host memory for sums");
}

RankSums::~RankSums() {
    if (staged_) cudaFreeHost(staged_);
}

void RankSums::sum(float* values, size_t n) {
    if (nccl_) return nccl_->sums.sum(values, n);
    for (size_t at = 0; at < n; at += kStaged) {
        const size_t here = std::min(kStaged, n - at);
        device_.download(staged_, values + at, here * sizeof(float));
        device_.sync();
        ranks_.sum(std::span<float>(staged_, here));
        device_.upload(values + at, staged_, here * sizeof(float));
        device_.sync();  // the next piece takes its place
    }
}

}  // namespace vitrine::cuda
