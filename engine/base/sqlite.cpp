// SQLite behind two small classes.
#include "engine/base/sqlite.h"

#include <sqlite3.h>

#include <cerrno>

#include "engine/base/disk_full.h"

namespace vitrine::sql {

namespace {

bool is_no_room(int number) { return number == ENOSPC || number == EDQUOT; }

// A quota, or a file beside the database that could not grow, is no SQLITE_FULL: the system's own number tells. SQLite keeps it
// for the connection after some failures, for the file after others.
bool is_full(sqlite3* db, int code) {
    const int kind = code & 0xFF;
    if (kind == SQLITE_FULL || code == SQLITE_IOERR_SHMSIZE) return true;
    if (!db || (kind != SQLITE_IOERR && kind != SQLITE_CANTOPEN)) return false;
    int number = sqlite3_system_errno(db);
    if (is_no_room(number)) return true;
    if (code != SQLITE_IOERR_WRITE && code != SQLITE_IOERR_FSYNC && code != SQLITE_IOERR_TRUNCATE) return false;
    number = 0;
    sqlite3_file_control(db, "main", SQLITE_FCNTL_LAST_ERRNO, &number);
    if (is_no_room(number)) return true;
    sqlite3_file* journal = nullptr;  // or the WAL
    sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &journal);
    number = 0;
    if (journal && journal->pMethods) journal->pMethods->xFileControl(journal, SQLITE_FCNTL_LAST_ERRNO, &number);
    return is_no_room(number);
}

}  // namespace

void fail(sqlite3* db, const std::string& path, int code) {
    const std::string what = escaped(path, 512) + ": " + (db ? sqlite3_errmsg(db) : sqlite3_errstr(code));
    if (is_full(db, code)) throw DiskFull(what);
    switch (code & 0xFF) {
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            throw DamagedStore(what);
        case SQLITE_NOMEM:
            throw Error(ErrorKind::out_of_memory, what);
        default:
            throw Error(ErrorKind::io, what + " (SQLite code " + std::to_string(code) + ")");
    }
}

Database::Database(const std::string& path, Access access) : path_(path) {
    const int flags = access == Access::read ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    const int code = sqlite3_open_v2(path.c_str(), &db_, flags | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX, nullptr);
    if (code != SQLITE_OK) {
        sqlite3* failed = db_;
        db_ = nullptr;
        struct Close {
            sqlite3* db;
            ~Close() { sqlite3_close_v2(db); }
        } close{failed};
        fail(failed, path, code);
    }
    sqlite3_extended_result_codes(db_, 1);
    sqlite3_busy_timeout(db_, 2000);                    // a second window may be writing
    sqlite3_limit(db_, SQLITE_LIMIT_LENGTH, 64 << 20);  // one value, so one record: 64 MiB
}

Database::~Database() {
    sqlite3_close_v2(db_);
}

void Database::run(const char* sql) {
    const int code = sqlite3_exec(db_, sql, nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) fail(db_, path_, code);
}

int64_t Database::number(const char* sql) {
    Statement s(*this, sql);
    return s.step() ? s.integer(0) : 0;
}

Statement::Statement(Database& db, const char* sql) : db_(db) {
    check(sqlite3_prepare_v2(db.get(), sql, -1, &s_, nullptr));
}

Statement::~Statement() {
    sqlite3_finalize(s_);
}

void Statement::check(int code) {
    if (code != SQLITE_OK) fail(db_.get(), db_.path(), code);
}

Statement& Statement::bind(int i, int64_t v) {
    return check(sqlite3_bind_int64(s_, i, v)), *this;
}
Statement& Statement::bind(int i, double v) {
    return check(sqlite3_bind_double(s_, i, v)), *this;
}
Statement& Statement::bind(int i, std::string_view v) {
    // An empty view may have no address, which SQLite would take for NULL.
    return check(sqlite3_bind_text64(s_, i, v.empty() ? "" : v.data(), v.size(), SQLITE_TRANSIENT, SQLITE_UTF8)), *this;
}
Statement& Statement::bind_blob(int i, std::string_view v) {
    return check(sqlite3_bind_blob64(s_, i, v.empty() ? "" : v.data(), v.size(), SQLITE_TRANSIENT)), *this;
}
Statement& Statement::bind_null(int i) {
    return check(sqlite3_bind_null(s_, i)), *this;
}

bool Statement::step() {
    const int code = sqlite3_step(s_);
    if (code == SQLITE_ROW) return true;
    if (code != SQLITE_DONE) fail(db_.get(), db_.path(), code);
    return false;
}

void Statement::reset() {
    sqlite3_reset(s_);  // its code repeats that of the last step, which was checked
    check(sqlite3_clear_bindings(s_));
}

void Statement::run() {
    while (step()) {
    }
    reset();
}

int64_t Statement::integer(int c) const {
    return sqlite3_column_int64(s_, c);
}
double Statement::real(int c) const {
    return sqlite3_column_double(s_, c);
}
bool Statement::is_null(int c) const {
    return sqlite3_column_type(s_, c) == SQLITE_NULL;
}

std::string Statement::text(int c) const {
    const void* p = sqlite3_column_blob(s_, c);
    const int n = sqlite3_column_bytes(s_, c);
    return p ? std::string(static_cast<const char*>(p), n) : std::string();
}

Transaction::~Transaction() {
    if (!is_done_) sqlite3_exec(db_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
}

}  // namespace vitrine::sql
