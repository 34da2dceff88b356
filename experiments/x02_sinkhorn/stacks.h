// Random stacks of mixing matrices and what their product does to columns.
#pragma once
#include <cstdint>

namespace vitrine::lab {

enum class MatrixKind { sinkhorn, permutations, unconstrained };

// Layer l of a stack has logits scale * (Z + spread * Z_l), Z common to the stack; independent: scale * Z_l.
struct StackShape {
    MatrixKind kind = MatrixKind::sinkhorn;
    int layers = 30, streams = 4, iterations = 20, draws = 300;
    double scale = 4, spread = 0.3, noise = 0.2;
    bool is_independent = false;
    uint64_t seed = 1;
};

struct Spread {
    double median = 0, lowest = 0, highest = 0;  // of the repeats
};

struct ColumnSums {                                    // of the composite B_L ... B_1, B = C^T
    Spread largest, smallest;                          // over all stacks and columns
    double typical_largest = 0, typical_smallest = 0;  // medians over the stacks
    double row_error = 0;                              // largest |row sum - 1|
};
ColumnSums column_sums(const StackShape& s, int repeats);

// Median over the stacks of the largest absolute row sum of the composite.
Spread typical_gain(const StackShape& s, int repeats);

// Medians over single matrices: second singular value, second eigenvalue's modulus.
struct Mixing {
    double sigma2 = 0, lambda2 = 0;
};
Mixing mixing(const StackShape& s);

}  // namespace vitrine::lab
