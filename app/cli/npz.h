// Arrays as NumPy's .npz: a zip of stored .npy files, written by hand.
#pragma once
#include <string>
#include <vector>

#include "engine/weights/checkpoint.h"

namespace vitrine::cli {

// Little-endian, C order. f32, f64, i32, i64 only. Error(bad_input) above 4 GiB: zip's 32-bit sizes (use .safetensors).
std::string npz_bytes(const std::vector<NamedArray>& arrays);

}  // namespace vitrine::cli
