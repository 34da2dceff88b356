// Reference vectors: reading and widening.
#include "tests/support/vectors.h"

#include <cstring>

#include "engine/device/cpu/formats.h"
#include "engine/weights/checkpoint.h"

namespace vitrine::test {
namespace {

template <class T>
void widen(const RawTensor& t, std::vector<double>& out) {
    out.resize(t.bytes / sizeof(T));
    for (size_t i = 0; i < out.size(); ++i) {
        T v;
        std::memcpy(&v, t.data + i * sizeof(T), sizeof(T));
        out[i] = static_cast<double>(v);
    }
}

}  // namespace

Arrays load_arrays(const std::string& path) {
    Arrays arrays;
    for (const RawTensor& t : read_safetensors(path)) {
        Array& a = arrays[t.name];
        a.shape = t.shape;
        if (t.dtype == DType::f32) widen<float>(t, a.values);
        else if (t.dtype == DType::f64) widen<double>(t, a.values);
        else if (t.dtype == DType::i32) widen<int32_t>(t, a.values);
        else if (t.dtype == DType::i64) widen<int64_t>(t, a.values);
        else if (t.dtype == DType::u8) widen<uint8_t>(t, a.values);
        else if (t.dtype == DType::bf16) {
            widen<uint16_t>(t, a.values);
            for (double& v : a.values) v = cpu::bf16_to_f32(static_cast<uint16_t>(v));
        } else {
            throw Error(ErrorKind::bad_input, path + ": " + t.name + " has a dtype the tests don't read");
        }
    }
    return arrays;
}

std::vector<int32_t> int_list(const Array& a) { return {a.values.begin(), a.values.end()}; }

std::string golden_path(const std::string& name) { return std::string(VITRINE_SOURCE_DIR) + "/tests/golden/" + name; }

}  // namespace vitrine::test
