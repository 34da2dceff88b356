// The I/O thread that owns the store.
#include "app/archive.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <future>
#include <utility>

#include "app/paths.h"

namespace vitrine {
namespace {
constexpr auto kRetryAfter = std::chrono::seconds(1);
constexpr size_t kJobsPerCommit = 256;
}  // namespace

Archive::Archive(std::string path, std::function<void(Update)> report)
    : path_(std::move(path)), report_(std::move(report)), thread_([this](std::stop_token stop) { run(stop); }) {}

Archive::~Archive() {
    thread_.request_stop();
    wake_.notify_all();
}

void Archive::save(SaveJob job) {
    if (path_.empty()) return;
    bool must_tell = false;
    {
        const std::lock_guard lock(mutex_);
        size_t bytes = job.record_bytes();
        if (queued_jobs_ >= kMaxQueuedJobs) {
            n_left_out_ += static_cast<int64_t>(job.tokens.size());
            must_tell = !std::exchange(has_told_left_out_, true);
        } else {
            if (queued_bytes_ + bytes > kMaxQueuedRecordBytes) {
                for (StoredToken& t : job.tokens) n_left_out_ += t.record != nullptr, t.record.reset();
                bytes = 0;
                must_tell = !std::exchange(has_told_left_out_, true);
            }
            queued_bytes_ += bytes;
            ++queued_jobs_;
            queue_.push_back({std::move(job), nullptr, bytes});
        }
    }
    wake_.notify_all();
    if (must_tell)
        notice(Notice::Level::warning,
               "The disk is slower than the model: some tokens are saved without their records.");
}

void Archive::push(std::function<void(Store*)> f) {
    {
        const std::lock_guard lock(mutex_);
        queue_.push_back({{}, std::move(f), 0});
    }
    wake_.notify_all();
}

void Archive::list_now(Store* store, const std::string& search) {
    report_(ConversationsListed{store ? store->list(search) : std::vector<ConversationSummary>{}});
}

void Archive::list(std::string search) {
    push([this, search = std::move(search)](Store* s) { list_now(s, search); });
}

void Archive::rename(int64_t conversation, std::string title, std::string search_after) {
    push([=, this](Store* s) {
        if (s) s->rename(conversation, title);
        list_now(s, search_after);
    });
}

void Archive::remove(int64_t conversation, std::string search_after) {
    push([=, this](Store* s) {
        if (s) s->remove(conversation);
        list_now(s, search_after);
    });
}

LoadedConversation Archive::load(int64_t conversation) {
    std::promise<LoadedConversation> result;
    push([&](Store* s) {
        try {
            if (!s) throw Error(ErrorKind::io, "conversations are not being saved, so none can be opened");
            result.set_value(s->load(conversation));
        } catch (...) {
            result.set_exception(std::current_exception());
        }
    });
    return result.get_future().get();
}

void Archive::flush() {
    std::promise<void> done;
    push([&](Store*) { done.set_value(); });
    done.get_future().get();
}

void Archive::open() {
    if (path_.empty()) return;
    try {
        make_folder(std::filesystem::path(path_).parent_path().string());
        try {
            store_ = std::make_unique<Store>(path_);
        } catch (const DamagedStore& e) {
            begin_new_file(e.what());
        }
    } catch (const Error& e) {
        store_.reset();
        notice(Notice::Level::error, std::string("Conversations are not saved: ") + e.what());
    }
}

void Archive::begin_new_file(const std::string& why) {
    store_.reset();
    const std::string bad = Store::keep_aside(path_);
    store_ = std::make_unique<Store>(path_);
    ++n_files_;
    notice(Notice::Level::warning,
           "The saved conversations could not be read and a new file was begun. The old one is kept as " + bad +
               ". Reason: " + why);
}

bool Archive::save_batch(std::deque<Task>& batch, bool is_last_try) {
    if (!store_) return true;  // told when it could not be opened
    std::vector<SaveJob> jobs;
    for (Task& t : batch) jobs.push_back(t.job);
    try {
        const int64_t n = store_->save(jobs);
        if (std::exchange(has_failed_, false)) notice(Notice::Level::info, "Conversations are saved again.");
        if (n > 0 && (n_left_out_ += n) == n)
            notice(Notice::Level::info, "This conversation's records have reached " +
                                            std::to_string(Store::kMaxRecordBytes >> 20) +
                                            " MiB on disk: later tokens are saved without theirs.");
        return true;
    } catch (const DamagedStore& e) {
        try {
            begin_new_file(e.what());
            return false;
        } catch (const Error& again) {
            store_.reset();
            notice(Notice::Level::error, std::string("Conversations are not saved: ") + again.what());
            return true;
        }
    } catch (const Error& e) {
        if (is_last_try || !std::exchange(has_failed_, true))
            notice(Notice::Level::error,
                   std::string("Saving failed") + (is_last_try ? "" : " and is tried again") + ": " + e.what());
        return false;
    }
}

void Archive::call(const std::function<void(Store*)>& f) {
    try {
        f(store_.get());
    } catch (const DamagedStore& e) {
        try {
            begin_new_file(e.what());
        } catch (const Error& again) {
            store_.reset();
            notice(Notice::Level::error, std::string("Conversations are not saved: ") + again.what());
        }
    } catch (const Error& e) {
        notice(Notice::Level::error, e.what());
    }
}

void Archive::run(std::stop_token stop) {
    open();
    for (;;) {
        std::deque<Task> batch;
        {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, stop, [this] { return !queue_.empty(); });
            if (queue_.empty()) return;  // stopped, and all is written
            // Either one call, or as many jobs as lie in front of the next call. Nobody waits for a disk that refuses
            // writes.
            if (has_failed_) {
                const auto c =
                    std::find_if(queue_.begin(), queue_.end(), [](const Task& t) { return t.call != nullptr; });
                if (c != queue_.end()) std::rotate(queue_.begin(), c, c + 1);
            }
            while (!queue_.empty() && batch.size() < kJobsPerCommit &&
                   (batch.empty() || (!batch[0].call && !queue_[0].call))) {
                batch.push_back(std::move(queue_.front()));
                queue_.pop_front();
            }
        }
        if (batch[0].call) {
            call(batch[0].call);
            continue;
        }
        const bool is_last_try = stop.stop_requested();
        const bool is_saved = save_batch(batch, is_last_try);
        std::unique_lock lock(mutex_);
        if (is_saved || is_last_try) {
            for (const Task& t : batch) queued_bytes_ -= t.bytes;
            queued_jobs_ -= batch.size();
        } else {
            for (auto t = batch.rbegin(); t != batch.rend(); ++t) queue_.push_front(std::move(*t));
            if (has_failed_) wake_.wait_for(lock, stop, kRetryAfter, [] { return false; });
        }
    }
}

}  // namespace vitrine
