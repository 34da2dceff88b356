// Conversations on disk: schema, saving, listing. Loading is in store_load.cpp.
#include "app/store.h"

#include <ctime>
#include <filesystem>

#include "engine/base/sqlite.h"
#include "app/store_impl.h"
#include "engine/base/json.h"

namespace vitrine {
namespace fs = std::filesystem;
namespace {

constexpr int kApplicationId = 0x56697472;  // "Vitr": a database of somebody else is not taken for ours
constexpr uint64_t kFullCheckBytes = 64 << 20;

constexpr const char* kSchema = R"(
CREATE TABLE conversations(
  id INTEGER PRIMARY KEY, title TEXT NOT NULL, system TEXT NOT NULL, model TEXT NOT NULL,
  created INTEGER NOT NULL, updated INTEGER NOT NULL, record_bytes INTEGER NOT NULL DEFAULT 0);
CREATE INDEX by_update ON conversations(updated);
CREATE TABLE turns(
  conversation INTEGER NOT NULL REFERENCES conversations(id) ON DELETE CASCADE, id INTEGER NOT NULL,
  parent INTEGER NOT NULL, is_selected INTEGER NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL, reasoning TEXT NOT NULL,
  mode INTEGER NOT NULL, sampling TEXT NOT NULL, stats TEXT NOT NULL, is_complete INTEGER NOT NULL,
  branch INTEGER NOT NULL, n_prompt INTEGER NOT NULL, n_total INTEGER NOT NULL, n_reused INTEGER NOT NULL,
  reuse_reason TEXT NOT NULL, prompt_text TEXT NOT NULL, segments TEXT NOT NULL,
  PRIMARY KEY(conversation, id)) WITHOUT ROWID;
CREATE TABLE branches(
  conversation INTEGER NOT NULL REFERENCES conversations(id) ON DELETE CASCADE, branch INTEGER NOT NULL,
  parent INTEGER NOT NULL, n_shared INTEGER NOT NULL, PRIMARY KEY(conversation, branch)) WITHOUT ROWID;
CREATE TABLE tokens(
  conversation INTEGER NOT NULL REFERENCES conversations(id) ON DELETE CASCADE, branch INTEGER NOT NULL,
  position INTEGER NOT NULL, id INTEGER NOT NULL, phase INTEGER NOT NULL, is_special INTEGER NOT NULL,
  probability REAL NOT NULL, entropy REAL NOT NULL, text BLOB NOT NULL, record BLOB,
  PRIMARY KEY(conversation, branch, position));
)";

std::string like_pattern(const std::string& text) {
    std::string p = "%";
    for (char c : text) {
        if (c == '%' || c == '_' || c == '\\') p += '\\';
        p += c;
    }
    return p + "%";
}

std::string local_time(int64_t seconds) {
    const std::time_t t = seconds;
    std::tm tm{};
    char b[32];
    if (!localtime_r(&t, &tm) || std::strftime(b, sizeof b, "%Y-%m-%d %H:%M", &tm) == 0) return "";
    return b;
}

}  // namespace

size_t SaveJob::record_bytes() const {
    size_t n = 0;
    for (const StoredToken& t : tokens) n += t.record ? t.record->bytes() : 0;
    return n;
}

Store::Store(const std::string& path) : impl_(std::make_unique<Impl>(path)) {
    sql::Database& db = impl_->db;
    // The first read: it fails here when the file is no database.
    const int64_t version = db.number("PRAGMA user_version");
    const int64_t application = db.number("PRAGMA application_id");
    const bool is_new = version == 0 && db.number("SELECT count(*) FROM sqlite_master") == 0;
    if (!is_new && application != kApplicationId)
        throw DamagedStore(escaped(path, 512) + ": a database, but not one of Vitrine's");
    if (version > kVersion)
        throw Error(ErrorKind::bad_input, escaped(path, 512) + ": format version " + std::to_string(version) +
                                              " found, up to " + std::to_string(kVersion) +
                                              " supported: it was written by a newer Vitrine");
    db.run("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON");
    if (is_new) {
        sql::Transaction t(db);
        db.run(kSchema);
        db.run(("PRAGMA application_id=" + std::to_string(kApplicationId)).c_str());
        db.run(("PRAGMA user_version=" + std::to_string(kVersion)).c_str());
        t.commit();
    } else {
        std::error_code failed;
        // The whole check reads the whole file; above the limit a damaged page is found when it is read.
        if (fs::file_size(path, failed) <= kFullCheckBytes && !failed) {
            sql::Statement s(db, "PRAGMA quick_check(1)");
            if (s.step() && s.text(0) != "ok") throw DamagedStore(escaped(path, 512) + ": " + escaped(s.text(0), 200));
        }
    }
    // A file that can be read but not written is no place to save to: say so now, not at the first answer.
    sql::Transaction probe(db);
    db.run(("PRAGMA user_version=" + std::to_string(kVersion)).c_str());
    probe.commit();
}

Store::~Store() = default;

namespace {

void save_turn(sql::Statement& s, int64_t conversation, const StoredTurn& stored) {
    const Turn& t = stored.node.turn;
    const TurnContext& c = stored.node.context;
    s.bind(1, conversation).bind(2, t.id).bind(3, t.parent).bind(4, int64_t{stored.is_selected});
    s.bind(5, t.role).bind(6, t.content).bind(7, t.reasoning).bind(8, static_cast<int64_t>(t.mode));
    s.bind(9, sampling_to_json(t.sampling)).bind(10, stats_to_json(t)).bind(11, int64_t{t.is_complete});
    s.bind(12, static_cast<int64_t>(c.branch)).bind(13, c.n_prompt).bind(14, c.n_total).bind(15, c.n_reused);
    s.bind(16, c.reuse_reason).bind(17, c.prompt_text).bind(18, segments_to_json(c.segments));
    s.run();
}

void save_token(sql::Statement& s, int64_t conversation, const StoredToken& stored, const std::string* record) {
    const TokenInfo& t = stored.token;
    s.bind(1, conversation).bind(2, static_cast<int64_t>(stored.branch)).bind(3, t.ref.position).bind(4, int64_t{t.id});
    s.bind(5, static_cast<int64_t>(t.phase)).bind(6, int64_t{t.is_special}).bind(7, double{t.probability});
    s.bind(8, double{t.entropy}).bind_blob(9, t.text);
    record ? s.bind_blob(10, *record) : s.bind_null(10);
    s.run();
}

}  // namespace

int64_t Store::save(const std::vector<SaveJob>& jobs) {
    sql::Database& db = impl_->db;
    sql::Transaction transaction(db);
    sql::Statement conversation(
        db,
        "INSERT INTO conversations(id, title, system, model, created, updated) VALUES(?,?,?,?,?5,?5) "
        "ON CONFLICT(id) DO UPDATE SET title=excluded.title, system=excluded.system, "
        "model=excluded.model, updated=excluded.updated");
    sql::Statement branch(db, "INSERT OR REPLACE INTO branches VALUES(?,?,?,?)");
    sql::Statement turn(db, "INSERT OR REPLACE INTO turns VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
    sql::Statement deselect(db, "UPDATE turns SET is_selected=0 WHERE conversation=? AND parent=?");
    sql::Statement token(db,
                         "INSERT INTO tokens VALUES(?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET id=excluded.id, "
                         "phase=excluded.phase, is_special=excluded.is_special, probability=excluded.probability, "
                         "entropy=excluded.entropy, text=excluded.text, record=coalesce(excluded.record, record)");
    sql::Statement used(db, "SELECT record_bytes FROM conversations WHERE id=?");
    sql::Statement use(db, "UPDATE conversations SET record_bytes=?2 WHERE id=?1");
    int64_t n_left_out = 0;
    for (const SaveJob& job : jobs) {
        conversation.bind(1, job.conversation).bind(2, job.title).bind(3, job.system).bind(4, job.model);
        conversation.bind(5, int64_t{std::time(nullptr)}).run();
        for (const StoredBranch& b : job.branches) {
            branch.bind(1, job.conversation).bind(2, static_cast<int64_t>(b.branch));
            branch.bind(3, static_cast<int64_t>(b.parent)).bind(4, b.n_shared).run();
        }
        for (const StoredTurn& t : job.turns) {
            if (t.is_selected) deselect.bind(1, job.conversation).bind(2, t.node.turn.parent).run();
            save_turn(turn, job.conversation, t);
        }
        used.bind(1, job.conversation);
        size_t bytes = used.step() ? static_cast<size_t>(used.integer(0)) : 0;
        used.reset();
        for (const StoredToken& t : job.tokens) {
            const std::string blob = t.record && bytes < kMaxRecordBytes ? t.record->serialize() : std::string();
            n_left_out += t.record && blob.empty();
            bytes += blob.size();
            save_token(token, job.conversation, t, blob.empty() ? nullptr : &blob);
        }
        use.bind(1, job.conversation).bind(2, static_cast<int64_t>(bytes)).run();
    }
    transaction.commit();
    return n_left_out;
}

std::vector<ConversationSummary> Store::list(const std::string& search, int limit) {
    sql::Statement s(impl_->db, R"(
        SELECT c.id, c.title, c.updated, (SELECT count(*) FROM turns t WHERE t.conversation=c.id),
          coalesce((SELECT t.content FROM turns t WHERE t.conversation=c.id AND
                    (?1='' OR t.content LIKE ?2 ESCAPE '\' OR t.reasoning LIKE ?2 ESCAPE '\')
                    ORDER BY t.id DESC LIMIT 1), '')
        FROM conversations c
        WHERE ?1='' OR c.title LIKE ?2 ESCAPE '\' OR EXISTS (SELECT 1 FROM turns t WHERE t.conversation=c.id AND
          (t.content LIKE ?2 ESCAPE '\' OR t.reasoning LIKE ?2 ESCAPE '\'))
        ORDER BY c.updated DESC, c.id DESC LIMIT ?3)");
    s.bind(1, search).bind(2, like_pattern(search)).bind(3, int64_t{limit});
    std::vector<ConversationSummary> out;
    while (s.step()) {
        ConversationSummary c{s.integer(0), s.text(1), local_time(s.integer(2)), s.text(4),
                              static_cast<int>(s.integer(3))};
        c.snippet = escaped(c.snippet, 120);
        out.push_back(std::move(c));
    }
    return out;
}

void Store::rename(int64_t conversation, const std::string& title) {
    sql::Statement s(impl_->db, "UPDATE conversations SET title=?2 WHERE id=?1");
    s.bind(1, conversation).bind(2, title).run();
}

void Store::remove(int64_t conversation) {
    sql::Statement s(impl_->db, "DELETE FROM conversations WHERE id=?");  // the rest cascades
    s.bind(1, conversation).run();
}

std::string Store::keep_aside(const std::string& path) {
    std::error_code failed;
    std::string to = path + ".bad";
    for (int i = 2; fs::exists(to, failed); ++i) to = path + ".bad" + std::to_string(i);
    fs::rename(path, to, failed);
    if (failed) throw Error(ErrorKind::io, escaped(path, 512) + ": can't be kept aside: " + failed.message());
    // Left behind, they would be taken for parts of the new file.
    for (const char* tail : {"-wal", "-shm"}) {
        fs::rename(path + tail, to + tail, failed);
        if (failed && fs::exists(path + tail))
            throw Error(ErrorKind::io, escaped(path, 512) + tail + ": can't be kept aside: " + failed.message());
    }
    return to;
}

}  // namespace vitrine
