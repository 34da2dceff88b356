// Processor features by cpuid, conversion tables, scratch memory.
#include "engine/device/cpu/support.h"

#include <cmath>
#include <cstdlib>
#include <new>

#include "engine/device/cpu/formats.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace vitrine::cpu {
namespace {

#if defined(__x86_64__)
struct Regs {
    uint32_t a = 0, b = 0, c = 0, d = 0;
};
Regs cpuid(uint32_t leaf, uint32_t sub) {
    Regs r;
    if (!__get_cpuid_count(leaf, sub, &r.a, &r.b, &r.c, &r.d)) return {};
    return r;
}
bool bit(uint32_t word, int i) {
    return word >> i & 1u;
}

// Which register states the operating system saves (XCR0).
uint64_t saved_states() {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return static_cast<uint64_t>(high) << 32 | low;
}

// Linux hands out the AMX tile state on request only: ARCH_REQ_XCOMP_PERM (0x1023) for XTILEDATA (18).
bool request_tiles() {
#if defined(__linux__)
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
    return false;
#endif
}

Features detect() {
    Features f;
    const Regs one = cpuid(1, 0);
    if (!bit(one.c, 27)) return f;  // no OSXSAVE: nothing wider than SSE may be used
    const uint64_t saved = saved_states();
    const Regs seven = cpuid(7, 0), seven1 = cpuid(7, 1);
    f.avx2 = (saved & 0x6) == 0x6 && bit(one.c, 12) && bit(one.c, 29) && bit(one.c, 28) && bit(seven.b, 5);
    f.avx512 = f.avx2 && (saved & 0xe6) == 0xe6 && bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 30) &&
               bit(seven.b, 31);
    f.avx512_bf16 = f.avx512 && bit(seven1.a, 5) && bit(seven.c, 1) && bit(seven.c, 11);
    f.amx_bf16 =
        f.avx512_bf16 && (saved & 0x60000) == 0x60000 && bit(seven.d, 24) && bit(seven.d, 22) && request_tiles();
    return f;
}
#else
Features detect() {
    return {};
}
#endif

Tables* make_tables() {
    static Tables t;
    for (int s = 0; s < 256; ++s) {
        const float scale = e8m0_to_f32(static_cast<uint8_t>(s));
        t.e8m0[s] = scale;
        for (int b = 0; b < 128; ++b) {
            const uint16_t v = f32_to_bf16(fp8_decode(static_cast<uint8_t>(b)) * scale);
            t.fp8_high[s][b] = static_cast<uint8_t>(v >> 8);
            t.fp8_low[s][b] = static_cast<uint8_t>(v);
        }
        for (int b = 0; b < 16; ++b) t.fp4[s][b] = f32_to_bf16(fp4_decode(static_cast<uint8_t>(b)) * scale);
    }
    return &t;
}

struct Scratch {
    void* data[kNSlots] = {};
    size_t bytes[kNSlots] = {};
    ~Scratch() {
        for (void* p : data) std::free(p);
    }
};

}  // namespace

const Features& features() {
    static const Features f = detect();
    return f;
}

const Tables& tables() {
    static const Tables* t = make_tables();
    return *t;
}

float exp_any(float x) {
    return std::exp(x);
}

void* thread_scratch(int slot, size_t bytes) {
    thread_local Scratch scratch;
    if (scratch.bytes[slot] < bytes) {
        const size_t size = (bytes + 4095) / 4096 * 4096;
        std::free(scratch.data[slot]);
        scratch.bytes[slot] = 0;
        scratch.data[slot] = std::aligned_alloc(64, size);
        if (!scratch.data[slot]) throw std::bad_alloc();
        scratch.bytes[slot] = size;
    }
    return scratch.data[slot];
}

}  // namespace vitrine::cpu
