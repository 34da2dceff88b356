// Sampling that always takes the most probable token.
#pragma once
#include "engine/base/config/sampling.h"

namespace vitrine::test {

inline Sampling greedy(int n_most = 200) {
    Sampling s;
    s.temperature = 0;
    s.max_new_tokens = n_most;
    return s;
}

}  // namespace vitrine::test
