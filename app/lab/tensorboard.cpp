// TensorBoard event files, byte by byte.
#include "app/lab/tensorboard.h"

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>

#include "engine/base/error.h"

namespace vitrine {
namespace {

constexpr std::array<uint32_t, 256> make_table() {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
        uint32_t c = i;
        for (int k = 0; k < 8; ++k) c = c & 1 ? (c >> 1) ^ 0x82F63B78u : c >> 1;
        table[i] = c;
    }
    return table;
}
constexpr std::array<uint32_t, 256> kTable = make_table();

void put_fixed(std::string& out, uint64_t v, int n_bytes) {
    for (int i = 0; i < n_bytes; ++i) out += static_cast<char>(v >> (8 * i) & 0xFF);
}
void put_varint(std::string& out, uint64_t v) {
    for (; v >= 0x80; v >>= 7) out += static_cast<char>((v & 0x7F) | 0x80);
    out += static_cast<char>(v);
}
// Protocol buffers: a field is its number and wire type (0 varint, 1 64 bits, 2 bytes with length, 5 32 bits), then the
// value.
void put_key(std::string& out, int field, int wire) {
    put_varint(out, static_cast<uint64_t>(field << 3 | wire));
}
void put_bytes(std::string& out, int field, std::string_view bytes) {
    put_key(out, field, 2);
    put_varint(out, bytes.size());
    out += bytes;
}
std::string event_of(double wall_time, int64_t step) {
    std::string e;
    put_key(e, 1, 1);  // wall_time
    put_fixed(e, std::bit_cast<uint64_t>(wall_time), 8);
    if (step != 0) put_key(e, 2, 0), put_varint(e, static_cast<uint64_t>(step));  // step; 0 is the default
    return e;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
    uint32_t c = ~0u;
    for (const char b : bytes) c = kTable[(c ^ static_cast<unsigned char>(b)) & 0xFF] ^ (c >> 8);
    return ~c;
}

uint32_t masked_crc32c(std::string_view bytes) {
    return std::rotr(crc32c(bytes), 15) + 0xa282ead8u;
}

std::string tf_record(std::string_view data) {
    std::string out;
    put_fixed(out, data.size(), 8);
    put_fixed(out, masked_crc32c(out), 4);
    out += data;
    put_fixed(out, masked_crc32c(data), 4);
    return out;
}

EventFile::EventFile(const std::string& folder, const std::string& name, double wall_time) : wall_time_(wall_time) {
    if (wall_time_ == 0)
        wall_time_ = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    path_ = folder + "/events.out.tfevents." + std::to_string(static_cast<int64_t>(wall_time_)) + "." + name;
    file_ = std::fopen(path_.c_str(), "wb");
    if (!file_) throw Error(ErrorKind::io, escaped(path_, 512) + ": " + std::strerror(errno));
    std::string first = event_of(wall_time_, 0);
    put_bytes(first, 3, "brain.Event:2");  // file_version
    write(first);
}

EventFile::~EventFile() {
    if (file_) std::fclose(file_);
}

void EventFile::write(std::string_view event) {
    const std::string bytes = tf_record(event);
    if (std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) has_failed_ = true;
}

void EventFile::scalar(int64_t step, std::string_view tag, float value) {
    std::string v, summary, event = event_of(wall_time_, step);
    put_bytes(v, 1, tag);  // Summary.Value.tag, .simple_value
    put_key(v, 2, 5);
    put_fixed(v, std::bit_cast<uint32_t>(value), 4);
    put_bytes(summary, 1, v);      // Summary.value
    put_bytes(event, 5, summary);  // Event.summary
    write(event);
}

void EventFile::close() {
    const bool has_closed = file_ && std::fclose(file_) == 0;
    file_ = nullptr;
    if (!has_closed || has_failed_)
        throw Error(ErrorKind::io, escaped(path_, 512) + ": could not be written completely");
}

}  // namespace vitrine
