// Right: the plots of the experiment on one time axis, with the events of the run in focus; charts of what was
// calculated.
#pragma once
#include <map>
#include <memory>
#include <string>

#include "viz/lab/curves.h"
#include "viz/lab/state.h"

namespace vitrine::viz::lab {

class Plots {
  public:
    void draw(State& s, const LabSnapshot& lab, View& view);
    // Those of the chosen experiment's verdict, where it is made of runs: under its sentence.
    void draw_charts(const State& s, const LabSnapshot& lab);

  private:
    struct Group {
        std::string name;
        ImU32 color = 0;
        std::vector<const LabRun*> runs;
    };
    struct Drawn {  // one plot of metrics
        ui::LinePlot plot;
        std::map<std::string, GroupCurve> curves;  // by group and metric
    };
    void draw_metrics(State& s, const LabSnapshot& lab, const LabPlot& spec, const std::vector<Group>& groups, float height);
    void click(State& s, const LabSnapshot& lab, const ui::PlotResult& at) const;
    void draw_nothing(const LabSnapshot& lab, const LabInfo* info, View& view) const;
    void draw_chart(const LabChart& chart, float height);
    void draw_add(State& s, const LabSnapshot& lab);
    void draw_export(State& s, View& view);
    std::vector<Group> group(const State& s, const LabSnapshot& lab) const;
    std::vector<ui::Line> events_of(const State& s, const LabSnapshot& lab) const;
    std::string experiment_, charts_of_;
    std::map<std::string, Drawn> drawn_;  // by title
    std::map<std::string, ui::LinePlot> charts_;
    std::vector<ui::Line> lines_;
    ui::LinkedX x_;  // of the plots over steps
    double last_step_ = 0;
    std::string filter_;
};

}  // namespace vitrine::viz::lab
