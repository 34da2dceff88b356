// The command line of a run: `vitrine train ...`, in one place.
#pragma once
#include <string>
#include <vector>

#include "app/lab/run_reader.h"

namespace vitrine {

// runs_folder: where the parent of a rewound run lies.
std::vector<std::string> train_words(const std::string& program, const std::string& runs_folder,
                                     const std::string& folder, const RunRequest& request, bool resumes,
                                     const std::vector<std::string>& extra);

}  // namespace vitrine
