// Where the model's tests run: on the CPU, or with VITRINE_TEST_DEVICE=N in the environment on GPU N (tests/gpu/run.sh).
#pragma once
#include <cstdlib>

#include "engine/engine.h"

namespace vitrine::test {

inline EngineOptions on_test_device(EngineOptions options = {}) {
    if (const char* gpu = std::getenv("VITRINE_TEST_DEVICE")) options.gpu = std::atoi(gpu);
    return options;
}

}  // namespace vitrine::test
