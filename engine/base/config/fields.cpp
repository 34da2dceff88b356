// Fields of a plain config struct as data: reading, writing, checking.
#include "engine/base/config/fields.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <utility>

namespace vitrine {
namespace {

std::string number_text(double v) {
    char b[32];
    std::snprintf(b, sizeof b, "%.15g", v);
    return b;
}

std::string shown(const Json& v) {
    if (v.is_string()) return v.as_string();
    return v.type() == Json::Type::real ? number_text(v.as_double()) : v.dump();
}

bool fits(const ConfigField& f, const Json& v) {
    switch (f.kind) {
        case ConfigField::Kind::flag:
            return v.is_bool();
        case ConfigField::Kind::integer:
            return v.type() == Json::Type::integer && static_cast<double>(v.as_int()) >= f.lowest &&
                   static_cast<double>(v.as_int()) <= f.highest;
        case ConfigField::Kind::real:
            return v.is_number() && std::isfinite(v.as_double()) && v.as_double() >= f.lowest && v.as_double() <= f.highest;
        case ConfigField::Kind::choice:
            return v.is_string() && std::find(f.choices.begin(), f.choices.end(), v.as_string()) != f.choices.end();
        case ConfigField::Kind::text:
            return v.is_string();
    }
    return false;
}

// The word after "key=" as the field's kind reads it; a word that does not fit stays text, which fits nothing else.
Json value_of_word(const ConfigField& f, const std::string& word) {
    const char *first = word.data(), *last = first + word.size();
    if (f.kind == ConfigField::Kind::flag && (word == "true" || word == "on")) return true;
    if (f.kind == ConfigField::Kind::flag && (word == "false" || word == "off")) return false;
    if (f.kind == ConfigField::Kind::integer) {
        int64_t v = 0;
        const auto [end, failure] = std::from_chars(first, last, v);
        if (failure == std::errc() && end == last) return v;
    }
    if (f.kind == ConfigField::Kind::real) {
        double v = 0;
        const auto [end, failure] = std::from_chars(first, last, v);
        if (failure == std::errc() && end == last) return v;
    }
    return word;
}

}  // namespace

std::string ConfigField::expected() const {
    const std::string range = " in [" + number_text(lowest) + ", " + number_text(highest) + "]";
    if (kind == Kind::integer) return "expected an integer" + range;
    if (kind == Kind::real) return "expected a number" + range;
    if (kind == Kind::flag) return "expected true or false";
    if (kind == Kind::text) return "expected text";
    std::string all;
    for (const std::string& c : choices) all += (all.empty() ? "" : ", ") + c;
    return "expected one of " + all;
}

ConfigField& ConfigFields::add(const char* name, const char* help, ConfigField::Kind kind) {
    return fields_.emplace_back(ConfigField{name, group_, help, kind, 0, 0, {}, false, nullptr, nullptr});
}

ConfigField& ConfigFields::flag(const char* name, bool& x, const char* help) {
    ConfigField& f = add(name, help, ConfigField::Kind::flag);
    f.get = [&x] { return Json(x); };
    f.put = [&x](const Json& v) { x = v.as_bool(); };
    return f;
}

ConfigField& ConfigFields::integer(const char* name, int64_t& x, int64_t lowest, int64_t highest, const char* help) {
    ConfigField& f = add(name, help, ConfigField::Kind::integer);
    f.lowest = static_cast<double>(lowest), f.highest = static_cast<double>(highest);
    f.get = [&x] { return Json(x); };
    f.put = [&x](const Json& v) { x = v.as_int(); };
    return f;
}

ConfigField& ConfigFields::real(const char* name, double& x, double lowest, double highest, const char* help) {
    ConfigField& f = add(name, help, ConfigField::Kind::real);
    f.lowest = lowest, f.highest = highest;
    f.get = [&x] { return Json(x); };
    f.put = [&x](const Json& v) { x = v.as_double(); };
    return f;
}

ConfigField& ConfigFields::text(const char* name, std::string& x, const char* help) {
    ConfigField& f = add(name, help, ConfigField::Kind::text);
    f.get = [&x] { return Json(x); };
    f.put = [&x](const Json& v) { x = v.as_string(); };
    return f;
}

ConfigField& ConfigFields::choice_of(const char* name, std::vector<std::string> choices, const char* help,
                                     std::function<size_t()> get, std::function<void(size_t)> put) {
    ConfigField& f = add(name, help, ConfigField::Kind::choice);
    f.choices = choices;
    f.get = [choices, get = std::move(get)] { return Json(choices.at(get())); };
    f.put = [choices, put = std::move(put)](const Json& v) {
        put(static_cast<size_t>(std::find(choices.begin(), choices.end(), v.as_string()) - choices.begin()));
    };
    return f;
}

const ConfigField* ConfigFields::find(const std::string& name) const {
    for (const ConfigField& f : fields_)
        if (f.name == name) return &f;
    return nullptr;
}

Json ConfigFields::to_json() const {
    Json j = Json::object();
    for (const ConfigField& f : fields_) j.set(f.name, f.get());
    return j;
}

const ConfigField* ConfigFields::find_or_tell(const std::string& name, const Json& value, const std::string& file,
                                              std::vector<Issue>& issues) const {
    const ConfigField* f = find(name);
    if (f && fits(*f, value)) return f;
    if (f) {
        issues.push_back({file, name, shown(value), f->expected(), value.where()});
        return nullptr;
    }
    std::vector<std::string> known;
    for (const ConfigField& k : fields_) known.emplace_back(k.name);
    const std::string near = nearest_name(name, known);
    issues.push_back({file, name, "", "unknown key" + (near.empty() ? "" : "; did you mean " + near + "?"), value.where()});
    return nullptr;
}

void ConfigFields::read(const Json& object, const std::string& file, std::vector<Issue>& issues) {
    if (!object.is_object()) return issues.push_back({file, "", object.type_name(), "expected an object", object.where()});
    for (const auto& [name, value] : object.members())
        if (const ConfigField* f = find_or_tell(name, value, file, issues)) f->put(value);
}

void ConfigFields::set(const std::string& name, const Json& value) {
    std::vector<Issue> issues;
    if (const ConfigField* f = find_or_tell(name, value, "", issues)) f->put(value);
    throw_if_any(issues);
}

void ConfigFields::set(const std::string& assignment) {
    const size_t equals = assignment.find('=');
    if (equals == std::string::npos) throw_if_any({{"", "", assignment, "expected key=value", ""}});
    const std::string name = assignment.substr(0, equals), word = assignment.substr(equals + 1);
    const ConfigField* f = find(name);
    set(name, f ? value_of_word(*f, word) : Json(word));
}

std::vector<FieldDifference> differences(const ConfigFields& a, const ConfigFields& b) {
    std::vector<FieldDifference> all;
    for (const ConfigField& f : a.all()) {
        const ConfigField* other = b.find(f.name);
        const std::string x = f.get().dump(), y = other ? other->get().dump() : "";
        if (x != y) all.push_back({f.name, x, y});
    }
    return all;
}

}  // namespace vitrine
