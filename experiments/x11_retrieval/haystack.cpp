// Taking the curriculum's long items apart and putting them together again.
#include "experiments/x11_retrieval/haystack.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "engine/base/error.h"
#include "experiments/curriculum/domains.h"
#include "experiments/curriculum/names.h"

namespace vitrine::lab {
namespace {

using curriculum::Item;
using curriculum::Language;

struct Parts {
    std::vector<std::string> lines;  // without the note and the question
    std::string note, question, name, reply;
};

bool contains(const std::string& text, std::string_view word) {
    return text.find(word) != std::string::npos;
}

std::optional<Parts> parts_of(const Item& item) {
    Parts p;
    p.reply = item.reply;
    for (size_t begin = 0; begin <= item.prompt.size();) {
        const size_t end = std::min(item.prompt.find('\n', begin), item.prompt.size());
        p.lines.push_back(item.prompt.substr(begin, end - begin));
        begin = end + 1;
    }
    p.question = p.lines.back();
    p.lines.pop_back();
    for (const std::string_view name : curriculum::first_names(Language::english))
        if (contains(p.question, name) && name.size() > p.name.size()) p.name = name;
    if (p.name.empty()) return {};
    int n_notes = 0;
    for (size_t i = 0; i < p.lines.size(); ++i)
        if (contains(p.lines[i], p.name) && contains(p.lines[i], p.reply)) ++n_notes, p.note = p.lines[i];
    if (n_notes != 1) return {};  // a question that other lines may answer too
    std::erase(p.lines, p.note);
    return p;
}

Item recall_item(int n_tokens, uint64_t seed, uint64_t index, const ModelConfig& model) {
    const curriculum::Selection what{.domain = curriculum::domain_index("lookup"),
                                     .skill = &curriculum::find_skill("recall"),
                                     .level = n_tokens,
                                     .language = Language::english,
                                     .model = &model};
    return make_item(seed, curriculum::Split::test, what, index);
}

}  // namespace

Haystack make_haystack(int n_tokens, double depth, int n_notes, uint64_t seed, uint64_t index,
                       const ModelConfig& model) {
    constexpr uint64_t kTries = 64, kStride = uint64_t{1} << 20;
    std::optional<Parts> found;
    uint64_t at = index * kTries;
    for (uint64_t i = 0; i < kTries && !found; ++i) found = parts_of(recall_item(n_tokens, seed, at++, model));
    VITRINE_ASSERT(found);
    Parts p = std::move(*found);
    // More notes come from other items; each brings its own.
    curriculum::Draws draw(CounterRng(seed ^ fnv1a64("haystack"), index));
    for (uint64_t i = 0; n_notes > 4; ++i) {
        VITRINE_ASSERT(i < 100 * static_cast<uint64_t>(n_notes));
        const std::optional<Parts> other = parts_of(recall_item(1, seed, kStride + index * kStride + i, model));
        if (!other || contains(other->note, p.name)) continue;
        p.lines.insert(p.lines.begin() + static_cast<std::ptrdiff_t>(draw.below(p.lines.size() + 1)), other->note);
        --n_notes;
    }
    const auto place = static_cast<size_t>(std::lround(depth * static_cast<double>(p.lines.size())));
    Haystack h;
    for (size_t i = 0; i < place; ++i) h.before += p.lines[i] + "\n";
    h.note = p.note;
    for (size_t i = place; i < p.lines.size(); ++i) h.after += "\n" + p.lines[i];
    h.after += "\n" + p.question;
    h.reply = p.reply;
    return h;
}

}  // namespace vitrine::lab
