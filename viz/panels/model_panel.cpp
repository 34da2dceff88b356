// The Model view.
#include "viz/panels.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz {
namespace {

constexpr Help kHelp = {"", "", "", "", ""};

class ModelPanel : public Panel {
  public:
    const char* name() const override { return "Model"; }
    const Help& help() const override { return kHelp; }
    void draw(const Snapshot&, View&) override { ui::empty_state("Nothing recorded yet", "Ask something to see the model work."); }
};

}  // namespace

std::unique_ptr<Panel> make_model_panel() { return std::make_unique<ModelPanel>(); }

}  // namespace vitrine::viz
