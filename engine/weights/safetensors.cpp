// The safetensors format: 8 bytes of header length, a JSON header, the data; read with every bound checked, and
// written.
#include <algorithm>
#include <cstring>

#include "engine/base/json.h"
#include "engine/weights/checkpoint.h"

namespace vitrine {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr size_t kMaxTensors = 1'000'000, kMaxName = 1024, kMaxRank = 8;

constexpr DType kFileTypes[] = {DType::f32,     DType::f64, DType::f16, DType::bf16, DType::f8_e4m3,
                                DType::f8_e8m0, DType::i8,  DType::i32, DType::i64,  DType::u8};

const DType* find_dtype(std::string_view name) {
    for (const DType& t : kFileTypes)
        if (name == dtype_name(t)) return &t;
    return nullptr;
}

uint64_t bytes_of(DType t, const std::vector<int64_t>& shape) {
    Checked n = dtype_bits(t) / 8;  // all of kFileTypes are whole bytes
    // A product with an empty dimension is empty, however large the others are.
    if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
    for (int64_t d : shape) n = n * static_cast<uint64_t>(d);
    return n.value();
}

struct Range {
    uint64_t begin, end;
    size_t tensor;
};

class HeaderParser {
  public:
    HeaderParser(const std::string& file, uint64_t data_begin, uint64_t data_size)
        : file_(file), data_begin_(data_begin), data_size_(data_size) {}

    std::vector<RawTensor> parse(const Json& header) {
        if (!header.is_object()) throw_one("", "", "expected the header to be a JSON object", header.where());
        if (header.size() > kMaxTensors)
            throw_one("", std::to_string(header.size()) + " tensors", "expected at most " + std::to_string(kMaxTensors),
                      "");
        for (const auto& [name, entry] : header.members()) {
            if (name == "__metadata__")
                metadata(entry);
            else
                tensor(name, entry);
        }
        throw_if_any(issues_);
        check_cover();
        throw_if_any(issues_);
        return std::move(tensors_);
    }
    const std::vector<Range>& ranges() const { return ranges_; }

  private:
    void issue(const std::string& key, const std::string& value, const std::string& expected,
               const std::string& where) {
        issues_.push_back({file_, key, value, expected, where});
    }
    [[noreturn]] void throw_one(const std::string& key, const std::string& value, const std::string& expected,
                                const std::string& where) {
        issue(key, value, expected, where);
        throw_if_any(issues_);
        throw Error(ErrorKind::internal, "unreachable");
    }

    void metadata(const Json& j) {
        if (!j.is_object()) return issue("__metadata__", j.type_name(), "expected an object of strings", j.where());
        for (const auto& [k, v] : j.members())
            if (!v.is_string()) issue("__metadata__." + k, v.type_name(), "expected a string", v.where());
    }

    void tensor(const std::string& name, const Json& j) {
        if (name.empty() || name.size() > kMaxName)
            return issue(name, std::to_string(name.size()) + " bytes", "expected a tensor name of 1 to 1024 bytes",
                         j.where());
        for (size_t at = 0; at < name.size();)
            if (is_unsafe_code_point(next_code_point(name, at)))
                return issue(name, "", "expected a tensor name without control or invisible characters", j.where());
        if (!j.is_object())
            return issue(name, j.type_name(), "expected an object with dtype, shape, data_offsets", j.where());
        RawTensor t;
        t.name = name;
        Range r{0, 0, tensors_.size()};
        bool has_dtype = false, has_shape = false, has_offsets = false;
        for (const auto& [k, v] : j.members()) {
            if (k == "dtype")
                has_dtype = dtype(name, v, t.dtype);
            else if (k == "shape")
                has_shape = shape(name, v, t.shape);
            else if (k == "data_offsets")
                has_offsets = offsets(name, v, r);
            else
                return issue(name + "." + k, v.type_name(), "expected only dtype, shape and data_offsets", v.where());
        }
        for (const char* k : {"dtype", "shape", "data_offsets"})
            if (!j.find(k)) issue(name, std::string("no ") + k, "expected dtype, shape and data_offsets", j.where());
        if (!has_dtype || !has_shape || !has_offsets) return;
        try {
            t.bytes = bytes_of(t.dtype, t.shape);
        } catch (const Error&) {
            return issue(name + ".shape", shape_text(t.shape), "expected a size that 64 bits can count", j.where());
        }
        if (t.bytes != r.end - r.begin)
            return issue(
                name, std::to_string(r.end - r.begin) + " bytes of data",
                "expected " + std::to_string(t.bytes) + " bytes for " + dtype_name(t.dtype) + " " + shape_text(t.shape),
                "byte " + std::to_string(data_begin_ + r.begin));
        tensors_.push_back(std::move(t));
        ranges_.push_back(r);
    }

    bool dtype(const std::string& name, const Json& v, DType& out) {
        const DType* t = v.is_string() ? find_dtype(v.as_string()) : nullptr;
        if (t) return out = *t, true;
        std::string known;
        for (DType k : kFileTypes) known += (known.empty() ? "" : ", ") + std::string(dtype_name(k));
        issue(name + ".dtype", v.is_string() ? v.as_string() : v.type_name(), "expected one of " + known, v.where());
        return false;
    }

    bool shape(const std::string& name, const Json& v, std::vector<int64_t>& out) {
        if (!v.is_array() || v.size() > kMaxRank) {
            issue(name + ".shape", v.is_array() ? std::to_string(v.size()) + " dimensions" : v.type_name(),
                  "expected an array of at most 8 sizes", v.where());
            return false;
        }
        for (const Json& d : v.items()) {
            if (d.type() != Json::Type::integer || d.as_int() < 0) {
                issue(name + ".shape", d.is_number() ? d.dump() : d.type_name(), "expected an integer in [0, 2^63)",
                      d.where());
                return false;
            }
            out.push_back(d.as_int());
        }
        return true;
    }

    bool offsets(const std::string& name, const Json& v, Range& r) {
        const auto ok = [](const Json& x) { return x.type() == Json::Type::integer && x.as_int() >= 0; };
        if (!v.is_array() || v.size() != 2 || !ok(v.items()[0]) || !ok(v.items()[1])) {
            issue(name + ".data_offsets", v.is_array() ? v.dump() : v.type_name(), "expected two integers in [0, 2^63)",
                  v.where());
            return false;
        }
        r.begin = v.items()[0].as_uint(), r.end = v.items()[1].as_uint();
        if (r.begin <= r.end && r.end <= data_size_) return true;
        issue(name + ".data_offsets", v.dump(),
              "expected begin <= end <= " + std::to_string(data_size_) + ", the bytes of data", v.where());
        return false;
    }

    // The ranges tile the data section: no gap, no overlap, no bytes behind (nothing can hide in the file).
    void check_cover() {
        std::vector<Range> sorted = ranges_;
        std::sort(sorted.begin(), sorted.end(),
                  [](const Range& a, const Range& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
        uint64_t at = 0;
        for (const Range& r : sorted) {
            if (r.begin != at)
                return issue(tensors_[r.tensor].name, "data begins at " + std::to_string(r.begin),
                             "expected " + std::to_string(at) + ": tensors must follow each other without " +
                                 (r.begin < at ? "overlap" : "a gap"),
                             "byte " + std::to_string(data_begin_ + at));
            at = r.end;
        }
        if (at != data_size_)
            issue("", std::to_string(data_size_ - at) + " bytes behind the last tensor",
                  "expected the file to end there", "byte " + std::to_string(data_begin_ + at));
    }

    std::string file_;
    uint64_t data_begin_, data_size_;
    std::vector<Issue> issues_;
    std::vector<RawTensor> tensors_;
    std::vector<Range> ranges_;
};

}  // namespace

std::string shape_text(const std::vector<int64_t>& shape) {
    std::string s = "[";
    for (size_t i = 0; i < shape.size(); ++i) s += (i ? ", " : "") + std::to_string(shape[i]);
    return s + "]";
}

std::vector<RawTensor> read_safetensors(const std::shared_ptr<const MappedFile>& file) {
    const std::string& path = file->path();
    const auto refuse = [&](const std::string& value, const std::string& expected, const char* where) {
        throw_if_any({{path, "header length", value, expected, where}});
    };
    ByteReader reader(path, file->data(), file->size());
    if (file->size() < 8)
        throw_if_any({{path, "", std::to_string(file->size()) + " bytes",
                       "expected a safetensors file of at least 10 bytes", ""}});
    const uint64_t n = reader.u64();
    if (n > kMaxHeader) refuse(std::to_string(n), "expected at most " + std::to_string(kMaxHeader), "byte 0");
    if (n > reader.remaining())
        refuse(std::to_string(n), "expected at most the " + std::to_string(reader.remaining()) + " bytes that follow",
               "byte 0");
    const std::string_view header = reader.bytes(n);
    if (header.empty() || header[0] != '{')
        throw_if_any({{path, "header", escaped(header.substr(0, 8)), "expected it to begin with {", "byte 8"}});
    JsonLimits limits;
    limits.max_bytes = kMaxHeader, limits.max_depth = 4;
    const Json json = Json::parse(header, path, limits);
    HeaderParser parser(path, reader.offset(), reader.remaining());
    std::vector<RawTensor> tensors = parser.parse(json);
    for (size_t i = 0; i < tensors.size(); ++i) {
        tensors[i].file = file;
        tensors[i].data = file->data() + reader.offset() + parser.ranges()[i].begin;
    }
    return tensors;
}

std::vector<RawTensor> read_safetensors(const std::string& path) {
    return read_safetensors(MappedFile::open(path));
}

uint64_t TensorPlan::bytes() const {
    return bytes_of(dtype, shape);
}

SafetensorsWriter::SafetensorsWriter(const std::string& path, std::vector<TensorPlan> plan) : file_(path) {
    Json header = Json::object(), metadata = Json::object();
    metadata.set("format", "pt");  // transformers refuses files without it
    header.set("__metadata__", std::move(metadata));
    for (const TensorPlan& t : plan) {
        VITRINE_ASSERT(find_dtype(dtype_name(t.dtype)));
        Json entry = Json::object(), shape = Json::array(), offsets = Json::array();
        for (int64_t d : t.shape) shape.push(d);
        offsets.push(static_cast<int64_t>(remaining_));
        remaining_ = (Checked(remaining_) + t.bytes()).value();
        offsets.push(static_cast<int64_t>(remaining_));
        entry.set("dtype", dtype_name(t.dtype));
        entry.set("shape", std::move(shape));
        entry.set("data_offsets", std::move(offsets));
        header.set(t.name, std::move(entry));
    }
    std::string text = header.dump(-1, false);
    text.append((8 - text.size() % 8) % 8, ' ');  // the data begins at a multiple of 8
    char length[8];
    for (int i = 0; i < 8; ++i) length[i] = static_cast<char>(static_cast<uint64_t>(text.size()) >> (8 * i));
    file_.write(length, 8);
    file_.write(text.data(), text.size());
}

void SafetensorsWriter::write(const void* data, uint64_t bytes) {
    VITRINE_ASSERT(bytes <= remaining_);
    file_.write(data, bytes);
    remaining_ -= bytes;
}

void SafetensorsWriter::finish() {
    VITRINE_ASSERT(remaining_ == 0);
    file_.commit();
}

void write_safetensors(const std::string& path, const std::vector<NamedArray>& tensors) {
    std::vector<const NamedArray*> order;
    for (const auto& t : tensors) order.push_back(&t);
    std::stable_sort(order.begin(), order.end(),
                     [](const auto* a, const auto* b) { return dtype_bits(a->dtype) > dtype_bits(b->dtype); });
    std::vector<TensorPlan> plan;
    for (const auto* t : order) {
        plan.push_back({t->name, t->dtype, t->shape});
        VITRINE_ASSERT(plan.back().bytes() == t->bytes);
    }
    SafetensorsWriter writer(path, std::move(plan));
    for (const auto* t : order) writer.write(t->data, t->bytes);
    writer.finish();
}

}  // namespace vitrine
