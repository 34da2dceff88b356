// Curves of runs: the seeds of a group as one series with its mean, band and faint lines; kept and extended as points
// arrive.
#pragma once
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/telemetry/lab.h"
#include "viz/widgets/line_plot.h"

namespace vitrine::viz::lab {

// One metric of one group. Seeds share their steps; one that has others is a curve of its own (`strays`).
class GroupCurve {
  public:
    // `members`: the group's runs, in the same order every time. Cheap when nothing arrived.
    void update(const std::vector<const LabSeries*>& members);
    // Spans into this and into the members: valid until either changes.
    ui::Series series(const std::string& name, ImU32 color, bool is_dashed) const;
    size_t n_points() const { return mean_.size(); }
    size_t n_seeds() const { return n_seeds_; }
    const std::vector<size_t>& strays() const { return strays_; }

  private:
    static constexpr size_t kMaxLines = 12;  // more seeds: the band alone
    struct Seen {
        const LabSeries* series;
        size_t n;
        uint64_t revision;
    };
    bool is_extension(const std::vector<const LabSeries*>& members) const;
    void rebuild(const std::vector<const LabSeries*>& members);
    void add(const LabSeries& s, size_t from);
    std::vector<Seen> seen_;
    std::vector<double> step_, mean_, lo_, hi_, sum_;
    std::vector<uint32_t> count_;
    std::vector<std::span<const double>> lines_;
    std::vector<size_t> strays_;
    size_t n_seeds_ = 0;
    uint64_t revision_ = 1;
};

// The first step at which two runs differ in a metric, over the steps that both have.
struct Comparison {
    int64_t n_shared = 0, first_difference = -1;  // -1: equal bit for bit
};
Comparison compare_series(const LabSeries& a, const LabSeries& b);

}  // namespace vitrine::viz::lab
