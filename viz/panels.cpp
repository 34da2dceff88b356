// The ordered list of panels: the tabs of the window, keys 1 to 9.
#include "viz/panels.h"

namespace vitrine::viz {

std::vector<std::unique_ptr<Panel>> make_panels() {
    std::vector<std::unique_ptr<Panel>> all;
    all.push_back(make_overview_panel());
    all.push_back(make_routing_panel());
    all.push_back(make_attention_panel());
    all.push_back(make_streams_panel());
    all.push_back(make_cache_panel());
    all.push_back(make_modes_panel());
    all.push_back(make_model_panel());
    all.push_back(make_lab_panel());
    return all;
}

}  // namespace vitrine::viz
