// SQLite behind two small classes: a connection and a statement, with errors as exceptions.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/error.h"

struct sqlite3;
struct sqlite3_stmt;

namespace vitrine {

// The file is not what this program wrote: the owner keeps it aside and begins a new one.
class DamagedStore : public Error {
  public:
    explicit DamagedStore(const std::string& message) : Error(ErrorKind::bad_input, message) {}
};

}  // namespace vitrine

namespace vitrine::sql {

// Throws DamagedStore for a corrupt file, DiskFull, Error(io) with path, text and code for the rest.
[[noreturn]] void fail(sqlite3* db, const std::string& path, int code);

class Database {
  public:
    enum class Access { create, read };  // read: the file must be there, and nothing is written to it
    explicit Database(const std::string& path, Access access = Access::create);
    ~Database();
    Database(const Database&) = delete;
    Database& operator=(const Database&) = delete;
    void run(const char* sql);  // statements without results
    int64_t number(const char* sql);
    sqlite3* get() const { return db_; }
    const std::string& path() const { return path_; }

  private:
    sqlite3* db_ = nullptr;
    std::string path_;
};

// One prepared statement: bind from 1, step, read columns from 0, reset.
class Statement {
  public:
    Statement(Database& db, const char* sql);
    ~Statement();
    Statement(const Statement&) = delete;
    Statement& operator=(const Statement&) = delete;

    Statement& bind(int i, int64_t v);
    Statement& bind(int i, double v);
    Statement& bind(int i, std::string_view text);
    Statement& bind_blob(int i, std::string_view bytes);
    Statement& bind_null(int i);
    bool step();  // true: a row is there
    void run();   // step to the end and reset
    void reset();

    int64_t integer(int c) const;
    double real(int c) const;
    std::string text(int c) const;  // of text or a blob
    bool is_null(int c) const;

  private:
    void check(int code);
    Database& db_;
    sqlite3_stmt* s_ = nullptr;
};

// Commits at commit(); rolls back when left before.
class Transaction {
  public:
    explicit Transaction(Database& db) : db_(db) { db_.run("BEGIN IMMEDIATE"); }
    ~Transaction();
    void commit() {
        db_.run("COMMIT");
        is_done_ = true;
    }

  private:
    Database& db_;
    bool is_done_ = false;
};

}  // namespace vitrine::sql
