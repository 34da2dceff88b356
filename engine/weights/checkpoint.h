// A checkpoint folder: config.json, safetensors shards and their index, checked as a whole before anything is used.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/base/reader.h"
#include "engine/tensor/tensor.h"

namespace vitrine {

// One tensor as the file states it; `data` points into the mapping.
struct RawTensor {
    std::string name;
    DType dtype = DType::f32;  // I8 stays i8 here; whether it is FP4 is for names_v4 to say
    std::vector<int64_t> shape;
    const std::byte* data = nullptr;
    uint64_t bytes = 0;
    std::shared_ptr<const MappedFile> file;
};

std::string shape_text(const std::vector<int64_t>& shape);  // "[512, 1024]"

// Parses one safetensors file with the limits of docs (header 100 MB, rank 8, exact cover of the data section, no
// duplicate names). Throws Error naming file, tensor, byte offset, found, expected.
std::vector<RawTensor> read_safetensors(const std::string& path);
std::vector<RawTensor> read_safetensors(const std::shared_ptr<const MappedFile>& file);

// Writes one file tensor by tensor, so that a model need not fit into memory twice. The data follows in the order of
// `plan` (largest element size first keeps every tensor aligned); nothing appears under `path` before finish().
struct TensorPlan {
    std::string name;
    DType dtype = DType::f32;  // fp4_e2m1 is not a dtype of the format: packed nibbles are I8
    std::vector<int64_t> shape;
    uint64_t bytes() const;
};
class SafetensorsWriter {
  public:
    SafetensorsWriter(const std::string& path, std::vector<TensorPlan> plan);
    void write(const void* data, uint64_t bytes);  // the next bytes of the data section, in pieces of any size
    void finish();                                 // Error(internal) unless exactly the planned bytes were written

  private:
    AtomicFile file_;
    uint64_t remaining_ = 0;
};

struct NamedArray {  // for writing
    std::string name;
    DType dtype;
    std::vector<int64_t> shape;
    const void* data;
    uint64_t bytes;
};
// Writes atomically. Byte-readable by the safetensors package.
void write_safetensors(const std::string& path, const std::vector<NamedArray>& tensors);

// model.safetensors, or the shards of model.safetensors.index.json; every name once, every indexed name present, shard
// names single path components inside the folder. Links must end inside it, or inside the `models--*` folder of a
// Hugging Face cache. `stop` is read between files: Error(cancelled).
std::map<std::string, RawTensor> read_folder(const std::string& folder, const std::stop_token& stop = {});

}  // namespace vitrine
