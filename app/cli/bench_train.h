// vitrine bench --train.
#pragma once
#include <cstdint>
#include <stop_token>
#include <string>

namespace vitrine {
class Communicator;
}

namespace vitrine::cli {

// Trains the preset for n_steps and prints what it took. n_threads 0: one per core.
// Over ranks each takes its share of every batch.
void bench_train(const std::string& preset, int64_t n_steps, int64_t n_threads, const std::string& device, bool is_json,
                 Communicator& ranks, std::stop_token stop);

}  // namespace vitrine::cli
