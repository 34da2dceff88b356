// The panels' makers, one line each.
#pragma once
#include <memory>

#include "viz/panel.h"

namespace vitrine::viz {

std::unique_ptr<Panel> make_overview_panel();
std::unique_ptr<Panel> make_routing_panel();
std::unique_ptr<Panel> make_attention_panel();
std::unique_ptr<Panel> make_streams_panel();
std::unique_ptr<Panel> make_cache_panel();
std::unique_ptr<Panel> make_modes_panel();
std::unique_ptr<Panel> make_model_panel();
std::unique_ptr<Panel> make_lab_panel();

}  // namespace vitrine::viz
