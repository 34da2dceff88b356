// Arrays as NumPy's .npz. Zip: PKWARE's APPNOTE 4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (its end),
// method 0. .npy: numpy/lib/format version 1.0: magic, header length, a Python dict padded with spaces to a multiple
// of 64.
#include "app/cli/npz.h"

#include <array>
#include <cstring>

namespace vitrine::cli {
namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
        uint32_t c = i;
        for (int k = 0; k < 8; ++k) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
        table[i] = c;
    }
    return table;
}

uint32_t crc32(std::string_view bytes) {
    static constexpr auto table = make_crc_table();
    uint32_t c = 0xFFFFFFFFu;
    for (char b : bytes) c = table[(c ^ static_cast<unsigned char>(b)) & 0xFF] ^ (c >> 8);
    return c ^ 0xFFFFFFFFu;
}

void put16(std::string& s, uint32_t v) {
    s += static_cast<char>(v);
    s += static_cast<char>(v >> 8);
}
void put32(std::string& s, uint32_t v) {
    put16(s, v);
    put16(s, v >> 16);
}

const char* descr(DType t) {
    switch (t) {
        case DType::f32:
            return "<f4";
        case DType::f64:
            return "<f8";
        case DType::i32:
            return "<i4";
        case DType::i64:
            return "<i8";
        default:
            throw Error(ErrorKind::internal, std::string("no .npy form of ") + dtype_name(t));
    }
}

std::string npy(const NamedArray& a) {
    std::string shape;
    for (int64_t n : a.shape) shape += std::to_string(n) + (a.shape.size() == 1 ? "," : ", ");
    if (a.shape.size() > 1) shape.resize(shape.size() - 2);
    std::string header =
        std::string("{'descr': '") + descr(a.dtype) + "', 'fortran_order': False, 'shape': (" + shape + "), }";
    while ((10 + header.size() + 1) % 64 != 0) header += ' ';
    header += '\n';
    std::string s("\x93NUMPY\x01\x00", 8);
    put16(s, static_cast<uint32_t>(header.size()));
    s += header;
    s.append(static_cast<const char*>(a.data), a.bytes);
    return s;
}

// The fields that the local header and the directory have in common.
std::string common_fields(uint32_t crc, size_t size, size_t name_size) {
    std::string s;
    put16(s, 20);      // version needed
    put16(s, 0x0800);  // names are UTF-8
    put16(s, 0);       // stored
    put16(s, 0);       // time
    put16(s, 0x21);    // 1980-01-01: files do not depend on the clock
    put32(s, crc);
    put32(s, static_cast<uint32_t>(size));
    put32(s, static_cast<uint32_t>(size));
    put16(s, static_cast<uint32_t>(name_size));
    put16(s, 0);  // no extra field
    return s;
}

}  // namespace

std::string npz_bytes(const std::vector<NamedArray>& arrays) {
    Checked total = 0;
    for (const NamedArray& a : arrays) total = total + Checked(a.bytes) + Checked(512 + 2 * a.name.size());
    if (total > Checked(0xFFFFFFFFull) || arrays.size() > 0xFFFE)
        throw Error(ErrorKind::bad_input, "the arrays take " + std::to_string(total.value()) +
                                              " bytes, more than the 4 GiB of an .npz: write a .safetensors file");
    std::string out, directory;
    out.reserve(total.value());
    for (const NamedArray& a : arrays) {
        const std::string body = npy(a), name = a.name + ".npy";
        const uint32_t offset = static_cast<uint32_t>(out.size());
        const std::string fields = common_fields(crc32(body), body.size(), name.size());
        out += std::string("PK\x03\x04", 4) + fields + name + body;
        directory += std::string("PK\x01\x02", 4);
        put16(directory, 20);  // made by: version 2.0, FAT
        directory += fields;
        put16(directory, 0);  // no comment
        put16(directory, 0);  // disk
        put16(directory, 0);  // internal attributes
        put32(directory, 0);  // external attributes
        put32(directory, offset);
        directory += name;
    }
    const auto begin = static_cast<uint32_t>(out.size());
    out += directory + std::string("PK\x05\x06", 4);
    put16(out, 0);
    put16(out, 0);
    put16(out, static_cast<uint32_t>(arrays.size()));
    put16(out, static_cast<uint32_t>(arrays.size()));
    put32(out, static_cast<uint32_t>(directory.size()));
    put32(out, begin);
    put16(out, 0);
    return out;
}

}  // namespace vitrine::cli
