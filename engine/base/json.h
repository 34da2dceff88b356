// JSON values with bounds: what every parser of a stranger's file and every writer of ours uses.
//
// Parsing refuses duplicate keys, depth and size beyond the given limits, trailing bytes and invalid UTF-8, keeps
// integers as integers, and names line and column in its errors. Object order is kept.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vitrine {

struct JsonLimits {
    size_t max_bytes = 1 << 20;
    int max_depth = 32;
    size_t max_values = 1 << 24;  // numbers, strings, containers in all
};

class Json {
  public:
    enum class Type : uint8_t { null, boolean, integer, unsigned_integer, real, string, array, object };
    using Array = std::vector<Json>;
    using Object = std::vector<std::pair<std::string, Json>>;

    Json() = default;
    Json(bool v) : type_(Type::boolean) { n_.b = v; }               // NOLINT: implicit on purpose
    Json(int v) : Json(static_cast<int64_t>(v)) {}                  // NOLINT
    Json(int64_t v) : type_(Type::integer) { n_.i = v; }            // NOLINT
    Json(uint64_t v) : type_(Type::unsigned_integer) { n_.u = v; }  // NOLINT (parsing makes it only above INT64_MAX)
    Json(double v) : type_(Type::real) { n_.d = v; }                // NOLINT
    Json(const char* v) : type_(Type::string), s_(v) {}             // NOLINT
    Json(std::string v) : type_(Type::string), s_(std::move(v)) {}  // NOLINT
    Json(std::string_view v) : type_(Type::string), s_(v) {}        // NOLINT
    static Json array() { return Json(Type::array); }
    static Json object() { return Json(Type::object); }

    // Throws Error(bad_input) naming `file`, line and column.
    static Json parse(std::string_view text, const std::string& file, const JsonLimits& limits = {});
    // indent < 0: one line. Separators as Python's json.dumps (", " and ": ") or compact. Non-ASCII is kept as UTF-8.
    std::string dump(int indent = -1, bool python_separators = true) const;

    Type type() const { return type_; }
    const char* type_name() const;  // "a string", "an integer", ... for messages
    bool is_null() const { return type_ == Type::null; }
    bool is_bool() const { return type_ == Type::boolean; }
    bool is_integer() const { return type_ == Type::integer || type_ == Type::unsigned_integer; }
    bool is_number() const { return is_integer() || type_ == Type::real; }
    bool is_string() const { return type_ == Type::string; }
    bool is_array() const { return type_ == Type::array; }
    bool is_object() const { return type_ == Type::object; }

    // Accessors throw Error(bad_input) "FILE: expected X, found Y" on a wrong type or a value out of range.
    bool as_bool() const;
    int64_t as_int() const;
    uint64_t as_uint() const;
    double as_double() const;  // integers convert
    const std::string& as_string() const;
    const Array& items() const;
    const Object& members() const;
    size_t size() const;  // of an array or object

    const Json* find(std::string_view key) const;  // nullptr when absent (or not an object); O(1) on big objects
    const Json& at(std::string_view key) const;    // throws naming the key
    Json& set(std::string key, Json value);        // appends or replaces; returns the stored value
    void push(Json value);
    friend bool operator==(const Json& a, const Json& b);  // 1 == 1u == 1.0; order of members does not count

    // Where the value begins in the text it was parsed from, "line 3, column 7" (bytes, from 1), and the `file` given
    // to parse(); "" if it was made by hand.
    std::string where() const;
    std::string file() const { return file_ ? *file_ : std::string(); }

    Json(const Json& o);
    Json& operator=(const Json& o);
    Json(Json&&) noexcept = default;
    Json& operator=(Json&&) noexcept = default;

  private:
    struct Containers;
    struct Free {
        void operator()(Containers* c) const;
    };
    friend class JsonBuilder;
    explicit Json(Type t) : type_(t) {}
    Containers& containers();
    Type type_ = Type::null;
    uint32_t line_ = 0, column_ = 0;
    union {
        bool b;
        int64_t i;
        uint64_t u;
        double d;
    } n_{};
    std::string s_;
    std::shared_ptr<const std::string> file_;  // one for all values of a text
    std::unique_ptr<Containers, Free> c_;      // arrays and objects only, so that a number stays small
};

}  // namespace vitrine
