// The I/O thread that owns the store: the engine hands changes over and never waits for a disk.
//
// The queue is bounded in bytes and in jobs. When it is full the records of tokens are left out first, then whole jobs;
// both are counted and told. A failed write keeps its jobs and tries again; a damaged file is kept aside and a new one
// begun.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "app/store.h"
#include "engine/telemetry/command.h"

namespace vitrine {

class Archive {
  public:
    static constexpr size_t kMaxQueuedRecordBytes = size_t{64} << 20;
    static constexpr size_t kMaxQueuedJobs = 4096;

    // `report` is called from the I/O thread. `path` empty: nothing is saved and nobody is told (tests, one-off chats).
    Archive(std::string path, std::function<void(Update)> report);
    ~Archive();  // writes what is queued, then joins
    Archive(const Archive&) = delete;
    Archive& operator=(const Archive&) = delete;

    // Any thread; never blocks on the disk.
    void save(SaveJob job);
    void list(std::string search);  // answers with ConversationsListed
    void rename(int64_t conversation, std::string title, std::string search_after);
    void remove(int64_t conversation, std::string search_after);

    // Waits for the I/O thread and what was queued before. Error as Store's; Error(io) when there is no store.
    LoadedConversation load(int64_t conversation);
    void flush();

    // Grows when a new file was begun: what is in memory must then be saved as a whole.
    int64_t n_files() const { return n_files_.load(); }
    int64_t n_records_left_out() const { return n_left_out_.load(); }

  private:
    struct Task {
        SaveJob job;
        std::function<void(Store*)> call;  // instead of a job; gets null when there is no store
        size_t bytes = 0;
    };
    void push(std::function<void(Store*)> call);
    void run(std::stop_token stop);
    void open();
    bool save_batch(std::deque<Task>& batch, bool is_last_try);
    void call(const std::function<void(Store*)>& f);
    void begin_new_file(const std::string& why);
    void notice(Notice::Level level, const std::string& text) { report_(Notice{level, text}); }
    void list_now(Store* store, const std::string& search);

    const std::string path_;
    const std::function<void(Update)> report_;
    std::unique_ptr<Store> store_;  // the I/O thread's
    bool has_failed_ = false;       // the last write failed and was told
    std::mutex mutex_;
    std::condition_variable_any wake_;
    std::deque<Task> queue_;
    size_t queued_bytes_ = 0, queued_jobs_ = 0;
    std::atomic<int64_t> n_files_{0}, n_left_out_{0};
    bool has_told_left_out_ = false;
    std::jthread thread_;  // last: it uses the rest
};

}  // namespace vitrine
