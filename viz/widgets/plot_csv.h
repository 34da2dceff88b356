// The numbers of a plot as CSV.
#pragma once
#include <functional>
#include <string>

namespace vitrine::viz::ui {

struct PlotSpec;

// Copies the data and returns what writes it: one column for x, then for each series its values, band and seeds. Every
// number reads back as the same bits. Rows are the union of all x, ascending; a series without a point there leaves its
// fields empty, a gap in it is "nan".
std::function<std::string()> plot_csv(const PlotSpec& s);

}  // namespace vitrine::viz::ui
