// A byte trie over the names of added tokens.
#include "engine/text/added_tokens.h"

#include <algorithm>

#include "engine/base/utf8.h"
#include "engine/text/unicode.h"

namespace vitrine::text {

AddedTokenSet::AddedTokenSet(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
    for (size_t k = 0; k < tokens_.size(); ++k) {
        uint32_t node = 0;
        for (char c : tokens_[k].name) {
            const uint64_t edge = (static_cast<uint64_t>(node) << 8) | static_cast<unsigned char>(c);
            const auto [it, is_new] = edges_.try_emplace(edge, static_cast<uint32_t>(nodes_.size()));
            if (is_new) nodes_.emplace_back();
            node = it->second;
        }
        nodes_[node].token = static_cast<int32_t>(k);
        starts_[static_cast<unsigned char>(tokens_[k].name[0])] = true;
    }
}

int32_t AddedTokenSet::longest(std::string_view text, size_t at, size_t end, uint64_t& steps) const {
    int32_t found = -1;
    uint32_t node = 0;
    for (size_t i = at; i < end; ++i) {
        ++steps;
        const auto it = edges_.find((static_cast<uint64_t>(node) << 8) | static_cast<unsigned char>(text[i]));
        if (it == edges_.end()) break;
        node = it->second;
        if (nodes_[node].token >= 0) found = nodes_[node].token;
    }
    return found;
}

int32_t AddedTokenSet::find(std::string_view name) const {
    uint64_t steps = 0;
    const int32_t k = longest(name, 0, name.size(), steps);
    return k >= 0 && tokens_[k].name.size() == name.size() ? k : -1;
}

void AddedTokenSet::cut(std::string_view text, size_t begin, size_t end, std::vector<Cut>& out, uint64_t& steps) const {
    size_t done = begin;  // up to here is in `out`
    for (size_t i = begin; i < end;) {
        if (!starts_[static_cast<unsigned char>(text[i])]) {
            ++i;
            continue;
        }
        const int32_t k = longest(text, i, end, steps);
        if (k < 0) {
            ++i;
            continue;
        }
        const AddedToken& token = tokens_[k];
        size_t from = i, to = i + token.name.size();
        i = to;
        if (token.strips_left) {
            size_t back = done;  // end of the last character before `from` that is not white space
            for (size_t j = done; j < from;) {
                const Utf8Step s = utf8_step(text, j);
                j += s.n_bytes;
                ++steps;
                if (!is_white_space(s.code_point)) back = j;
            }
            from = std::min(from, std::max(back, done));
        }
        if (token.strips_right)
            while (to < end) {
                const Utf8Step s = utf8_step(text, to);
                ++steps;
                if (!is_white_space(s.code_point)) break;
                to += s.n_bytes;
            }
        if (done < from) out.push_back({done, from, -1});
        out.push_back({from, to, k});
        done = to;
        i = std::max(i, done);
    }
    if (done < end) out.push_back({done, end, -1});
}

}  // namespace vitrine::text
