// Whole sequences packed one after the other, as the tape's forward sees them.
#pragma once
#include <cstdint>
#include <vector>

namespace vitrine {

// [n + 1]: segment i owns rows [v[i], v[i+1]) of a tensor; position 0 of a sequence is its segment's first row.
using Offsets = std::vector<int64_t>;
inline int64_t n_segments(const Offsets& v) { return static_cast<int64_t>(v.size()) - 1; }
inline int64_t longest_segment(const Offsets& v) {
    int64_t n = 0;
    for (size_t i = 0; i + 1 < v.size(); ++i) n = v[i + 1] - v[i] > n ? v[i + 1] - v[i] : n;
    return n;
}

}  // namespace vitrine
