// CSV of a plot: columns are merged by x.
#include "viz/widgets/plot_csv.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "viz/widgets/export.h"
#include "viz/widgets/line_plot.h"
#include "viz/widgets/number.h"

namespace vitrine::viz::ui {
namespace {

struct Group {  // the columns of one series
    std::vector<double> x;
    size_t n = 0;
    std::vector<std::string> names;
    std::vector<std::vector<double>> columns;
    size_t at = 0;  // next row
    double x_at(size_t i) const { return x.empty() ? static_cast<double>(i) : x[i]; }
};

std::string write(const std::string& x_name, std::vector<Group> groups) {
    std::string out = csv_field(x_name);
    for (const Group& g : groups)
        for (const std::string& name : g.names) out += "," + csv_field(name);
    out += '\n';
    for (;;) {
        double x = INFINITY;
        bool is_left = false;
        for (const Group& g : groups)
            if (g.at < g.n) x = std::min(x, g.x_at(g.at)), is_left = true;
        if (!is_left) return out;
        out += exact_number(x);
        for (Group& g : groups) {
            const bool is_here = g.at < g.n && !(g.x_at(g.at) > x);
            for (const auto& column : g.columns) {
                out += ',';
                if (is_here && g.at < column.size()) out += exact_number(column[g.at]);
            }
            if (is_here) ++g.at;
        }
        out += '\n';
    }
}

}  // namespace

std::function<std::string()> plot_csv(const PlotSpec& s) {
    auto groups = std::make_shared<std::vector<Group>>();
    for (const Series& c : s.series) {
        Group g;
        g.x.assign(c.x.begin(), c.x.end());
        g.n = c.y.size();
        const auto add = [&](const std::string& name, std::span<const double> values) {
            g.names.push_back(name);
            g.columns.emplace_back(values.begin(), values.end());
        };
        add(c.name, c.y);
        if (!c.base.empty()) add(c.name + " from", c.base);
        if (!c.band_lo.empty()) add(c.name + " low", c.band_lo), add(c.name + " high", c.band_hi);
        for (size_t i = 0; i < c.seeds.size(); ++i) add(c.name + " seed " + std::to_string(i), c.seeds[i]);
        groups->push_back(std::move(g));
    }
    return [groups, x_name = std::string(*s.x_label ? s.x_label : "x")] { return write(x_name, *groups); };
}

}  // namespace vitrine::viz::ui
