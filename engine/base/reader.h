// Bounded reading of files from strangers: a mapped or owned range of bytes and a cursor that never leaves it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "engine/base/checked.h"

namespace vitrine {

// Reads a whole regular file into memory. BadPath (bad_path.h) when it can't be opened or is no regular file;
// Error(bad_input) when it is larger than `max_bytes`; Error(io).
std::string read_file(const std::string& path, uint64_t max_bytes);

// Writes through a temporary file in the same folder, fsync, rename, fsync of the folder. Error(io) with path and errno
// text.
void write_file_atomic(const std::string& path, std::string_view bytes);

// A file being written under a temporary name; `commit` makes it durable and puts it in place, else it vanishes. Error(io).
class AtomicFile {
  public:
    explicit AtomicFile(std::string path);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;
    void write(const void* data, uint64_t bytes);
    void commit();

  private:
    [[noreturn]] void fail(const char* what);
    std::string path_, temporary_;
    int fd_ = -1;
};

// A file mapped read-only. Opening refuses anything but a regular file. Immutable after construction, any thread may
// read. A page that vanishes (the file shrank) would be SIGBUS: read through `guarded` below.
class MappedFile {
  public:
    // `shown` is the path for messages when it differs (a resolved link).
    static std::shared_ptr<const MappedFile> open(const std::string& path, const std::string& shown = "");
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;
    const std::byte* data() const { return data_; }
    uint64_t size() const { return size_; }
    const std::string& path() const { return path_; }
    void check_unchanged() const;  // Error(io) when size or mtime differ from what was mapped, or a page was lost

  private:
    MappedFile() = default;
    std::string path_;
    const std::byte* data_ = nullptr;
    uint64_t size_ = 0;
    int fd_ = -1;
    int64_t mtime_ns_ = 0;
    int slot_ = -1;  // in the guard's table
};

// Process-wide guard for mapped weights that are read by kernels on any thread, installed by the first MappedFile::open: a SIGBUS
// inside a MappedFile replaces the vanished pages by zeros and sets a flag; `throw_if_mapping_failed()` (called after every
// forward) turns the flag, or a changed size or time of any mapped file, into Error(io) naming the file, until that mapping is
// closed. So a shrinking or rewritten file is an error, never a crash or silent zeros. A SIGBUS elsewhere goes to the handler
// before.
void install_mapping_guard();
void throw_if_mapping_failed();

// A cursor over bytes: every read is compared with what remains. Integers are little-endian.
class ByteReader {
  public:
    ByteReader(std::string file, const std::byte* data, uint64_t size)
        : file_(std::move(file)), data_(data), size_(size) {}
    uint64_t offset() const { return at_; }
    uint64_t remaining() const { return size_ - at_; }
    uint8_t u8();
    uint32_t u32();
    uint64_t u64();
    float f32();
    std::string_view bytes(Checked n);  // Error(bad_input) naming file, offset, found and needed bytes
    void skip(Checked n) { bytes(n); }

  private:
    std::string file_;
    const std::byte* data_;
    uint64_t size_;
    uint64_t at_ = 0;
};

// Checks a file name found inside a file (an index, a manifest): one relative component, no separators, no "..", no
// control or bidirectional characters, at most 255 bytes. Returns "" when fine, else what was expected.
std::string bad_file_name_reason(std::string_view name);

// Decodes one UTF-8 character at `at` and moves past it; 0xFFFFFFFF (and one byte further) when it is not valid UTF-8.
uint32_t next_code_point(std::string_view text, size_t& at);
// Control and bidirectional characters, zero-width marks, line separators: never shown raw, never in names.
bool is_unsafe_code_point(uint32_t c);

}  // namespace vitrine
