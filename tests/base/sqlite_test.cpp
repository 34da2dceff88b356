// What SQLite says of a disk without room becomes DiskFull, whichever of its codes says it.
#include "engine/base/sqlite.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <cerrno>

#include "engine/base/disk_full.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {

int g_number = 0;
ssize_t refuse(int, const void*, size_t, off_t) {
    errno = g_number;
    return -1;
}

// Writes of SQLite's files fail while this lives.
class NoWrites {
  public:
    explicit NoWrites(int number) {
        g_number = number;
        for (const char* call : {"pwrite", "pwrite64"})
            vfs_->xSetSystemCall(vfs_, call, reinterpret_cast<sqlite3_syscall_ptr>(refuse));
    }
    ~NoWrites() { vfs_->xSetSystemCall(vfs_, nullptr, nullptr); }

  private:
    sqlite3_vfs* vfs_ = sqlite3_vfs_find(nullptr);
};

TEST(Sqlite, a_disk_without_room_is_told_from_a_broken_one) {
    const test::TempFolder folder;
    sql::Database db(folder.file("db"));
    db.run("PRAGMA journal_mode=WAL");
    db.run("CREATE TABLE t(x)");
    for (const int number : {ENOSPC, EDQUOT}) {
        const NoWrites full(number);
        EXPECT_THROW(db.run("INSERT INTO t VALUES(1)"), DiskFull) << number;
    }
    {
        const NoWrites broken(EIO);
        try {
            db.run("INSERT INTO t VALUES(1)");
            FAIL() << "expected an error";
        } catch (const DiskFull&) {
            FAIL() << "waiting mends nothing";
        } catch (const Error& e) {
            EXPECT_EQ(e.kind(), ErrorKind::io);
        }
    }
    db.run("INSERT INTO t VALUES(2)");
    EXPECT_EQ(db.number("SELECT sum(x) FROM t"), 2);
    const NoWrites full(EDQUOT);  // of a file beside the database too
    EXPECT_THROW(
        {
            sql::Database other(folder.file("other"));
            other.run("PRAGMA journal_mode=WAL");
            other.run("CREATE TABLE t(x)");
        },
        DiskFull);
}

}  // namespace
}  // namespace vitrine
