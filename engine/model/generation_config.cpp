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

}  // namespace

Sampling read_generation_config(const std::string& folder) {
    const std::string file = folder + "/generation_config.json";
    Sampling s;
    if (!std::filesystem::exists(file)) return s;
    const Json j = Json::parse(read_file(file, 1 << 20), file);
    if (!j.is_object())
        throw_if_any({{file, "", j.type_name(), "expected an object with the defaults of sampling", ""}});
    take(j, file, "temperature", 0, 100, s.temperature);
    take(j, file, "top_p", 0, 1, s.top_p);
    take(j, file, "top_k", 0, 1 << 24, s.top_k);
    take(j, file, "min_p", 0, 0.999999, s.min_p);
    const Json* samples = j.find("do_sample");
    if (!samples || !samples->is_bool() || !samples->as_bool()) s.temperature = 0;
    return s;
}

}  // namespace vitrine
