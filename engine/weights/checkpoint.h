// A checkpoint folder: config.json, safetensors shards and their index, checked as a whole before anything is used.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/base/reader.h"
#include "engine/tensor/tensor.h"

namespace vitrine {

// One tensor as the file states it; `data` points into the mapping.
struct RawTensor {
    std::string name;
    DType dtype = DType::f32;       // I8 stays i8 here; whether it is FP4 is for names_v4 to say
    std::vector<int64_t> shape;
    const std::byte* data = nullptr;
    uint64_t bytes = 0;
    std::shared_ptr<const MappedFile> file;
};

// Parses one safetensors file with the limits of docs (header 100 MB, rank 8, exact cover of the data section, no duplicate
// names). Throws Error naming file, tensor, byte offset, found, expected.
std::vector<RawTensor> read_safetensors(const std::string& path);

struct NamedArray {                 // for writing
    std::string name;
    DType dtype;
    std::vector<int64_t> shape;
    const void* data;
    uint64_t bytes;
};
// Writes atomically. Byte-readable by the safetensors package.
void write_safetensors(const std::string& path, const std::vector<NamedArray>& tensors);

// model.safetensors, or the shards of model.safetensors.index.json; every name once, every indexed name present, shard names
// single path components inside the folder.
std::map<std::string, RawTensor> read_folder(const std::string& folder);

}  // namespace vitrine
