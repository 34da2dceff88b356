// The timeline: one cell per token around the cursor, painted by phase, probability or entropy; below a bar of the
// whole. Tokens without a record and tokens out of context are hollow and grey, and say why on hover.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
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
    void draw_overview(Desk& desk, int64_t n_visible, int64_t n_lost);
    int64_t first_ = 0;  // first cell shown
    int64_t last_cursor_ = -1;
    // Counted as tokens arrive: how many of each phase, and where runs of one phase begin (earlier answers lie in the
    // prompt).
    struct Run {
        Phase phase;
        int64_t begin;
    };
    void count(const Desk& desk);
    // Tokens of shown turns that are not in the context any more: greyed cells before the timeline's, in a block of their own.
    struct Lost {
        const TokenInfo* token;
        std::string why;
    };
    void find_lost(const Desk& desk);
    void draw_cell(Desk& desk, const TokenInfo& t, ImVec2 a, ImVec2 b, const std::string& why);
    std::vector<Lost> lost_;
    std::shared_ptr<const Conversation> lost_of_;
    uint64_t lost_version_ = ~uint64_t{0};
    size_t lost_length_ = 0;
    uint64_t counted_version_ = ~uint64_t{0};
    int64_t n_counted_ = 0, counts_[4] = {};
    std::vector<Run> runs_;
};

}  // namespace vitrine::viz
