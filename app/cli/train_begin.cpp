// Where a training run's model and configuration begin.
#include "app/cli/train_begin.h"

#include <filesystem>
#include <map>

#include "app/cli/options.h"
#include "app/paths.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/base/reader.h"
#include "engine/model/config.h"
#include "engine/telemetry/run_folder.h"
#include "engine/train/checkpoint.h"
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
    Beginning b{.model = arm.model, .train = arm.train};
    if (a.steps >= 0) b.train.steps = a.steps;
    if (a.seed >= 0) b.train.seed = a.seed;
    throw_if_any(validate(b.train, ""));
    return b;
}

bool has_checkpoint(const std::string& run, int64_t step) {
    std::error_code failed;
    return std::filesystem::exists(checkpoint_folder(run, step) + "/" + run_folder::kManifest, failed);
}

// A run may be gone on from or repeated in another folder.
void make_absolute(std::string& path) {
    if (!path.empty()) path = std::filesystem::absolute(path).lexically_normal().string();
}

// A run that did not begin from nothing is repeated from its first checkpoint, or from the weights that it was given if these are
// still what they were.
void repeat(const Json& file, const std::string& folder, Beginning& b) {
    b.changes = recorded_changes(folder);
    b.as.experiment = file.at("experiment").as_string(), b.as.arm = file.at("arm").as_string();
    for (const auto& [key, value] : file.at("knobs").members()) b.as.knobs[key] = value.as_string();
    const std::string gone = escaped(folder, 512) + ": can't be repeated: its first checkpoint is gone";
    if (const Json* parent = file.find("parent")) {
        b.as.parent = parent->at("id").as_string(), b.as.parent_step = parent->at("step").as_int();
        if (!has_checkpoint(folder, b.as.parent_step))
            throw Error(ErrorKind::bad_input, gone + ", and it did not begin from nothing: it left " + escaped(b.as.parent) +
                                                  " at step " + std::to_string(b.as.parent_step));
        b.left = folder;
        return;
    }
    const Json* from = file.find("from");
    bool was_given = from != nullptr;
    if (const Json* command = file.find("command"); command && !from)  // older runs tell it there alone
        for (const Json& word : command->items()) was_given |= word.as_string() == "--from";
    if (!was_given) return;
    if (from) b.from = from->at("weights").as_string(), b.fingerprint = from->at("fingerprint").as_string();
    if (has_checkpoint(folder, 0)) {
        b.weights = checkpoint_folder(folder, 0);
        if (b.from.empty()) b.from = b.weights, make_absolute(b.from);  // an older run: that is where they are now
        return;
    }
    if (b.from.empty() || !std::filesystem::exists(b.from + "/config.json"))
        throw Error(ErrorKind::bad_input, gone + ", and so are the weights that it began with" +
                                              (b.from.empty() ? "" : ", " + escaped(b.from, 512)));
    if (fingerprint_of_weights(b.from) != b.fingerprint)
        throw Error(ErrorKind::bad_input,
                    gone + ", and " + escaped(b.from, 512) + " no longer holds the weights that it began with");
    b.weights = b.from;
}

}  // namespace

std::vector<std::string> settings_of(const TrainArgs& a) {
    std::vector<std::string> all;
    if (a.steps >= 0) all.push_back("steps=" + std::to_string(a.steps));
    if (a.seed >= 0) all.push_back("seed=" + std::to_string(a.seed));
    if (!a.dtype.empty()) all.push_back("dtype=" + a.dtype);
    all.insert(all.end(), a.sets.begin(), a.sets.end());
    return all;
}

Beginning beginning(const TrainArgs& a) {
    Beginning b;
    const int n_given = !a.from.empty() + !a.preset.empty() + !a.config.empty() + !a.experiment.empty();
    if (n_given != 1) throw UsageError("give one of --from DIR, --preset NAME, --config FILE and --experiment NAME");
    if (!a.experiment.empty()) return arm_of(a);
    if (!a.from.empty()) {
        b.model = read_config(a.from).config, b.weights = b.from = a.from;
        make_absolute(b.from);
    } else if (!a.preset.empty()) {
        const TrainPreset& p = train_preset(a.preset);
        b.model = p.model, b.train = p.train;
    } else {
        const Json file = Json::parse(read_file(a.config, 16 << 20), a.config, {.max_bytes = 16 << 20});
        const Json& j = file.find("config") ? file.at("config") : file;  // a run's run.json, or its "config" alone
        b.model = parse_config(j.at("model").dump(), a.config + ": model").config;
        b.train = train_config_from_json(j.at("train"), a.config + ": train");
        const std::string beside = std::filesystem::path(a.config).parent_path().string(), folder = beside.empty() ? "." : beside;
        if (std::filesystem::exists(folder + "/" + run_folder::kMetrics)) repeat(file, folder, b);
        else if (file.find("revision"))
            log_info(escaped(a.config, 512) + ": no run lies beside it: its configuration, from new weights");
    }
    ConfigFields f = fields(b.train);
    if (!a.tokens.empty()) {
        b.train.data = "tokens", b.train.tokens = a.tokens;
        b.train.balance = BalanceKind::none, b.train.mtp_weight = b.train.mtp_weight_in_decay = 0;
    }
    for (const std::string& s : settings_of(a)) {
        f.set(s);
        std::erase_if(b.changes, [&](const RecordedChange& c) { return s.starts_with(c.key + "="); });
    }
    if (!settings_of(a).empty()) b.as.experiment.clear();  // no longer that arm
    if (b.train.data == "curriculum" && b.train.tokenizer.empty()) {
        std::error_code failed;
        const bool has_own = !a.from.empty() && std::filesystem::exists(a.from + "/tokenizer.json", failed);
        b.train.tokenizer = has_own ? a.from : asset("curriculum");
    }
    make_absolute(b.train.tokens), make_absolute(b.train.tokenizer);
    throw_if_any(validate(b.train, ""));
    return b;
}

RunDescription described(const Beginning& b, RunDescription d) {
    if (d.experiment.empty() && !b.as.experiment.empty())
        d.experiment = b.as.experiment, d.arm = b.as.arm, d.knobs = b.as.knobs;
    d.from = b.from, d.fingerprint = b.fingerprint, d.changes = b.changes;
    if (!d.from.empty() && d.fingerprint.empty()) d.fingerprint = fingerprint_of_weights(d.from);
    return d;
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
