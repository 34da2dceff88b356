// Reading fields of tokenizer.json and chat.json with errors that name file, key, value and what was expected.
#pragma once
#include <string>

#include "engine/base/error.h"
#include "engine/base/json.h"

namespace vitrine::text {

[[noreturn]] inline void refuse(const std::string& file, const std::string& key, const std::string& value,
                                const std::string& expected) {
    throw Error(ErrorKind::bad_input, Issue{file, key, value, expected, ""}.to_string());
}

// What a value looks like in a message.
inline std::string shown(const Json& j) {
    if (j.is_string()) return j.as_string();
    if (j.is_array() || j.is_object()) return j.type_name();
    return j.dump();
}

// Members of an object; their absence is told apart from null by `has`.
struct Fields {
    const Json& object;
    const std::string& file;
    std::string key;  // path of `object`, "" at the top

    std::string path(const char* name) const { return key.empty() ? name : key + "." + name; }
    const Json* find(const char* name) const {
        const Json* j = object.find(name);
        return j && !j->is_null() ? j : nullptr;
    }
    const Json& need(const char* name) const {
        if (const Json* j = find(name)) return *j;
        refuse(file, path(name), object.find(name) ? "null" : "", "this key is missing or null and is needed");
    }
    std::string string(const char* name) const {
        const Json& j = need(name);
        if (!j.is_string()) refuse(file, path(name), shown(j), "expected a string");
        return j.as_string();
    }
    bool flag(const char* name, bool if_absent) const {
        const Json* j = find(name);
        if (!j) return if_absent;
        if (!j->is_bool()) refuse(file, path(name), shown(*j), "expected true or false");
        return j->as_bool();
    }
    // Refuses a value other than null, false, "" or absence.
    void must_be_unset(const char* name, const char* expected) const {
        const Json* j = find(name);
        if (!j || (j->is_bool() && !j->as_bool()) || (j->is_string() && j->as_string().empty())) return;
        refuse(file, path(name), shown(*j), expected);
    }
};

}  // namespace vitrine::text
