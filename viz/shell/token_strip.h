// The timeline: one cell per token around the cursor, painted by phase, probability or entropy; above a bar of the
// whole.
#pragma once
#include <cstdint>
#include <vector>

#include "viz/shell/desk.h"

namespace vitrine::viz {

class TokenStrip {
  public:
    void draw(Desk& desk);
    static float height();  // real pixels

  private:
    void draw_header(Desk& desk);
    void draw_cells(Desk& desk);
    void draw_overview(Desk& desk, int64_t n_visible);
    int64_t first_ = 0;  // first cell shown
    int64_t last_cursor_ = -1;
    // Counted as tokens arrive: how many of each phase, and where runs of one phase begin (earlier answers lie in the
    // prompt).
    struct Run {
        Phase phase;
        int64_t begin;
    };
    void count(const Desk& desk);
    uint64_t counted_version_ = ~uint64_t{0};
    int64_t n_counted_ = 0, counts_[4] = {};
    std::vector<Run> runs_;
};

}  // namespace vitrine::viz
