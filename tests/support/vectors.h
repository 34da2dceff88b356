// Reference vectors: a safetensors file as named arrays of double or int.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace vitrine::test {

struct Array {
    std::vector<int64_t> shape;
    std::vector<double> values;      // integers convert exactly
    int64_t dim(int i) const { return shape.at(i); }
    double at(int64_t row, int64_t i) const { return values.at(row * (static_cast<int64_t>(values.size()) / shape[0]) + i); }
    int64_t width() const { return static_cast<int64_t>(values.size()) / shape[0]; }
};

using Arrays = std::map<std::string, Array>;
Arrays load_arrays(const std::string& path);
std::vector<int32_t> int_list(const Array& a);
std::string golden_path(const std::string& name);  // under tests/golden

}  // namespace vitrine::test
