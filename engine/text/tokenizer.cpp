// Encoding and decoding. Reading the file is tokenizer_file.cpp.
#include "engine/text/tokenizer.h"

#include "engine/base/error.h"
#include "engine/base/reader.h"
#include "engine/base/utf8.h"
#include "engine/text/tokenizer_impl.h"

namespace vitrine::text {
namespace {

// Where the ids of one text are collected, with places when asked for.
struct Sink {
    std::vector<int32_t>& ids;
    std::vector<size_t>* begin;

    void add(int32_t id, size_t at) {
        ids.push_back(id);
        if (begin) begin->push_back(at);
    }
};

// One encode call: buffers, and the steps of the work from the text down to a piece.
class Encoder {
  public:
    Encoder(const Tokenizer::Impl& impl, std::string_view text, Sink sink) : impl_(impl), text_(text), sink_(sink) {}

    EncodeStats run() {
        std::vector<AddedTokenSet::Cut> cuts, inner;
        scratch_.stats.points += text_.size();
        impl_.first_cut.cut(text_, 0, text_.size(), cuts, scratch_.stats.points);
        for (const auto& c : cuts) {
            if (c.token >= 0) {
                sink_.add(impl_.first_cut.token(c.token).id, c.begin);
                continue;
            }
            inner.clear();
            impl_.second_cut.cut(text_, c.begin, c.end, inner, scratch_.stats.points);
            for (const auto& d : inner)
                if (d.token >= 0)
                    sink_.add(impl_.second_cut.token(d.token).id, d.begin);
                else
                    add_segment(d.begin, d.end);
        }
        return scratch_.stats;
    }

  private:
    void add_segment(size_t begin, size_t end) {
        const std::string_view segment = text_.substr(begin, end - begin);
        for (const Piece& p : impl_.pre_tokenizer.pieces(segment, scratch_.stats.points))
            add_piece(begin + p.begin, begin + p.end, p.has_prefix_space);
    }

    void add_piece(size_t begin, size_t end, bool has_prefix_space) {
        const std::string_view bytes = text_.substr(begin, end - begin);
        if (impl_.ignore_merges) {
            const auto whole = impl_.find_vocab(has_prefix_space ? " " + std::string(bytes) : std::string(bytes));
            if (whole) return sink_.add(*whole, begin);
        }
        ids_.clear();
        if (has_prefix_space) ids_.push_back(impl_.id_of_byte[' ']);
        for (char c : bytes) ids_.push_back(impl_.id_of_byte[static_cast<unsigned char>(c)]);
        impl_.bpe.merge(ids_, scratch_);
        size_t at = begin;
        size_t not_in_text = has_prefix_space ? 1 : 0;
        for (int32_t id : ids_) {
            sink_.add(id, at);
            at += impl_.bytes_of(id).size() - not_in_text;
            not_in_text = 0;
        }
    }

    const Tokenizer::Impl& impl_;
    std::string_view text_;
    Sink sink_;
    std::vector<int32_t> ids_;
    Bpe::Scratch scratch_;
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
    std::vector<int32_t> ids;
    const EncodeStats done = Encoder(*impl_, text, {ids, nullptr}).run();
    if (stats) *stats = done;
    return ids;
}

Encoding Tokenizer::encode_with_places(std::string_view text, EncodeStats* stats) const {
    check_length(text);
    Encoding e;
    e.text = repaired_utf8(text);
    const EncodeStats done = Encoder(*impl_, e.text, {e.ids, &e.begin}).run();
    e.begin.push_back(e.text.size());
    if (stats) *stats = done;
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
