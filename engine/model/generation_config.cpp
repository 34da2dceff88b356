// generation_config.json to the defaults of sampling.
#include "engine/model/generation_config.h"

#include <filesystem>

#include "engine/base/json.h"
#include "engine/base/reader.h"

namespace vitrine {
namespace {

// The number under `key`, if there is one, checked against [lo, hi].
template <class T>
void take(const Json& j, const std::string& file, const char* key, double lo, double hi, T& to) {
    const Json* v = j.find(key);
    if (!v || v->is_null()) return;
    const bool is_ok = v->is_number() && v->as_double() >= lo && v->as_double() <= hi;
    if (!is_ok)
        throw_if_any({{file, key, v->dump(), "expected a number in [" + Json(lo).dump() + ", " + Json(hi).dump() + "]", ""}});
    to = static_cast<T>(v->as_double());
}

// An empty object where there is none.
Json read_object(const std::string& file) {
    if (!std::filesystem::exists(file)) return Json::object();
    Json j = Json::parse(read_file(file, 1 << 20), file);
    if (!j.is_object())
        throw_if_any({{file, "", j.type_name(), "expected an object with the defaults of sampling", ""}});
    return j;
}

}  // namespace

std::vector<int> read_end_ids(const std::string& folder, int vocab_size) {
    const std::string file = folder + "/generation_config.json";
    const Json j = read_object(file);
    const Json* v = j.find("eos_token_id");
    std::vector<int> ids;
    if (!v || v->is_null()) return ids;
    const auto add = [&](const Json& id) {
        if (id.type() != Json::Type::integer || id.as_int() < 0 || id.as_int() >= vocab_size)
            throw_if_any({{file, "eos_token_id", id.dump(),
                           "expected a token below vocab_size = " + std::to_string(vocab_size), id.where()}});
        ids.push_back(static_cast<int>(id.as_int()));
    };
    if (v->is_array())
        for (const Json& id : v->items()) add(id);
    else
        add(*v);
    return ids;
}

Sampling read_generation_config(const std::string& folder) {
    const std::string file = folder + "/generation_config.json";
    Sampling s;
    if (!std::filesystem::exists(file)) return s;
    const Json j = read_object(file);
    take(j, file, "temperature", 0, 100, s.temperature);
    take(j, file, "top_p", 0, 1, s.top_p);
    take(j, file, "top_k", 0, 1 << 24, s.top_k);
    take(j, file, "min_p", 0, 0.999999, s.min_p);
    take(j, file, "repetition_penalty", 0.1, 10, s.repetition_penalty);
    const Json* samples = j.find("do_sample");
    if (!samples || !samples->is_bool() || !samples->as_bool()) s.temperature = 0;
    return s;
}

}  // namespace vitrine
