// Encoding and decoding. Reading the file is tokenizer_file.cpp.
#include "engine/text/tokenizer.h"

#include "engine/base/error.h"
#include "engine/base/reader.h"
#include "engine/base/utf8.h"
#include "engine/text/tokenizer_impl.h"

namespace vitrine::text {
namespace {

// One encode call: the steps of the work from the text down to a piece.
class Encoder {
  public:
    Encoder(const Tokenizer::Impl& impl, std::string_view text, EncodeBuffers& buffers, bool with_places)
        : impl_(impl), text_(text), b_(buffers), with_places_(with_places) {}

    // Leaves ids and places in the buffers.
    EncodeStats run() {
        uint64_t& steps = b_.merging.stats.points;
        b_.merging.stats = {};
        b_.cuts.clear(), b_.ids.clear(), b_.begin.clear();
        steps += text_.size();
        impl_.first_cut.cut(text_, 0, text_.size(), b_.cuts, steps);
        for (const auto& c : b_.cuts) {
            if (c.token >= 0) {
                add(impl_.first_cut.token(c.token).id, c.begin);
                continue;
            }
            b_.inner.clear();
            impl_.second_cut.cut(text_, c.begin, c.end, b_.inner, steps);
            for (const auto& d : b_.inner)
                if (d.token >= 0)
                    add(impl_.second_cut.token(d.token).id, d.begin);
                else
                    add_segment(d.begin, d.end);
        }
        return b_.merging.stats;
    }

  private:
    void add(int32_t id, size_t at) {
        b_.ids.push_back(id);
        if (with_places_) b_.begin.push_back(at);
    }

    void add_segment(size_t begin, size_t end) {
        impl_.pre_tokenizer.cut(text_.substr(begin, end - begin), b_.pieces, b_.merging.stats.points);
        for (size_t k = 0; k < b_.pieces.size(); ++k) {
            const Piece p = b_.pieces[k];
            add_piece(begin + p.begin, begin + p.end, p.has_prefix_space);
        }
    }

    void add_piece(size_t begin, size_t end, bool has_prefix_space) {
        const std::string_view bytes = text_.substr(begin, end - begin);
        if (impl_.ignore_merges) {
            const auto whole = impl_.find_vocab(has_prefix_space ? " " + std::string(bytes) : std::string(bytes));
            if (whole) return add(*whole, begin);
        }
        std::vector<int32_t>& ids = b_.piece;
        ids.clear();
        if (has_prefix_space) ids.push_back(impl_.id_of_byte[' ']);
        for (char c : bytes) ids.push_back(impl_.id_of_byte[static_cast<unsigned char>(c)]);
        impl_.bpe.merge(ids, b_.merging);
        size_t at = begin;
        size_t not_in_text = has_prefix_space ? 1 : 0;
        for (int32_t id : ids) {
            add(id, at);
            at += impl_.bytes_of(id).size() - not_in_text;
            not_in_text = 0;
        }
    }

    const Tokenizer::Impl& impl_;
    std::string_view text_;
    EncodeBuffers& b_;
    bool with_places_;
};

void check_length(std::string_view text) {
    if (text.size() > Tokenizer::kMaxTextBytes)
        throw Error(ErrorKind::bad_input, "the text has " + std::to_string(text.size()) +
                                              " bytes; the tokenizer takes at most " +
                                              std::to_string(Tokenizer::kMaxTextBytes) + " at once: split it");
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

std::shared_ptr<const Tokenizer> Tokenizer::load(const std::string& path) {
    return parse(read_file(path, kMaxFileBytes), path);
}

std::shared_ptr<const Tokenizer> Tokenizer::parse(std::string_view json, const std::string& file) {
    return std::shared_ptr<const Tokenizer>(new Tokenizer(read_tokenizer(json, file)));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeStats* stats) const {
    check_length(text);
    std::string repaired;
    if (!is_valid_utf8(text)) text = repaired = repaired_utf8(text);
    auto buffers = impl_->kept.take();
    const EncodeStats done = Encoder(*impl_, text, *buffers, false).run();
    if (stats) *stats = done;
    std::vector<int32_t> ids(buffers->ids);
    impl_->kept.give_back(std::move(buffers));
    return ids;
}

Encoding Tokenizer::encode_with_places(std::string_view text, EncodeStats* stats) const {
    check_length(text);
    Encoding e;
    e.text = repaired_utf8(text);
    auto buffers = impl_->kept.take();
    const EncodeStats done = Encoder(*impl_, e.text, *buffers, true).run();
    if (stats) *stats = done;
    buffers->begin.push_back(e.text.size());
    e.ids = buffers->ids, e.begin = buffers->begin;
    impl_->kept.give_back(std::move(buffers));
    return e;
}

std::string Tokenizer::decode(const std::vector<int32_t>& ids, bool skip_special) const {
    std::string bytes;
    for (int32_t id : ids)
        if (!skip_special || !is_special(id)) bytes += token_bytes(id);
    return repaired_utf8(bytes);
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
    return has_token(id) ? impl_->bytes_of(id) : std::string_view();
}
bool Tokenizer::has_token(int32_t id) const {
    return id >= 0 && id < n_ids() && impl_->tokens[id].is_present;
}
bool Tokenizer::is_special(int32_t id) const {
    return has_token(id) && impl_->tokens[id].is_special;
}
bool Tokenizer::is_added(int32_t id) const {
    return has_token(id) && impl_->tokens[id].is_added;
}
int32_t Tokenizer::n_ids() const {
    return static_cast<int32_t>(impl_->tokens.size());
}
const std::string& Tokenizer::file() const {
    return impl_->file;
}

std::optional<int32_t> Tokenizer::id_of(std::string_view name) const {
    for (const auto* set : {&impl_->first_cut, &impl_->second_cut})
        if (const int32_t k = set->find(name); k >= 0) return set->token(k).id;
    if (const auto it = impl_->odd_vocab.find(name); it != impl_->odd_vocab.end()) return it->second;
    return impl_->find_vocab(name);
}

int32_t Tokenizer::need_id(std::string_view name) const {
    if (const auto id = id_of(name)) return *id;
    throw Error(ErrorKind::bad_input,
                Issue{impl_->file, "added_tokens", std::string(name), "the model's chat format needs this token", ""}
                    .to_string());
}

}  // namespace vitrine::text
