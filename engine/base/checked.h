// Checked 64-bit sizes: every product and sum of numbers that come out of a file goes through this type.
#pragma once
#include <cstdint>
#include <limits>

#include "engine/base/error.h"

namespace vitrine {

// An unsigned 64-bit number whose arithmetic throws Error(bad_input) on overflow instead of wrapping.
class Checked {
  public:
    constexpr Checked() = default;
    constexpr Checked(uint64_t v) : v_(v) {}  // NOLINT: implicit on purpose, it mixes with plain sizes
    constexpr uint64_t value() const { return v_; }

    friend Checked operator+(Checked a, Checked b) {
        uint64_t r;
        return __builtin_add_overflow(a.v_, b.v_, &r) ? overflow() : Checked(r);
    }
    friend Checked operator-(Checked a, Checked b) { return a.v_ < b.v_ ? overflow() : Checked(a.v_ - b.v_); }
    friend Checked operator*(Checked a, Checked b) {
        uint64_t r;
        return __builtin_mul_overflow(a.v_, b.v_, &r) ? overflow() : Checked(r);
    }
    friend Checked operator/(Checked a, Checked b) { return b.v_ == 0 ? overflow() : Checked(a.v_ / b.v_); }
    friend bool operator==(Checked a, Checked b) { return a.v_ == b.v_; }
    friend auto operator<=>(Checked a, Checked b) { return a.v_ <=> b.v_; }

    // Narrowing that throws when the value does not fit.
    template <class T>
    T to() const {
        if (v_ > static_cast<uint64_t>(std::numeric_limits<T>::max())) overflow();
        return static_cast<T>(v_);
    }

  private:
    [[noreturn]] static Checked overflow() {
        throw Error(ErrorKind::bad_input, "a size in the file is too large: arithmetic on it overflows 64 bits");
    }
    uint64_t v_ = 0;
};

inline Checked ceil_div(Checked a, Checked b) { return a == Checked(0) ? Checked(0) : (a - 1) / b + 1; }
inline Checked round_up(Checked a, Checked b) { return ceil_div(a, b) * b; }

}  // namespace vitrine
