// Mapped files and the guard that turns a vanished page into an error.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "engine/base/bad_path.h"
#include "engine/base/error.h"
#include "engine/base/reader.h"

namespace vitrine {
namespace {

// What the signal handler may look at: fixed memory and atomics only. A slot is free while begin is 0.
struct Slot {
    std::atomic<uintptr_t> begin{0}, end{0};
    std::atomic<bool> has_failed{false};
};
constexpr int kSlots = 16384;  // four models of 4,096 shards
Slot g_slots[kSlots];
std::atomic<int> g_used{0};  // slots at and above were never used
std::mutex g_mutex;          // guards claiming, releasing and g_files
const MappedFile* g_files[kSlots];
struct sigaction g_previous;

void on_sigbus(int signal, siginfo_t* info, void* context) {
    const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
    const int n = g_used.load(std::memory_order_acquire);
    for (int i = 0; i < n; ++i) {
        const uintptr_t begin = g_slots[i].begin.load(std::memory_order_acquire), end = g_slots[i].end.load();
        if (begin == 0 || address < begin || address >= end) continue;
        // Everything from here on is gone or doubtful: one call for all of it, and the flag says that the zeros are not
        // data.
        const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
        const uintptr_t from = address / page * page;
        g_slots[i].has_failed.store(true);
        const int saved_errno = errno;
        void* p =
            mmap(reinterpret_cast<void*>(from), end - from, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        errno = saved_errno;
        if (p != MAP_FAILED) return;
    }
    if (g_previous.sa_flags & SA_SIGINFO) {
        g_previous.sa_sigaction(signal, info, context);
    } else if (g_previous.sa_handler != SIG_DFL && g_previous.sa_handler != SIG_IGN) {
        g_previous.sa_handler(signal);
    } else {
        sigaction(SIGBUS, &g_previous, nullptr);  // the instruction runs again and meets the default action
        if (info->si_code <= 0) raise(signal);    // ... unless somebody sent the signal
    }
}

int claim_slot(const MappedFile* file, const std::byte* data, uint64_t size) {
    const std::lock_guard lock(g_mutex);
    for (int i = 0; i < kSlots; ++i) {
        if (g_slots[i].begin.load() != 0) continue;
        g_slots[i].has_failed = false;
        g_slots[i].end = reinterpret_cast<uintptr_t>(data) + size;
        g_slots[i].begin.store(reinterpret_cast<uintptr_t>(data), std::memory_order_release);
        g_files[i] = file;
        if (g_used.load() <= i) g_used.store(i + 1, std::memory_order_release);
        return i;
    }
    return -1;
}

int64_t mtime_ns(const struct stat& s) {
    return s.st_mtim.tv_sec * 1'000'000'000ll + s.st_mtim.tv_nsec;
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path, const std::string& shown) {
    install_mapping_guard();
    std::shared_ptr<MappedFile> f(new MappedFile);
    f->path_ = shown.empty() ? path : shown;
    const auto fail = [&](const std::string& what) {
        throw Error(ErrorKind::io, escaped(f->path_, 512) + ": " + what);
    };
    f->fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a FIFO must not block us
    if (f->fd_ < 0) fail_to_open(f->path_, errno);
    struct stat s;
    if (fstat(f->fd_, &s) != 0) fail(std::string("can't be examined: ") + std::strerror(errno));
    if (!S_ISREG(s.st_mode)) throw BadPath(escaped(f->path_, 512) + ": is not a regular file");
    f->size_ = static_cast<uint64_t>(s.st_size);
    f->mtime_ns_ = mtime_ns(s);
    if (f->size_ == 0) return f;
    void* p = mmap(nullptr, f->size_, PROT_READ, MAP_PRIVATE, f->fd_, 0);
    if (p == MAP_FAILED) fail(std::to_string(f->size_) + " bytes can't be mapped: " + std::strerror(errno));
    f->data_ = static_cast<const std::byte*>(p);
    f->slot_ = claim_slot(f.get(), f->data_, f->size_);
    if (f->slot_ < 0) fail("more than " + std::to_string(kSlots) + " files are mapped at once");
    return f;
}

MappedFile::~MappedFile() {
    if (slot_ >= 0) {
        const std::lock_guard lock(g_mutex);
        g_files[slot_] = nullptr;
        g_slots[slot_].begin = 0;
    }
    if (data_) munmap(const_cast<std::byte*>(data_), size_);
    if (fd_ >= 0) close(fd_);
}

void MappedFile::check_unchanged() const {
    struct stat s;
    if (fstat(fd_, &s) != 0)
        throw Error(ErrorKind::io, escaped(path_, 512) + ": can't be examined: " + std::strerror(errno));
    if (static_cast<uint64_t>(s.st_size) != size_)
        throw Error(ErrorKind::io, escaped(path_, 512) + ": its size changed from " + std::to_string(size_) + " to " +
                                       std::to_string(s.st_size) + " bytes while it was in use: load the model again");
    if (mtime_ns(s) != mtime_ns_)
        throw Error(ErrorKind::io, escaped(path_, 512) + ": was written to while it was in use: load the model again");
    if (slot_ >= 0 && g_slots[slot_].has_failed)
        throw Error(ErrorKind::io, escaped(path_, 512) + ": a part of it could not be read: load the model again");
}

void install_mapping_guard() {
    static const bool once = [] {
        struct sigaction a {};
        a.sa_sigaction = on_sigbus;
        a.sa_flags = SA_SIGINFO | SA_NODEFER;
        sigemptyset(&a.sa_mask);
        sigaction(SIGBUS, &a, &g_previous);
        return true;
    }();
    (void)once;
}

void throw_if_mapping_failed() {
    const std::lock_guard lock(g_mutex);
    const int n = g_used.load();
    for (int i = 0; i < n; ++i)
        if (g_files[i]) g_files[i]->check_unchanged();
}

}  // namespace vitrine
