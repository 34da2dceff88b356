// Batches for training: a batch is a function of (seed, step) alone, so there is no loader state to save.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/base/config/training_config.h"

namespace vitrine {

class Json;
struct Issue;

// Samples packed one after the other; nothing of a sample is visible to another (v4-spec 10.1).
struct TrainBatch {
    struct Sample {
        int64_t begin, end;            // rows of the batch
        int domain;                    // index into DataSource::domains
    };
    std::vector<int32_t> tokens;       // [T]
    std::vector<int32_t> targets;      // [T] the next token, or -1: not counted
    std::vector<Sample> samples;       // tile [0, T)
    // Of the token after the next, where both lie in the sample and are counted: [T], else -1.
    std::vector<int32_t> second_targets() const;
    // The next token of each position; of a sample's last, itself (a value is needed, nothing is learnt from it).
    std::vector<int32_t> next_tokens() const;
};

// Sixteen hexadecimal digits of FNV-1a, 64 bits.
std::string fingerprint_of(std::string_view bytes);

// Immutable; any thread.
class DataSource {
  public:
    virtual ~DataSource() = default;
    virtual TrainBatch batch(int64_t step) const = 0;
    virtual TrainBatch held_out(int64_t index) const = 0;  // never a batch of any step
    virtual int vocab_size() const = 0;                    // ids are below it
    virtual const std::vector<std::string>& domains() const = 0;
    // Of the files that batches depend on besides the configuration (a tokenizer, a list of tokens); "" without any. A run refuses
    // to go on with others.
    virtual std::string fingerprint() const { return ""; }
    virtual std::string text(std::span<const int32_t> ids) const;  // for people: numbers, or the task's own signs
};

// One of the two functions is set: `make_for` where a task tells of the model itself.
struct TaskInfo {
    const char* name;
    const char* what;
    std::unique_ptr<DataSource> (*make)(const TrainConfig& c, int model_vocab_size) = nullptr;
    std::unique_ptr<DataSource> (*make_for)(const TrainConfig& c, const ModelConfig& model) = nullptr;
};
const std::vector<TaskInfo>& tasks();  // what `data` may name
// A task that lives outside the engine. Not while others read the table; a name that is there already changes nothing.
void add_task(const TaskInfo& task);

// Error(bad_input) when the task is unknown, its file is wrong, or it needs more ids than the model has.
std::unique_ptr<DataSource> make_data(const TrainConfig& c, const ModelConfig& model);
std::unique_ptr<DataSource> make_data(const TrainConfig& c, int model_vocab_size);  // of a model with nothing but that size

// One function per task, for the table.
std::unique_ptr<DataSource> make_mix3(const TrainConfig& c, int model_vocab_size);
std::unique_ptr<DataSource> make_token_file(const TrainConfig& c, int model_vocab_size);
std::unique_ptr<DataSource> make_random_tokens(const TrainConfig& c, int model_vocab_size);

// Ids of a JSON list, each in [0, vocab_size); what is wrong is added to `issues` under `key` and left out.
std::vector<int32_t> token_ids(const Json& list, const std::string& key, int vocab_size, std::vector<Issue>& issues);
// A list of at least `n_least` token ids in a JSON file, each in [0, vocab_size).
std::vector<int32_t> read_token_file(const std::string& path, int vocab_size, size_t n_least = 2);

}  // namespace vitrine
