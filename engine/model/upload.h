// Weights in a GPU's memory: copies of the packed tensors, byte for byte, so that roles and formats stay what the file has.
#pragma once
#include <memory>

#include "engine/device/cuda/device.h"
#include "engine/model/weights.h"

namespace vitrine::cuda {

// What `upload` will take, in bytes, alignment included.
uint64_t upload_bytes(const ModelWeights& w);
// The same weights with every view in the GPU's memory. A layer's experts lie one after the other at equal distances, w1, w2
// and w3 apart; experts of one layer in different formats: Error(bad_input). `host` must outlive the result's names only.
ModelWeights upload(const ModelWeights& host, const std::shared_ptr<Device>& device);
// One weight (a test's).
Param upload(const Param& host, const std::shared_ptr<Device>& device);

}  // namespace vitrine::cuda
