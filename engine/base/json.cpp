// JSON values: parsing through nlohmann's SAX interface into our own tree, look-up, and output.
#include "engine/base/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/base/error.h"
#include "engine/base/rng.h"

namespace vitrine {

// Objects above kLinear members get a hash table of indices into `members` (open addressing, 0 = free, else index + 1),
// which also finds duplicate keys in linear time. The hash is keyed per process: a file can't be built to collide.
struct Json::Containers {
    static constexpr size_t kLinear = 16;
    Array items;
    Object members;
    std::vector<uint32_t> slots;

    static uint64_t hash(std::string_view s) {
        static const uint64_t seed = (uint64_t{std::random_device{}()} << 32) ^ std::random_device{}();
        uint64_t h = seed;
        for (char c : s) h = (h ^ static_cast<unsigned char>(c)) * 0x9FB21C651E98DF25ull, h ^= h >> 29;
        return mix64(h);
    }
    void insert_slot(size_t index) {
        const size_t mask = slots.size() - 1;
        size_t at = hash(members[index].first) & mask;
        while (slots[at]) at = (at + 1) & mask;
        slots[at] = static_cast<uint32_t>(index + 1);
    }
    Json* find(std::string_view key) {
        if (slots.empty()) {
            for (auto& m : members)
                if (m.first == key) return &m.second;
            return nullptr;
        }
        const size_t mask = slots.size() - 1;
        for (size_t at = hash(key) & mask; slots[at]; at = (at + 1) & mask)
            if (members[slots[at] - 1].first == key) return &members[slots[at] - 1].second;
        return nullptr;
    }
    Json& append(std::string key, Json value) {
        members.emplace_back(std::move(key), std::move(value));
        if (members.size() > kLinear) {
            if (slots.size() < members.size() * 2) {
                slots.assign(std::max<size_t>(64, slots.size() * 2), 0);
                for (size_t i = 0; i < members.size(); ++i) insert_slot(i);
            } else {
                insert_slot(members.size() - 1);
            }
        }
        return members.back().second;
    }
};

Json::Json(const Json& o)
    : type_(o.type_),
      line_(o.line_),
      column_(o.column_),
      n_(o.n_),
      s_(o.s_),
      file_(o.file_),
      c_(o.c_ ? new Containers(*o.c_) : nullptr) {}
Json& Json::operator=(const Json& o) {
    if (this != &o) *this = Json(o);
    return *this;
}
void Json::Free::operator()(Containers* c) const {
    delete c;
}

Json::Containers& Json::containers() {
    if (!c_) c_.reset(new Containers);
    return *c_;
}

// ---- parsing
// -------------------------------------------------------------------------------------------------------------

namespace {

// An iterator over the text that tells the builder how far the lexer has read.
struct CountingIterator {
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = std::ptrdiff_t;
    using pointer = const char*;
    using reference = const char&;
    const char* p = nullptr;
    const char** read = nullptr;
    reference operator*() const { return *p; }
    CountingIterator& operator++() {
        *read = ++p;
        return *this;
    }
    CountingIterator operator++(int) {
        CountingIterator old = *this;
        ++*this;
        return old;
    }
    friend bool operator==(const CountingIterator& a, const CountingIterator& b) { return a.p == b.p; }
    friend bool operator!=(const CountingIterator& a, const CountingIterator& b) { return a.p != b.p; }
};

[[noreturn]] void fail(const std::string& file, std::string_view text, size_t offset, const std::string& what) {
    offset = std::min(offset, text.size());
    const auto before = text.substr(0, offset);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const size_t newline = before.rfind('\n');
    const size_t column = newline == before.npos ? offset + 1 : offset - newline;
    throw Error(ErrorKind::bad_input, escaped(file, 512) + ": not valid JSON (line " + std::to_string(line) +
                                          ", column " + std::to_string(column) + "): " + what);
}

}  // namespace

// Receives the SAX events. Every event begins at the first byte after the previous token that is no space, comma or
// colon: so positions need no help from the lexer.
class JsonBuilder {
  public:
    JsonBuilder(std::string_view text, const std::string& file, const JsonLimits& limits)
        : read(text.data()), text_(text), file_(file), limits_(limits), at_(text.data()), line_start_(text.data()) {}
    const char* read;
    Json root;

    bool null() { return scalar(Json()); }
    bool boolean(bool v) { return scalar(Json(v)); }
    bool number_integer(int64_t v) { return scalar(Json(v)); }
    bool number_unsigned(uint64_t v) {
        return scalar(v <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ? Json(static_cast<int64_t>(v))
                                                                                      : Json(v));
    }
    bool number_float(double v, const std::string& written) {
        if (written.find_first_of(".eE") == std::string::npos) fail_here("an integer beyond 64 bits");
        if (!std::isfinite(v)) fail_here("the number is too large for a double");
        return scalar(Json(v));
    }
    bool string(std::string& v) { return scalar(Json(std::move(v))); }
    bool binary(nlohmann::json::binary_t&) { return false; }
    bool key(std::string& v) {
        begin_token();
        if (open_.back()->containers().find(v)) fail_here("duplicate key \"" + escaped(v) + "\"");
        count();
        key_ = std::move(v);
        at_ = read;
        return true;
    }
    bool start_object(size_t) { return open(Json::object()); }
    bool end_object() { return close(); }
    bool start_array(size_t) { return open(Json::array()); }
    bool end_array() { return close(); }
    bool parse_error(size_t position, const std::string&, const nlohmann::json::exception& e) {
        std::string what =
            e.what();  // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error ..."
        if (const auto close_bracket = what.find("] "); close_bracket != what.npos) what.erase(0, close_bracket + 2);
        if (what.rfind("parse error at line ", 0) == 0) what.erase(0, what.find(": ") + 2);
        fail(file_, text_, position ? position - 1 : 0, escaped(what, 240));
    }

  private:
    [[noreturn]] void fail_here(const std::string& what) {
        fail(file_, text_, static_cast<size_t>(at_ - text_.data()), what);
    }
    void count() {
        if (++n_values_ > limits_.max_values) fail_here("more than " + std::to_string(limits_.max_values) + " values");
    }
    void begin_token() {
        const char* end = text_.data() + text_.size();
        for (; at_ < end && std::memchr(" \t\r\n,:", *at_, 6); ++at_)
            if (*at_ == '\n') ++line_, line_start_ = at_ + 1;
    }
    Json* place(Json v) {
        begin_token();
        count();
        v.line_ = line_, v.file_ = name_;
        v.column_ = static_cast<uint32_t>(std::min<ptrdiff_t>(at_ - line_start_ + 1, UINT32_MAX));
        if (open_.empty()) return &(root = std::move(v));
        Json& parent = *open_.back();
        if (parent.is_object()) return &parent.containers().append(std::move(key_), std::move(v));
        auto& items = parent.containers().items;
        items.push_back(std::move(v));
        return &items.back();
    }
    bool scalar(Json v) {
        const bool number = v.is_number();
        place(std::move(v));
        const char* end = text_.data() + text_.size();
        if (number)  // the lexer has read one byte more
            while (at_ < end && std::memchr("+-.0123456789eE", *at_, 15)) ++at_;
        else
            at_ = read;
        return true;
    }
    bool open(Json v) {
        if (static_cast<int>(open_.size()) >= limits_.max_depth)
            begin_token(), fail_here("nested deeper than " + std::to_string(limits_.max_depth) + " levels");
        open_.push_back(place(std::move(v)));  // stays valid: a container grows only when nothing inside it is open
        ++at_;
        return true;
    }
    bool close() {
        open_.pop_back();
        const char* end = read;
        while (at_ < end && *at_ != ']' && *at_ != '}') {
            if (*at_ == '\n') ++line_, line_start_ = at_ + 1;
            ++at_;
        }
        if (at_ < end) ++at_;
        return true;
    }

    std::string_view text_;
    const std::string& file_;
    std::shared_ptr<const std::string> name_ = std::make_shared<const std::string>(file_);
    JsonLimits limits_;
    const char *at_, *line_start_;
    uint32_t line_ = 1;
    size_t n_values_ = 0;
    std::vector<Json*> open_;
    std::string key_;
};

Json Json::parse(std::string_view text, const std::string& file, const JsonLimits& limits) {
    if (text.size() > limits.max_bytes)
        throw Error(ErrorKind::bad_input, escaped(file, 512) + ": " + std::to_string(text.size()) +
                                              " bytes of JSON: at most " + std::to_string(limits.max_bytes) +
                                              " are read");
    // The lexer takes a NUL for the end of the text and skips a byte order mark: both would hide bytes from us.
    if (const void* nul = text.empty() ? nullptr : std::memchr(text.data(), 0, text.size()))
        fail(file, text, static_cast<size_t>(static_cast<const char*>(nul) - text.data()), "a NUL byte");
    if (text.substr(0, 3) == "\xEF\xBB\xBF")
        fail(file, text, 0, "begins with a byte order mark: save it as plain UTF-8");
    JsonBuilder builder(text, file, limits);
    const CountingIterator begin{text.data(), &builder.read}, end{text.data() + text.size(), &builder.read};
    if (!nlohmann::json::sax_parse(begin, end, &builder)) fail(file, text, text.size(), "could not be parsed");
    return std::move(builder.root);
}

// ---- access
// --------------------------------------------------------------------------------------------------------------

const char* Json::type_name() const {
    static const char* const names[] = {"null",     "a boolean", "an integer", "an integer beyond 2^63",
                                        "a number", "a string",  "an array",   "an object"};
    return names[static_cast<int>(type_)];
}

std::string Json::where() const {
    return line_ ? "line " + std::to_string(line_) + ", column " + std::to_string(column_) : std::string();
}

namespace {
std::string named(const Json& j) {
    return j.file().empty() ? "" : escaped(j.file(), 512) + ": ";
}
[[noreturn]] void wrong_type(const Json& j, const char* expected) {
    const std::string where = j.where();
    throw Error(ErrorKind::bad_input, named(j) + "expected " + std::string(expected) + ", found " + j.type_name() +
                                          (where.empty() ? "" : " (" + where + ")"));
}
}  // namespace

bool Json::as_bool() const {
    return is_bool() ? n_.b : (wrong_type(*this, "true or false"), false);
}
int64_t Json::as_int() const {
    if (type_ == Type::integer || (type_ == Type::unsigned_integer && n_.i >= 0)) return n_.i;
    wrong_type(*this, "an integer below 2^63");
}
uint64_t Json::as_uint() const {
    if (type_ == Type::unsigned_integer || (type_ == Type::integer && n_.i >= 0)) return n_.u;
    wrong_type(*this, "an integer >= 0");
}
double Json::as_double() const {
    if (type_ == Type::integer) return static_cast<double>(n_.i);
    if (type_ == Type::unsigned_integer) return static_cast<double>(n_.u);
    return type_ == Type::real ? n_.d : (wrong_type(*this, "a number"), 0);
}
const std::string& Json::as_string() const {
    if (!is_string()) wrong_type(*this, "a string");
    return s_;
}
const Json::Array& Json::items() const {
    static const Array empty;
    if (!is_array()) wrong_type(*this, "an array");
    return c_ ? c_->items : empty;
}
const Json::Object& Json::members() const {
    static const Object empty;
    if (!is_object()) wrong_type(*this, "an object");
    return c_ ? c_->members : empty;
}
size_t Json::size() const {
    return is_object() ? members().size() : items().size();
}

const Json* Json::find(std::string_view key) const {
    return is_object() && c_ ? c_->find(key) : nullptr;
}
const Json& Json::at(std::string_view key) const {
    if (const Json* v = find(key)) return *v;
    if (!is_object()) wrong_type(*this, "an object");
    throw Error(ErrorKind::bad_input, named(*this) + "key \"" + escaped(key) + "\" is missing" +
                                          (where().empty() ? "" : " in the object at " + where()));
}
Json& Json::set(std::string key, Json value) {
    if (type_ == Type::null) type_ = Type::object;
    if (!is_object()) wrong_type(*this, "an object");
    if (Json* v = containers().find(key)) return *v = std::move(value);
    return c_->append(std::move(key), std::move(value));
}
void Json::push(Json value) {
    if (type_ == Type::null) type_ = Type::array;
    if (!is_array()) wrong_type(*this, "an array");
    containers().items.push_back(std::move(value));
}

bool operator==(const Json& a, const Json& b) {
    using T = Json::Type;
    if (a.is_number() && b.is_number()) {
        if (a.type_ == T::integer && b.type_ == T::integer) return a.n_.i == b.n_.i;
        if (a.is_integer() && b.is_integer())  // one is unsigned: equal only if neither is negative
            return (a.type_ != T::integer || a.n_.i >= 0) && (b.type_ != T::integer || b.n_.i >= 0) && a.n_.u == b.n_.u;
        return a.as_double() == b.as_double();
    }
    if (a.type_ != b.type_) return false;
    switch (a.type_) {
        case T::boolean:
            return a.n_.b == b.n_.b;
        case T::string:
            return a.s_ == b.s_;
        case T::array:
            return a.items() == b.items();
        case T::object:
            return a.size() == b.size() && std::all_of(a.members().begin(), a.members().end(), [&](const auto& m) {
                       const Json* v = b.find(m.first);
                       return v && m.second == *v;
                   });
        default:
            return true;
    }
}

// ---- output
// --------------------------------------------------------------------------------------------------------------

namespace {

void put_string(std::string& out, std::string_view s) {
    static const char* const hex = "0123456789abcdef";
    out += '"';
    for (char ch : s) {
        const auto c = static_cast<unsigned char>(ch);
        switch (c) {
            case '"':
                out += "\\\"";
                break;
            case '\\':
                out += "\\\\";
                break;
            case '\b':
                out += "\\b";
                break;
            case '\f':
                out += "\\f";
                break;
            case '\n':
                out += "\\n";
                break;
            case '\r':
                out += "\\r";
                break;
            case '\t':
                out += "\\t";
                break;
            default:
                if (c < 0x20)
                    out += "\\u00", out += hex[c >> 4], out += hex[c & 15];
                else
                    out += ch;
        }
    }
    out += '"';
}

// The shortest digits that read back as the same double, laid out as Python's repr does: exponents from 1e16 and below
// 1e-4.
void put_double(std::string& out, double v) {
    if (!std::isfinite(v)) throw Error(ErrorKind::bad_input, "JSON has no NaN or infinity: the value can't be written");
    char b[40];
    const auto r = std::to_chars(b, b + sizeof b, v, std::chars_format::scientific);
    std::string_view s(b, static_cast<size_t>(r.ptr - b));
    if (s[0] == '-') out += '-', s.remove_prefix(1);
    const size_t e = s.find('e');
    int exponent = 0;
    std::from_chars(s.data() + e + (s[e + 1] == '+' ? 2 : 1), s.data() + s.size(), exponent);
    if (exponent < -4 || exponent >= 16) {
        out += s;
        return;
    }
    std::string digits(1, s[0]);
    if (e > 2) digits += s.substr(2, e - 2);
    if (exponent < 0) {
        out += "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
    } else {
        const auto whole = static_cast<size_t>(exponent) + 1;
        if (digits.size() < whole) digits.append(whole - digits.size(), '0');
        out += digits.substr(0, whole) + "." + (digits.size() > whole ? digits.substr(whole) : "0");
    }
}

struct Dumper {
    std::string& out;
    int indent;
    bool spaces;
    void line(int depth) {
        if (indent >= 0) out += '\n', out.append(static_cast<size_t>(indent) * static_cast<size_t>(depth), ' ');
    }
    // `put(i)` writes element i of n between the brackets.
    template <class F>
    void list(char open, char close, size_t n, int depth, F put) {
        out += open;
        for (size_t i = 0; i < n; ++i) {
            if (i) out += indent < 0 && spaces ? ", " : ",";
            line(depth + 1);
            put(i);
        }
        if (n) line(depth);
        out += close;
    }
    void value(const Json& j, int depth) {
        switch (j.type()) {
            case Json::Type::null:
                out += "null";
                break;
            case Json::Type::boolean:
                out += j.as_bool() ? "true" : "false";
                break;
            case Json::Type::integer:
                out += std::to_string(j.as_int());
                break;
            case Json::Type::unsigned_integer:
                out += std::to_string(j.as_uint());
                break;
            case Json::Type::real:
                put_double(out, j.as_double());
                break;
            case Json::Type::string:
                put_string(out, j.as_string());
                break;
            case Json::Type::array:
                list('[', ']', j.size(), depth, [&](size_t i) { value(j.items()[i], depth + 1); });
                break;
            case Json::Type::object:
                list('{', '}', j.size(), depth, [&](size_t i) {
                    put_string(out, j.members()[i].first);
                    out += spaces ? ": " : ":";
                    value(j.members()[i].second, depth + 1);
                });
                break;
        }
    }
};

}  // namespace

std::string Json::dump(int indent, bool python_separators) const {
    std::string out;
    Dumper{out, indent, python_separators}.value(*this, 0);
    return out;
}

}  // namespace vitrine
