// Fields of a plain config struct as data: JSON, `--set key=value`, forms and differences of two configs follow from one list.
//
// A struct lists its members once, in a function `ConfigFields fields(TheStruct&)`; see training_config.h.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/json.h"

namespace vitrine {

struct ConfigField {
    enum class Kind : uint8_t { flag, integer, real, choice, text };
    const char *name, *group, *help;
    Kind kind;
    double lowest = 0, highest = 0;         // integer, real: inclusive
    std::vector<std::string> choices = {};  // choice
    bool is_live = false;                   // may change in the middle of a run
    std::function<Json()> get;
    std::function<void(const Json&)> put;   // a checked value
    std::string expected() const;           // "expected a number in [0, 1]"
};

// The members of one struct, which must outlive the list.
class ConfigFields {
  public:
    void group(const char* title) { group_ = title; }
    ConfigField& flag(const char* name, bool& x, const char* help);
    ConfigField& integer(const char* name, int64_t& x, int64_t lowest, int64_t highest, const char* help);
    ConfigField& real(const char* name, double& x, double lowest, double highest, const char* help);
    ConfigField& text(const char* name, std::string& x, const char* help);
    // An enum whose values count from 0 in the order of `choices`.
    template <class E>
    ConfigField& choice(const char* name, E& x, std::vector<std::string> choices, const char* help) {
        return choice_of(name, std::move(choices), help, [&x] { return static_cast<size_t>(x); },
                         [&x](size_t i) { x = static_cast<E>(i); });
    }

    const std::vector<ConfigField>& all() const { return fields_; }
    const ConfigField* find(const std::string& name) const;
    Json to_json() const;
    // Values of the keys that are there; the others stay. Wrong values and unknown keys (with the nearest name) become issues.
    void read(const Json& object, const std::string& file, std::vector<Issue>& issues);
    // "key=value"; Error(bad_input) as above.
    void set(const std::string& assignment);
    void set(const std::string& name, const Json& value);

  private:
    ConfigField& add(const char* name, const char* help, ConfigField::Kind kind);
    ConfigField& choice_of(const char* name, std::vector<std::string> choices, const char* help, std::function<size_t()> get,
                           std::function<void(size_t)> put);
    const ConfigField* find_or_tell(const std::string& name, const Json& value, const std::string& file,
                                    std::vector<Issue>& issues) const;
    std::vector<ConfigField> fields_;
    const char* group_ = "";
};

struct FieldDifference {
    std::string name, a, b;
};
std::vector<FieldDifference> differences(const ConfigFields& a, const ConfigFields& b);

}  // namespace vitrine
