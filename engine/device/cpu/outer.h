// C = A B with A by strides and B by rows, FP32: the products of backward passes, in which one or both factors lie transposed.
#pragma once
#include <cstdint>
#include <vector>

namespace vitrine::cpu {

// C [m, n] = or += A [m, k] B [k, n]; A's element (i, l) at a[i * a_row + l * a_k]; B and C: rows ldb and ldc elements apart.
struct OuterProduct {
    const float* a;
    int64_t a_row, a_k;
    const float* b;
    int64_t ldb;
    int64_t m, n, k;
    float* c;
    int64_t ldc;
    bool accumulate;
};
// An element's bits do not depend on where the caller cuts rows or columns. Scratch memory is kept per thread.
using OuterKernel = void (*)(const OuterProduct& p);

OuterKernel outer_kernel();                        // the best for this processor
std::vector<OuterKernel> runnable_outer_kernels();  // every one that it can run, slowest first: for tests

// ---- per instruction set; the plain one is what they are tested against
void outer_plain(const OuterProduct& p);
void outer_avx2(const OuterProduct& p);
void outer_avx512(const OuterProduct& p);

}  // namespace vitrine::cpu
