// Where the model's tests run: on the CPU, or with VITRINE_TEST_DEVICE=N in the environment on GPU N (tests/gpu/run.sh).
#pragma once
#include <cstdlib>

#include "engine/engine.h"

namespace vitrine::test {

inline int test_device() {
    const char* gpu = std::getenv("VITRINE_TEST_DEVICE");
    return gpu ? std::atoi(gpu) : kCpu;
}

inline EngineOptions on_test_device(EngineOptions options = {}) {
    options.gpu = test_device();
    return options;
}

}  // namespace vitrine::test
