// Pre-tokenizer stages: reading them and applying them in order. No recursion over text: ranges go from stage to stage
// in vectors.
#include "engine/text/pretokenizer.h"

#include "engine/text/json_fields.h"

namespace vitrine::text {
namespace {

constexpr size_t kMaxStages = 32;
constexpr const char* kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace

PreTokenizer PreTokenizer::from_json(const Json& j, const std::string& file) {
    PreTokenizer t;
    t.add(j, file, "pre_tokenizer");
    if (!t.is_byte_level_)
        refuse(file, "pre_tokenizer", "", "expected a ByteLevel stage: only byte-level BPE tokenizers are read");
    return t;
}

void PreTokenizer::add(const Json& j, const std::string& file, const std::string& key) {
    if (!j.is_object()) refuse(file, key, shown(j), "expected an object with a type");
    const Fields f{j, file, key};
    const std::string type = f.string("type");
    if (stages_.size() >= kMaxStages) refuse(file, key, "", "expected at most 32 stages");
    if (type == "Sequence") {
        const Json& list = f.need("pretokenizers");
        if (!list.is_array()) refuse(file, f.path("pretokenizers"), shown(list), "expected an array");
        for (size_t i = 0; i < list.size(); ++i)
            add(list.items()[i], file, f.path("pretokenizers") + "[" + std::to_string(i) + "]");
        return;
    }
    if (is_byte_level_)
        refuse(file, key, type, "expected no stage after ByteLevel, which maps bytes to other characters");
    if (type == "Split") return add_split(j, file, key);
    if (type == "ByteLevel") return add_byte_level(j, file, key);
    if (type == "Digits") {
        const bool one_by_one = f.flag("individual_digits", false);
        stages_.push_back(
            {SplitPattern(one_by_one ? ScannerKind::one_number : ScannerKind::numbers), Behavior::isolated});
        return;
    }
    refuse(file, f.path("type"), type, "expected Split, Digits, ByteLevel or Sequence");
}

void PreTokenizer::add_split(const Json& j, const std::string& file, const std::string& key) {
    const Fields f{j, file, key};
    const Json& p = f.need("pattern");
    std::optional<SplitPattern> pattern;
    if (const Json* regex = p.find("Regex"); regex && regex->is_string() && p.size() == 1) {
        pattern = SplitPattern::from_regex(regex->as_string());
        if (!pattern)
            refuse(
                file, f.path("pattern.Regex"), regex->as_string(),
                "this expression is not among the " + std::to_string(SplitPattern::known_regexes().size()) +
                    " known ones, and expressions from files are not executed (docs: engine/text/split_pattern.cpp)");
    } else if (const Json* text = p.find("String"); text && text->is_string() && p.size() == 1) {
        const std::string& s = text->as_string();
        const size_t n = points_of(s).size();
        if (n == 0 || n > SplitPattern::kMaxLiteral)
            refuse(file, f.path("pattern.String"), s, "expected a string of 1 to 64 characters");
        pattern = SplitPattern(s);
    } else {
        refuse(file, f.path("pattern"), shown(p), "expected {\"Regex\": \"...\"} or {\"String\": \"...\"}");
    }
    static constexpr std::pair<const char*, Behavior> kBehaviors[] = {
        {"Removed", Behavior::removed},
        {"Isolated", Behavior::isolated},
        {"MergedWithPrevious", Behavior::merged_with_previous},
        {"MergedWithNext", Behavior::merged_with_next},
        {"Contiguous", Behavior::contiguous},
    };
    const std::string name = f.string("behavior");
    for (const auto& [known, behavior] : kBehaviors)
        if (name == known) {
            stages_.push_back({*pattern, behavior, f.flag("invert", false)});
            return;
        }
    refuse(file, f.path("behavior"), name,
           "expected Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

void PreTokenizer::add_byte_level(const Json& j, const std::string& file, const std::string& key) {
    const Fields f{j, file, key};
    Stage s{*SplitPattern::from_regex(kGpt2), Behavior::isolated};
    s.is_splitting = f.flag("use_regex", true);
    s.adds_prefix_space = f.flag("add_prefix_space", true);
    f.flag("trim_offsets", true);  // concerns offsets that only post-processors report
    stages_.push_back(s);
    is_byte_level_ = true;
}

void PreTokenizer::cut(std::string_view segment, Pieces& out, uint64_t& steps) const {
    auto& [p, spaced, ranges, next] = out;
    ranges.clear();
    if (segment.empty()) return;
    points_of(segment, p);
    ranges.push_back({0, static_cast<uint32_t>(p.size())});
    steps += p.size();
    for (const Stage& s : stages_) {
        if (s.adds_prefix_space) add_prefix_spaces(out);
        if (!s.is_splitting) continue;
        next.clear();
        for (const Range& r : ranges) split(s, p, r, next);
        ranges.swap(next);
        steps += p.size();
    }
}

std::vector<Piece> PreTokenizer::pieces(std::string_view segment, uint64_t& steps) const {
    Pieces cut_up;
    cut(segment, cut_up, steps);
    std::vector<Piece> out;
    out.reserve(cut_up.size());
    for (size_t k = 0; k < cut_up.size(); ++k) out.push_back(cut_up[k]);
    return out;
}

// A space of zero bytes before every range that does not start with a space.
void PreTokenizer::add_prefix_spaces(Pieces& pieces) {
    auto& [p, q, ranges, next] = pieces;
    q.at.clear(), q.code_point.clear(), q.bits.clear();
    for (Range& r : ranges) {
        const auto begin = static_cast<uint32_t>(q.size());
        if (p.code_point[r.begin] != ' ') {
            q.at.push_back(p.at[r.begin]);
            q.code_point.push_back(' ');
            q.bits.push_back(class_bits(' '));
        }
        for (size_t i = r.begin; i < r.end; ++i) {
            q.at.push_back(p.at[i]);
            q.code_point.push_back(p.code_point[i]);
            q.bits.push_back(p.bits[i]);
        }
        r = {begin, static_cast<uint32_t>(q.size())};
    }
    q.at.push_back(p.at.back());
    std::swap(p, q);
}

// Matches and gaps of one range, joined as `behavior` says (the rules of SplitDelimiterBehavior in Hugging Face
// tokenizers).
void PreTokenizer::split(const Stage& s, const Points& p, const Range& in, std::vector<Range>& out) {
    const size_t first = out.size();
    bool was_match = false;
    const auto add = [&](uint32_t begin, uint32_t end, bool is_pattern) {
        const bool is_match = is_pattern != s.is_inverted;
        const bool has_last = out.size() > first;
        bool joins = false;
        switch (s.behavior) {
            case Behavior::isolated:
            case Behavior::removed:
                break;
            case Behavior::contiguous:
                joins = has_last && is_match == was_match;
                break;
            case Behavior::merged_with_previous:
                joins = has_last && is_match && !was_match;
                break;
            case Behavior::merged_with_next:
                joins = has_last && was_match && !is_match;
                break;
        }
        if (joins)
            out.back().end = end;
        else if (!(s.behavior == Behavior::removed && is_match))
            out.push_back({begin, end});
        was_match = is_match;
    };
    uint32_t gap = in.begin;
    for (uint32_t i = in.begin; i < in.end;) {
        const auto n = static_cast<uint32_t>(s.pattern.match(p, i, in.end));
        if (n == 0) {
            ++i;
            continue;
        }
        if (gap < i) add(gap, i, false);
        add(i, i + n, true);
        i += n;
        gap = i;
    }
    if (gap < in.end) add(gap, in.end, false);
}

}  // namespace vitrine::text
