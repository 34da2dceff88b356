// The table of tasks, and the two that are no generators: a file of tokens, random tokens.
#include "engine/train/data/data.h"

#include <algorithm>
#include <cstdio>

#include "engine/base/reader.h"
#include "engine/base/rng.h"

namespace vitrine {

std::vector<int32_t> TrainBatch::second_targets() const {
    std::vector<int32_t> second(tokens.size(), -1);
    for (const Sample& s : samples)
        for (int64_t t = s.begin; t + 1 < s.end; ++t) second[static_cast<size_t>(t)] = targets[static_cast<size_t>(t + 1)];
    return second;
}

std::vector<int32_t> TrainBatch::next_tokens() const {
    std::vector<int32_t> next(tokens);
    for (const Sample& s : samples)
        for (int64_t t = s.begin; t + 1 < s.end; ++t) next[static_cast<size_t>(t)] = tokens[static_cast<size_t>(t + 1)];
    return next;
}

std::string fingerprint_of(std::string_view bytes) {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(fnv1a64(bytes)));
    return text;
}

std::string DataSource::text(std::span<const int32_t> ids) const {
    std::string s;
    for (int32_t id : ids) s += (s.empty() ? "" : " ") + std::to_string(id);
    return s;
}

namespace {

// One sequence with a target at every position but the last.
TrainBatch one_sequence(std::vector<int32_t> tokens) {
    TrainBatch b;
    b.targets.assign(tokens.begin() + 1, tokens.end());
    b.targets.push_back(-1);
    b.samples.push_back({0, static_cast<int64_t>(tokens.size()), 0});
    b.tokens = std::move(tokens);
    return b;
}

const std::vector<std::string>& one_domain() {
    static const std::vector<std::string> names = {"text"};
    return names;
}

class TokenFile : public DataSource {
  public:
    TokenFile(std::vector<int32_t> ids, int vocab_size) : batch_(one_sequence(std::move(ids))), vocab_size_(vocab_size) {}
    TrainBatch batch(int64_t) const override { return batch_; }
    TrainBatch held_out(int64_t) const override { return batch_; }  // there is nothing else: the loss without its gradient
    int vocab_size() const override { return vocab_size_; }
    const std::vector<std::string>& domains() const override { return one_domain(); }
    std::string fingerprint() const override {
        return fingerprint_of({reinterpret_cast<const char*>(batch_.tokens.data()), batch_.tokens.size() * sizeof(int32_t)});
    }

  private:
    TrainBatch batch_;
    int vocab_size_;
};

// Uniform random ids: nothing to learn but the uniform distribution. A source of bad batches.
class RandomTokens : public DataSource {
  public:
    RandomTokens(const TrainConfig& c, int vocab_size)
        : seed_(static_cast<uint64_t>(c.seed)), n_sequences_(c.batch), length_(c.sequence_length), vocab_size_(vocab_size) {}
    TrainBatch batch(int64_t step) const override { return make(step, "random"); }
    TrainBatch held_out(int64_t index) const override { return make(index, "random/held-out"); }
    int vocab_size() const override { return vocab_size_; }
    const std::vector<std::string>& domains() const override { return one_domain(); }

  private:
    TrainBatch make(int64_t index, std::string_view stream) const {
        const CounterRng rng(mix64(seed_ ^ fnv1a64(stream)), static_cast<uint64_t>(index));
        TrainBatch b;
        for (int64_t s = 0; s < n_sequences_; ++s) {
            std::vector<int32_t> ids(static_cast<size_t>(length_));
            for (int64_t t = 0; t < length_; ++t)
                ids[static_cast<size_t>(t)] = static_cast<int32_t>(rng.bits(static_cast<uint64_t>(s * length_ + t)) %
                                                                   static_cast<uint64_t>(vocab_size_));
            const TrainBatch one = one_sequence(std::move(ids));
            b.samples.push_back({s * length_, (s + 1) * length_, 0});
            b.tokens.insert(b.tokens.end(), one.tokens.begin(), one.tokens.end());
            b.targets.insert(b.targets.end(), one.targets.begin(), one.targets.end());
        }
        return b;
    }
    uint64_t seed_;
    int64_t n_sequences_, length_;
    int vocab_size_;
};

}  // namespace

namespace {

std::vector<TaskInfo>& table() {
    static std::vector<TaskInfo> all = {
        {"mix3", "reversed 3-digit addition, string reversal, key-value lookup; 48 ids, loss on answers", make_mix3},
        {"tokens", "one sequence from a JSON file (tokens=FILE), loss on all next tokens", make_token_file},
        {"random", "uniform random ids: a source of bad batches", make_random_tokens},
    };
    return all;
}

}  // namespace

const std::vector<TaskInfo>& tasks() { return table(); }

void add_task(const TaskInfo& task) {
    for (const TaskInfo& t : table())
        if (std::string_view(t.name) == task.name) return;
    table().push_back(task);
}

std::unique_ptr<DataSource> make_data(const TrainConfig& c, int model_vocab_size) {
    ModelConfig model;
    model.vocab_size = model_vocab_size;
    return make_data(c, model);
}

std::unique_ptr<DataSource> make_data(const TrainConfig& c, const ModelConfig& model) {
    const int model_vocab_size = model.vocab_size;
    std::vector<std::string> names;
    std::string list;
    for (const TaskInfo& t : tasks()) {
        if (t.name == c.data) {
            auto data = t.make_for ? t.make_for(c, model) : t.make(c, model_vocab_size);
            if (data->vocab_size() > model_vocab_size)
                throw_if_any({{"", "data", c.data,
                               "expected a model with at least " + std::to_string(data->vocab_size()) + " ids, found vocab_size " +
                                   std::to_string(model_vocab_size), ""}});
            return data;
        }
        names.emplace_back(t.name);
        list += (list.empty() ? "" : ", ") + names.back();
    }
    const std::string near = nearest_name(c.data, names);
    throw_if_any({{"", "data", c.data, "expected one of " + list + (near.empty() ? "" : "; did you mean " + near + "?"), ""}});
    return nullptr;
}

std::unique_ptr<DataSource> make_token_file(const TrainConfig& c, int model_vocab_size) {
    return std::make_unique<TokenFile>(read_token_file(c.tokens, model_vocab_size), model_vocab_size);
}

std::unique_ptr<DataSource> make_random_tokens(const TrainConfig& c, int model_vocab_size) {
    return std::make_unique<RandomTokens>(c, model_vocab_size);
}

std::vector<int32_t> token_ids(const Json& list, const std::string& key, int vocab_size, std::vector<Issue>& issues) {
    std::vector<int32_t> ids;
    if (!list.is_array()) {
        issues.push_back({list.file(), key, list.type_name(), "expected a list of token ids", list.where()});
        return ids;
    }
    for (size_t i = 0; i < list.items().size(); ++i) {
        const Json& x = list.items()[i];
        if (x.type() == Json::Type::integer && x.as_int() >= 0 && x.as_int() < vocab_size)
            ids.push_back(static_cast<int32_t>(x.as_int()));
        else
            issues.push_back({list.file(), key + "[" + std::to_string(i) + "]", x.dump(),
                              "expected an integer in [0, " + std::to_string(vocab_size - 1) + "]", x.where()});
    }
    return ids;
}

std::vector<int32_t> read_token_file(const std::string& file, int vocab_size, size_t n_least) {
    const JsonLimits limits{.max_bytes = size_t{64} << 20, .max_depth = 4};
    const Json j = Json::parse(read_file(file, limits.max_bytes), file, limits);
    std::vector<Issue> issues;
    const std::vector<int32_t> ids = token_ids(j, "", vocab_size, issues);
    throw_if_any(issues);
    if (ids.empty() && n_least > 0) throw Error(ErrorKind::bad_input, escaped(file, 512) + ": the list of token ids is empty");
    if (ids.size() < n_least)
        throw_if_any({{file, "", std::to_string(ids.size()) + " ids", "expected at least 2: the last is only a target", ""}});
    return ids;
}

}  // namespace vitrine
