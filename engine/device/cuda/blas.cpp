// cuBLAS behind dlopen.
#include "engine/device/cuda/blas.h"

#include <cublas_v2.h>
#include <dlfcn.h>

#include <string>

#include "engine/base/error.h"

namespace vitrine::cuda {

// cublas_v2.h overloads these two in C++.
using GemmEx = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void*, const void*,
                                  cudaDataType, int, const void*, cudaDataType, int, const void*, void*, cudaDataType, int,
                                  cublasComputeType_t, cublasGemmAlgo_t);
using GemmStridedBatchedEx = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void*,
                                                const void*, cudaDataType, int, long long, const void*, cudaDataType, int,
                                                long long, const void*, void*, cudaDataType, int, long long, int,
                                                cublasComputeType_t, cublasGemmAlgo_t);

struct Device::Blas {
    void* library = nullptr;
    void* workspace = nullptr;
    Memory* memory = nullptr;
    cublasHandle_t handle = nullptr;
    decltype(&cublasCreate_v2) create;
    decltype(&cublasDestroy_v2) destroy;
    decltype(&cublasSetStream_v2) set_stream;
    decltype(&cublasSetWorkspace_v2) set_workspace;
    GemmEx gemm;
    GemmStridedBatchedEx gemm_batched;

    ~Blas() {
        if (handle) destroy(handle);
        if (workspace) memory->give(workspace);
        if (library) dlclose(library);
    }
};

namespace {

constexpr size_t kWorkspace = size_t{64} << 20;  // what cuBLAS asks for on Hopper is half of it; fixed, so that results repeat

template <class F>
void find(void* library, F& function, const char* name) {
    function = reinterpret_cast<F>(dlsym(library, name));
    if (!function) throw Error(ErrorKind::device, std::string("cuBLAS has no function ") + name);
}

void* open_library() {
    const std::string major = std::to_string(CUBLAS_VER_MAJOR), file = "libcublas.so." + major;
    for (const std::string& name : {file, std::string(VITRINE_CUDA_LIBRARIES) + "/" + file, "/usr/local/cuda/lib64/" + file})
        if (void* p = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return p;
    throw Error(ErrorKind::device, "cuBLAS " + major + " (" + file +
                                       ") was not found: it comes with the CUDA toolkit, and its folder "
                                       "must be known to the system's loader (ldconfig)");
}

void check(int status, const char* what) {
    if (status != CUBLAS_STATUS_SUCCESS)
        throw Error(ErrorKind::device, std::string("cuBLAS, ") + what + ": status " + std::to_string(status));
}

cudaDataType_t type_of(DType t) {
    VITRINE_ASSERT(t == DType::f32 || t == DType::bf16);
    return t == DType::f32 ? CUDA_R_32F : CUDA_R_16BF;
}

}  // namespace

Device::Blas& Device::blas() {
    if (blas_) return *blas_;
    auto b = std::make_shared<Blas>();
    b->library = open_library();
    b->memory = memory_.get();
    find(b->library, b->create, "cublasCreate_v2");
    find(b->library, b->destroy, "cublasDestroy_v2");
    find(b->library, b->set_stream, "cublasSetStream_v2");
    find(b->library, b->set_workspace, "cublasSetWorkspace_v2");
    find(b->library, b->gemm, "cublasGemmEx");
    find(b->library, b->gemm_batched, "cublasGemmStridedBatchedEx");
    check(b->create(&b->handle), "starting");
    check(b->set_stream(b->handle, stream_), "setting its stream");
    b->workspace = memory_->take(kWorkspace);
    check(b->set_workspace(b->handle, b->workspace, kWorkspace), "setting its workspace");
    return *(blas_ = b);
}

void gemm(Device& device, const Gemm& g, const void* a, const void* b, void* c) {
    auto& blas = device.blas();
    const float one = 1, beta = g.accumulates ? 1.0f : 0.0f;
    // Column-major, everything is its transpose: C^T [n, m] = B' A', and what lies there as [n, k] is read transposed.
    const cublasOperation_t op_b = g.b_is_kn ? CUBLAS_OP_N : CUBLAS_OP_T, op_a = g.a_is_km ? CUBLAS_OP_T : CUBLAS_OP_N;
    const auto n = static_cast<int>(g.n), m = static_cast<int>(g.m), k = static_cast<int>(g.k);
    const auto lda = static_cast<int>(g.lda), ldb = static_cast<int>(g.ldb), ldc = static_cast<int>(g.ldc);
    const cudaDataType_t in = type_of(g.input), out = type_of(g.output);
    const auto exact = g.may_use_tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F_PEDANTIC;
    const auto compute = g.input == DType::f32 ? exact : CUBLAS_COMPUTE_32F;
    if (g.batch == 1)
        check(blas.gemm(blas.handle, op_b, op_a, n, m, k, &one, b, in, ldb, a, in, lda, &beta, c, out, ldc, compute,
                        CUBLAS_GEMM_DEFAULT),
              "multiplying");
    else
        check(blas.gemm_batched(blas.handle, op_b, op_a, n, m, k, &one, b, in, ldb, g.stride_b, a, in, lda,
                                g.stride_a, &beta, c, out, ldc, g.stride_c, static_cast<int>(g.batch), compute,
                                CUBLAS_GEMM_DEFAULT),
              "multiplying");
}

}  // namespace vitrine::cuda
