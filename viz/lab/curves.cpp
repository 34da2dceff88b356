// Curves of runs.
#include "viz/lab/curves.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace vitrine::viz::lab {

bool GroupCurve::is_extension(const std::vector<const LabSeries*>& members) const {
    if (members.size() != seen_.size()) return false;
    for (size_t i = 0; i < members.size(); ++i)
        if (members[i] != seen_[i].series || members[i]->revision != seen_[i].revision ||
            members[i]->value.size() < seen_[i].n)
            return false;
    return true;
}

void GroupCurve::add(const LabSeries& s, size_t from) {
    for (size_t i = from; i < s.value.size(); ++i) {
        const double v = s.value[i];
        if (i == step_.size()) {
            step_.push_back(s.step[i]), sum_.push_back(0), count_.push_back(0);
            lo_.push_back(std::numeric_limits<double>::quiet_NaN()), hi_.push_back(lo_.back()),
                mean_.push_back(lo_.back());
        }
        if (!std::isfinite(v)) continue;
        sum_[i] += v, ++count_[i];
        mean_[i] = count_[i] == 1 ? v : sum_[i] / count_[i];
        lo_[i] = count_[i] == 1 ? v : std::min(lo_[i], v), hi_[i] = count_[i] == 1 ? v : std::max(hi_[i], v);
    }
}

void GroupCurve::rebuild(const std::vector<const LabSeries*>& members) {
    step_.clear(), mean_.clear(), lo_.clear(), hi_.clear(), sum_.clear(), count_.clear(), strays_.clear();
    seen_.clear();
    ++revision_;
    for (const LabSeries* s : members) seen_.push_back({s, 0, s->revision});
}

void GroupCurve::update(const std::vector<const LabSeries*>& members) {
    if (!is_extension(members)) rebuild(members);
    bool is_filled_in = false;  // points came before the end: the mean there changed
    for (size_t i = 0; i < members.size(); ++i) {
        const LabSeries& s = *members[i];
        const size_t from = seen_[i].n;
        if (s.value.size() == from || std::count(strays_.begin(), strays_.end(), i)) continue;
        const size_t shared = std::min(step_.size(), s.step.size());
        const auto at = [](size_t k) { return static_cast<ptrdiff_t>(k); };
        const bool has_same_steps = shared <= from || std::equal(s.step.begin() + at(from), s.step.begin() + at(shared),
                                                                 step_.begin() + at(from));
        if (!has_same_steps) {
            strays_.push_back(i);
            continue;
        }
        is_filled_in |= from < step_.size();
        add(s, from);
        seen_[i].n = s.value.size();
    }
    if (is_filled_in) ++revision_;
    lines_.clear();
    n_seeds_ = members.size() - strays_.size();
    for (size_t i = 0; i < members.size() && n_seeds_ > 1 && n_seeds_ <= kMaxLines; ++i)
        if (!std::count(strays_.begin(), strays_.end(), i)) lines_.push_back(members[i]->value);
}

ui::Series GroupCurve::series(const std::string& name, ImU32 color, bool is_dashed) const {
    ui::Series s;
    s.name = name, s.color = color, s.is_dashed = is_dashed;
    s.x = step_, s.y = mean_, s.revision = revision_;
    if (n_seeds_ > 1) s.band_lo = lo_, s.band_hi = hi_, s.seeds = lines_;
    return s;
}

Comparison compare_series(const LabSeries& a, const LabSeries& b) {
    Comparison out;
    for (size_t i = 0, k = 0; i < a.step.size() && k < b.step.size();) {
        if (a.step[i] != b.step[k]) {
            ++(a.step[i] < b.step[k] ? i : k);
            continue;
        }
        ++out.n_shared;
        const bool is_equal = std::memcmp(&a.value[i], &b.value[k], sizeof(double)) == 0;
        if (!is_equal && out.first_difference < 0) out.first_difference = static_cast<int64_t>(a.step[i]);
        ++i, ++k;
    }
    return out;
}

}  // namespace vitrine::viz::lab
