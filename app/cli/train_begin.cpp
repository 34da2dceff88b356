// Where a training run's model and configuration begin.
#include "app/cli/train_begin.h"

#include <filesystem>
#include <map>

#include "app/cli/options.h"
#include "app/paths.h"
#include "engine/base/error.h"
#include "engine/base/reader.h"
#include "engine/model/config.h"
#include "engine/train/fresh.h"
#include "engine/train/presets.h"
#include "experiments/list.h"

namespace vitrine::cli {
namespace {

// One run of the lab: --set sets knobs.
Beginning arm_of(const TrainArgs& a) {
    std::map<std::string, std::string> knobs;
    for (const std::string& s : a.sets) {
        const size_t equals = s.find('=');
        if (equals == std::string::npos) throw UsageError("--set " + escaped(s) + ": expected KNOB=VALUE");
        knobs[s.substr(0, equals)] = s.substr(equals + 1);
    }
    const lab::Arm arm = lab::arm_of(lab::experiment(a.experiment), knobs, a.arm);
    Beginning b{arm.model, arm.train, ""};
    if (a.steps >= 0) b.train.steps = a.steps;
    if (a.seed >= 0) b.train.seed = a.seed;
    throw_if_any(validate(b.train, ""));
    return b;
}

}  // namespace

Beginning beginning(const TrainArgs& a) {
    Beginning b;
    const int n_given = !a.from.empty() + !a.preset.empty() + !a.config.empty() + !a.experiment.empty();
    if (n_given != 1) throw UsageError("give one of --from DIR, --preset NAME, --config FILE and --experiment NAME");
    if (!a.experiment.empty()) return arm_of(a);
    if (!a.from.empty()) {
        b.model = read_config(a.from).config, b.weights = a.from;
    } else if (!a.preset.empty()) {
        const TrainPreset& p = train_preset(a.preset);
        b.model = p.model, b.train = p.train;
    } else {
        const Json file = Json::parse(read_file(a.config, 16 << 20), a.config, {.max_bytes = 16 << 20});
        const Json& j = file.find("config") ? file.at("config") : file;  // a run's run.json, or its "config" alone
        b.model = parse_config(j.at("model").dump(), a.config + ": model").config;
        b.train = train_config_from_json(j.at("train"), a.config + ": train");
    }
    ConfigFields f = fields(b.train);
    if (!a.tokens.empty()) {
        b.train.data = "tokens", b.train.tokens = a.tokens;
        b.train.balance = BalanceKind::none, b.train.mtp_weight = b.train.mtp_weight_in_decay = 0;
    }
    if (a.steps >= 0) b.train.steps = a.steps;
    if (a.seed >= 0) b.train.seed = a.seed;
    if (!a.dtype.empty()) f.set("dtype=" + a.dtype);
    for (const std::string& s : a.sets) f.set(s);
    if (b.train.data == "curriculum" && b.train.tokenizer.empty()) {
        std::error_code failed;
        const bool has_own = !a.from.empty() && std::filesystem::exists(a.from + "/tokenizer.json", failed);
        b.train.tokenizer = has_own ? a.from : asset("curriculum");
    }
    throw_if_any(validate(b.train, ""));
    return b;
}

ModelWeights weights_of(const Beginning& b) {
    return b.weights.empty() ? fresh_weights(b.model, b.train) : load_weights(b.weights, b.model);
}

// The tokenizer that the data is encoded with travels with the model.
ModelTexts texts_of(const Beginning& b) {
    const std::string& from = b.train.data == "curriculum" ? b.train.tokenizer : b.weights;
    return from.empty() ? ModelTexts{} : ModelTexts::read(from);
}

}  // namespace vitrine::cli
