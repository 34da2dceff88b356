// The Overview view.
#include "viz/panels.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz {
namespace {

constexpr Help kHelp = {"", "", "", "", ""};

class OverviewPanel : public Panel {
  public:
    const char* name() const override { return "Overview"; }
    const Help& help() const override { return kHelp; }
    void draw(const Snapshot&, View&) override { ui::empty_state("Nothing recorded yet", "Ask something to see the model work."); }
};

}  // namespace

std::unique_ptr<Panel> make_overview_panel() { return std::make_unique<OverviewPanel>(); }

}  // namespace vitrine::viz
