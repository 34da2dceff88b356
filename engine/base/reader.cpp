// Whole files in and out, the byte cursor, and the rules for names that come from files.
#include "engine/base/reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "engine/base/bad_path.h"
#include "engine/base/disk_full.h"

namespace vitrine {
namespace {

[[noreturn]] void io_error(const std::string& path, const std::string& what, int number) {
    const std::string message = escaped(path, 512) + ": " + what + (number ? std::string(": ") + std::strerror(number) : "");
    if (number == ENOSPC || number == EDQUOT) throw DiskFull(message);
    throw Error(ErrorKind::io, message);
}

struct Descriptor {
    int fd;
    explicit Descriptor(int f) : fd(f) {}
    ~Descriptor() {
        if (fd >= 0) close(fd);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
};

std::string folder_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

void fail_to_open(const std::string& path, int number) {
    switch (number) {
        case ENOENT:
        case ENOTDIR:
        case EISDIR:
        case EACCES:
        case EPERM:
        case ELOOP:
        case ENAMETOOLONG:
            throw BadPath(escaped(path, 512) + ": can't be opened: " + std::strerror(number));
        default:
            io_error(path, "can't be opened", number);
    }
}

std::string read_file(const std::string& path, uint64_t max_bytes) {
    const Descriptor d(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (d.fd < 0) fail_to_open(path, errno);
    struct stat s;
    if (fstat(d.fd, &s) != 0) io_error(path, "can't be examined", errno);
    if (!S_ISREG(s.st_mode)) throw BadPath(escaped(path, 512) + ": is not a regular file");
    const auto refuse = [&](uint64_t n) {
        throw Error(ErrorKind::bad_input, escaped(path, 512) + ": " + std::to_string(n) + " bytes, at most " +
                                              std::to_string(max_bytes) + " are read here");
    };
    if (static_cast<uint64_t>(s.st_size) > max_bytes) refuse(static_cast<uint64_t>(s.st_size));
    std::string out(static_cast<size_t>(s.st_size), '\0');
    size_t at = 0;
    while (true) {  // until the end as read, which need not be the end as stated
        if (at == out.size()) {
            char more;
            const ssize_t n = ::read(d.fd, &more, 1);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) io_error(path, "can't be read", errno);
            if (n == 0) return out;
            if (at + 1 > max_bytes) refuse(at + 1);
            out += more, ++at;
            continue;
        }
        const ssize_t n = ::read(d.fd, out.data() + at, out.size() - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) io_error(path, "can't be read", errno);
        if (n == 0) return out.resize(at), out;
        at += static_cast<size_t>(n);
    }
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
    static std::atomic<unsigned> counter{0};
    temporary_ = path_ + ".tmp-" + std::to_string(getpid()) + "-" + std::to_string(counter++);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd_ < 0) io_error(path_, "can't be created", errno);
}

AtomicFile::~AtomicFile() {
    if (fd_ < 0) return;
    close(fd_);
    unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* what) { io_error(path_, what, errno); }

void AtomicFile::write(const void* data, uint64_t bytes) {
    const char* p = static_cast<const char*>(data);
    while (bytes > 0) {
        const ssize_t n = ::write(fd_, p, std::min<uint64_t>(bytes, uint64_t{1} << 30));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail("can't be written");
        p += n, bytes -= static_cast<uint64_t>(n);
    }
}

void AtomicFile::commit() {
    if (fsync(fd_) != 0) fail("can't be made durable");
    if (rename(temporary_.c_str(), path_.c_str()) != 0) fail("can't be put in place");
    close(fd_);
    fd_ = -1;
    const Descriptor folder(::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (folder.fd >= 0 && fsync(folder.fd) != 0 && errno != EINVAL && errno != ENOTSUP)
        io_error(path_, "its folder can't be made durable", errno);
}

void write_file_atomic(const std::string& path, std::string_view bytes) {
    AtomicFile f(path);
    f.write(bytes.data(), bytes.size());
    f.commit();
}

std::string_view ByteReader::bytes(Checked n) {
    if (n.value() > remaining())
        throw Error(ErrorKind::bad_input, escaped(file_, 512) + ": byte " + std::to_string(at_) + ": needs " +
                                              std::to_string(n.value()) + " more bytes, found " +
                                              std::to_string(remaining()));
    const std::string_view s(reinterpret_cast<const char*>(data_) + at_, n.value());
    at_ += n.value();
    return s;
}

namespace {
template <class T>
T little_endian(std::string_view b) {
    uint64_t v = 0;
    for (size_t i = sizeof(T); i-- > 0;) v = v << 8 | static_cast<unsigned char>(b[i]);
    return static_cast<T>(v);
}
}  // namespace

uint8_t ByteReader::u8() {
    return little_endian<uint8_t>(bytes(1));
}
uint32_t ByteReader::u32() {
    return little_endian<uint32_t>(bytes(4));
}
uint64_t ByteReader::u64() {
    return little_endian<uint64_t>(bytes(8));
}
float ByteReader::f32() {
    const uint32_t u = u32();
    float f;
    std::memcpy(&f, &u, sizeof f);
    return f;
}

uint32_t next_code_point(std::string_view s, size_t& at) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
    const unsigned c = byte(at);
    const int n = c < 0x80 ? 1 : c >= 0xC2 && c < 0xE0 ? 2 : c >= 0xE0 && c < 0xF0 ? 3 : c >= 0xF0 && c < 0xF5 ? 4 : 0;
    constexpr uint32_t kBad = 0xFFFFFFFF;
    if (n == 1) return ++at, c;
    if (n == 0 || at + static_cast<size_t>(n) > s.size()) return ++at, kBad;
    uint32_t v = c & (0xFFu >> (n + 1));
    for (int i = 1; i < n; ++i) {
        const unsigned d = byte(at + static_cast<size_t>(i));
        if ((d & 0xC0) != 0x80) return ++at, kBad;
        v = v << 6 | (d & 0x3F);
    }
    const bool too_long = (n == 3 && v < 0x800) || (n == 4 && v < 0x10000);
    if (too_long || v > 0x10FFFF || (v >= 0xD800 && v < 0xE000)) return ++at, kBad;
    at += static_cast<size_t>(n);
    return v;
}

bool is_unsafe_code_point(uint32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x61C || (c >= 0x200B && c <= 0x200F) ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF ||
           (c >= 0xFFF0 && c <= 0xFFFB) || (c >= 0xE0000 && c < 0xE0080);
}

std::string bad_file_name_reason(std::string_view name) {
    if (name.empty()) return "a file name that is not empty";
    if (name.size() > 255) return "a file name of at most 255 bytes";
    if (name == "." || name == "..") return "a file name, not a folder";
    if (name.find("..") != name.npos) return "a file name without \"..\"";
    if (name.front() == ' ' || name.back() == ' ' || name.back() == '.')
        return "a file name without spaces or dots around it";
    for (size_t at = 0; at < name.size();) {
        const uint32_t c = next_code_point(name, at);
        if (c == 0xFFFFFFFF) return "a file name in valid UTF-8";
        if (is_unsafe_code_point(c)) return "a file name without control or invisible characters";
        if (c == '/' || c == '\\' || c == ':') return "a plain file name inside the folder, without / \\ or :";
        for (uint32_t slash : {0x2044u, 0x2215u, 0x29F8u, 0x29F9u, 0xFF0Fu, 0xFF3Cu, 0xFE68u, 0xFF1Au})
            if (c == slash) return "a file name without characters that look like / \\ or :";
    }
    return {};
}

}  // namespace vitrine
