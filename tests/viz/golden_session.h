// A finished conversation made of the reference vectors: a snapshot whose records hold the vectors' numbers, and the vectors
// themselves, so that tests can compare what is drawn with where it came from.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "viz/snapshot.h"

namespace vitrine::viz::test {

struct Array {
    std::vector<int64_t> shape;
    std::vector<float> f;
    std::vector<int32_t> i;
    bool empty() const { return f.empty() && i.empty(); }
    // Elements of the t-th slice along the first dimension.
    std::span<const float> row(int64_t t) const;
    std::span<const int32_t> int_row(int64_t t) const;
};

class Vectors {
  public:
    void read(const std::string& path);                         // adds all arrays of a safetensors file
    const Array& at(const std::string& name) const;             // throws when absent
    const Array& at(int layer, const std::string& name) const;  // "blocks.{layer}.{name}"
    bool has(int layer, const std::string& name) const;
    std::map<std::string, Array> arrays;
};

struct GoldenSession {
    Vectors vectors;                       // golden.safetensors and exact_extra
    std::shared_ptr<ModelInfo> model;      // config, router bias
    Snapshot snapshot;
    int64_t n_tokens = 0;
};

// `name`: flashlike or prolike. Records hold what the vectors have (router, mixing, picks, scores, shares, pooling weights);
// entry masses, which they lack, are the compressed share spread evenly.
GoldenSession golden_session(const std::string& name);

// Puts a changed copy of the records into the snapshot's trace: `change` may alter any array before it is stored.
using Change = std::function<void(int64_t position, int layer, Probe probe, std::vector<float>& values)>;
void record_vectors(GoldenSession& g, const Change& change);

}  // namespace vitrine::viz::test
