// Conversations on disk: one SQLite file, with the records of every token.
//
// WAL with synchronous=FULL: a committed change survives kill -9 and loss of power; the cost is one fsync per commit,
// at most ten a second, on a thread that nobody waits for (app/archive.h). A branch stores the tokens after what it
// shares with its parent, so a conversation of n turns costs its tokens once. Not thread-safe: one owner.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "app/conversation.h"
#include "engine/base/sqlite.h"
#include "engine/telemetry/trace.h"

namespace vitrine {

struct StoredToken {
    uint64_t branch = 0;
    TokenInfo token;                            // token.ref.position says where
    std::shared_ptr<const TokenRecord> record;  // null: not kept
};

struct StoredBranch {
    uint64_t branch = 0, parent = 0;
    int64_t n_shared = 0;
};

struct StoredTurn {
    ConversationTree::Node node;  // without turn.tokens
    bool is_selected = true;
};

// What changed since the last one. Rows are inserted or replaced by their keys.
struct SaveJob {
    int64_t conversation = 0;
    std::string title, system, model;
    std::vector<StoredBranch> branches;  // parents first
    std::vector<StoredTurn> turns;
    std::vector<StoredToken> tokens;
    size_t record_bytes() const;
};

struct LoadedConversation {
    ConversationTree tree;
    std::string model;
    std::vector<StoredToken> records;  // only those that have one
    int64_t n_tokens_without_record = 0;
};

class Store {
  public:
    static constexpr int kVersion = 1;
    // At most this many bytes of records are kept for one conversation; later tokens are kept without.
    static constexpr size_t kMaxRecordBytes = size_t{256} << 20;

    // Opens or creates. Error(io): can't be opened or written. Error(bad_input): made by a newer program (found and
    // supported version are named). DamagedStore: not a database, or a check of it failed.
    explicit Store(const std::string& path);
    ~Store();

    // All jobs in one transaction, on disk when it returns. Returns how many records were left out for kMaxRecordBytes.
    int64_t save(const std::vector<SaveJob>& jobs);
    // Newest first; `search` (may be empty) is looked for in titles, contents and reasoning, ASCII case ignored.
    std::vector<ConversationSummary> list(const std::string& search, int limit = 500);
    LoadedConversation load(int64_t conversation);  // Error(bad_input) when there is none
    void rename(int64_t conversation, const std::string& title);
    void remove(int64_t conversation);

    // Moves the file with its -wal and -shm to path.bad (.bad2, ...), and returns that name.
    static std::string keep_aside(const std::string& path);

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace vitrine
