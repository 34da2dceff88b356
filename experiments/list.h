// Every experiment that ships, in the order of the lab.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "experiments/experiment.h"

namespace vitrine::lab {

// The LabInfo's readme is the folder's README.md as it was when the program was built.
const std::vector<Experiment>& experiments();
const Experiment& experiment(const std::string& name);  // Error(bad_input) listing the names

// The arm of that label. Error(bad_input) lists the labels, or wrong knobs.
Arm arm_of(const Experiment& e, const std::map<std::string, std::string>& knobs, const std::string& label);

// README.md by folder; written by experiments/readmes.cmake at build time.
const std::map<std::string, std::string>& readmes();

}  // namespace vitrine::lab
