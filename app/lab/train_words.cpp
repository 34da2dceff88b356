// The command line of a run.
#include "app/lab/train_words.h"

namespace vitrine {

std::vector<std::string> train_words(const std::string& program, const std::string& runs_folder,
                                     const std::string& folder, const RunRequest& request, bool resumes,
                                     const std::vector<std::string>& extra) {
    std::vector<std::string> words = {program, "train", "--run", folder, "--control"};
    const auto set_all = [&](const std::map<std::string, std::string>& values) {
        for (const auto& [key, value] : values) words.insert(words.end(), {"--set", key + "=" + value});
    };
    if (resumes) {
        words.push_back("--resume");
    } else if (!request.parent.empty()) {
        words.insert(words.end(),
                     {"--rewind", runs_folder + "/" + request.parent, "--step", std::to_string(request.parent_step)});
        set_all(request.changes);
    } else {
        words.insert(words.end(), {"--experiment", request.experiment, "--arm", request.arm, "--seed",
                                   std::to_string(request.seed)});
        set_all(request.knobs);
    }
    words.insert(words.end(), extra.begin(), extra.end());
    return words;
}

}  // namespace vitrine
