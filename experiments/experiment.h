// What an experiment is: a description, and either a calculation or a set of training runs with a judgement on them.
#pragma once
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/base/config/training_config.h"
#include "engine/telemetry/lab.h"

namespace vitrine {
struct ModelInfo;
}

namespace vitrine::lab {

// Values of an experiment's knobs: the preset's where nothing was given.
class Knobs {
  public:
    // Error(bad_input) lists every unknown key and every value out of its knob's range or choices.
    Knobs(const LabInfo& info, const std::map<std::string, std::string>& given);
    const std::string& text(const std::string& key) const;
    double number(const std::string& key) const;
    int64_t integer(const std::string& key) const;
    const std::map<std::string, std::string>& values() const { return values_; }
    // "layers 16, lr 0.02": those that differ from the preset, but for `size` and the named ones; "" when none does. What was
    // measured elsewhere with the preset says nothing about them.
    std::string changed(std::initializer_list<std::string_view> but = {}) const;

  private:
    std::map<std::string, std::string> values_, changed_;
};

struct Arm {
    std::string label;  // words and numbers: "hc 8 layers lr 0.01"
    ModelConfig model;
    TrainConfig train;  // its seed is the run's
};

// What a measurement on a model is handed by the program that runs it.
struct Bench {
    std::string shipped_model;                        // folder of the model that the program ships with
    std::function<void(const std::string&)> progress;  // one line about what is being done; may be empty
    std::stop_token stop;                             // Error(cancelled)
    void tell(const std::string& line) const {
        if (progress) progress(line);
    }
};

// Either analyse, or measure, or arms and judge. A training experiment has the knob "size": quick (the preset: <= 3 minutes on two
// cores with one seed) or full.
struct Experiment {
    LabInfo info;
    std::string folder;                             // below experiments/
    LabVerdict (*analyse)(const Knobs&) = nullptr;  // no training: seconds
    std::vector<Arm> (*arms)(const Knobs&) = nullptr;
    // Of finished and failed runs of these arms, any number of seeds each; their scalars are those of info.plots and info.judged.
    // Runs that are missing are told, not guessed. What all judgements tell alike (runs that are not counted, changed knobs) is
    // added by experiments().
    std::function<LabVerdict(const Knobs&, const std::vector<LabRun>&)> judge = nullptr;
    // No training: a model is loaded (model_knob) and measured. The preset takes three minutes at most on two cores.
    LabVerdict (*measure)(const Knobs&, const Bench&) = nullptr;
    // Has no runs: one of the two that give a verdict at once.
    bool is_measured_at_once() const { return analyse || measure; }
    LabVerdict at_once(const Knobs& knobs, const Bench& bench) const {
        return analyse ? analyse(knobs) : measure(knobs, bench);
    }
};

// ---- words and numbers of verdicts
std::string fixed(double value, int digits);        // "1.64"
std::string significant(double value, int digits);  // "16400", "0.0123"; exponent only beyond 1e6 or below 1e-4
std::string shortest(double value);                     // "%g": "0.95", "25"
std::string percent(double share, int digits = 1);  // "10.5 %"
bool is_within_factor(double measured, double claimed, double factor);  // both of one sign, |log ratio| <= log factor

LabKnob number_knob(std::string key, std::string label, std::string value, double min, double max, std::string help,
                    bool is_logarithmic = false);
LabKnob choice_knob(std::string key, std::string label, std::vector<std::string> choices,
                    std::string help);  // first: preset
LabKnob text_knob(std::string key, std::string label, std::string value, std::string help, std::string when_empty = "");
// "model": which checkpoint is measured; empty: the shipped one.
LabKnob model_knob();
std::string model_folder(const Knobs& knobs, const Bench& bench);
std::string model_words(const ModelInfo& i);  // " Model: nano, 32.1 M parameters, 23.5 MB."

}  // namespace vitrine::lab
