// The engine's thread as the window uses it: commands in, reports out, errors as notices, conversations saved and
// reopened.
#include "app/worker.h"

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <thread>

#include "app/paths.h"
#include "engine/base/error.h"
#include "tests/support/greedy.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {

using test::greedy;
const std::string kSeedling = std::string(VITRINE_SOURCE_DIR) + "/assets/models/seedling";

// A worker and what a window would know from its reports.
class Window {
  public:
    explicit Window(const std::string& store = "", bool measures_watching = false, std::function<void()> on_token = {})
        : worker_({.engine = {.n_threads = 1}, .store_path = store, .measures_watching = measures_watching,
                   .on_token = std::move(on_token)}, [this] {
              const std::lock_guard lock(mutex_);
              is_awake_ = true;
              wake_.notify_all();
          }) {}

    // Applies reports until `done` says so (checked after each); fails the test when nothing comes for a minute.
    void until(const std::function<bool(const Update&)>& done) {
        for (bool is_done = false; !is_done;) {
            {
                std::unique_lock lock(mutex_);
                if (!wake_.wait_for(lock, std::chrono::seconds(60), [this] { return is_awake_; })) {
                    ADD_FAILURE() << "no report came";
                    return;
                }
                is_awake_ = false;
            }
            for (Update& u : worker_.take_reports()) {
                is_done = is_done || done(u);
                apply(std::move(u));
            }
        }
    }
    void run(Command c) {
        ASSERT_TRUE(worker_.send(std::move(c)));
        until([](const Update& u) { return std::holds_alternative<Idle>(u); });
    }
    void ask(const std::string& text, Mode mode, int n = 200) { run(SendMessage{text, mode, greedy(n)}); }
    const Turn& last() const { return conversation->path.back(); }
    Worker& worker() { return worker_; }

    std::shared_ptr<const ModelInfo> model;
    std::shared_ptr<const Conversation> conversation;
    std::vector<ConversationSummary> list;
    Timeline timeline;
    std::string content, reasoning, errors, notices;
    std::vector<TurnStats> finished;
    CacheReport cache;
    std::shared_ptr<const Comparison> comparison;
    bool knows_curriculum = false;
    OpTimesChanged times;
    double watching_cost = -1;
    int n_timelines = 0;
    std::vector<TokenRef> ready;

  private:
    void apply(Update u) {
        if (auto* x = std::get_if<ModelLoaded>(&u)) model = x->info, knows_curriculum = x->knows_curriculum;
        if (auto* x = std::get_if<ComparisonChanged>(&u)) comparison = x->comparison;
        if (auto* x = std::get_if<ConversationChanged>(&u)) conversation = x->conversation;
        if (auto* x = std::get_if<ConversationsListed>(&u)) list = x->list;
        if (auto* x = std::get_if<TimelineStarted>(&u))
            timeline = *x->timeline, content = reasoning = "", ++n_timelines;
        if (auto* x = std::get_if<TokensAppended>(&u)) {
            timeline.tokens.insert(timeline.tokens.end(), x->tokens.begin(), x->tokens.end());
            content += x->content_delta;
            reasoning += x->reasoning_delta;
        }
        if (auto* x = std::get_if<Finished>(&u)) finished.push_back(x->stats);
        if (auto* x = std::get_if<CacheChanged>(&u)) cache = x->report;
        if (auto* x = std::get_if<OpTimesChanged>(&u)) times = *x;
        if (auto* x = std::get_if<Meters>(&u)) watching_cost = x->watching_cost_percent;
        if (auto* x = std::get_if<RecordReady>(&u)) ready.push_back(x->token);
        if (auto* x = std::get_if<Notice>(&u)) (x->level == Notice::Level::error ? errors : notices) += x->text + "\n";
    }
    std::mutex mutex_;
    std::condition_variable wake_;
    bool is_awake_ = false;
    Worker worker_;  // last: its thread wakes this
};

bool is_finished(const Update& u) {
    return std::holds_alternative<Finished>(u);
}

TEST(Worker, SendsEverythingAWindowShows) {
    Window w;
    w.run(LoadModel{kSeedling});
    ASSERT_TRUE(w.model) << w.errors;
    EXPECT_EQ(w.model->config.n_layers(), 8);
    w.ask("72*59=?", Mode::high);
    EXPECT_EQ(w.errors, "");
    EXPECT_EQ(w.last().content, "4248");
    EXPECT_EQ(w.content, "4248");
    EXPECT_EQ(w.reasoning, w.last().reasoning);
    EXPECT_EQ(w.timeline.n_prompt, 11);
    EXPECT_EQ(w.timeline.tokens.size(), 11u + w.last().tokens.size());
    EXPECT_EQ(w.timeline.segments.front().what, "BOS");
    EXPECT_FALSE(w.timeline.prompt_text.empty());
    ASSERT_EQ(w.finished.size(), 1u);
    EXPECT_EQ(w.finished[0].stop_reason, "end of text");
    EXPECT_GT(w.finished[0].tokens_per_s, 0);
    EXPECT_EQ(w.cache.n_tokens, static_cast<int64_t>(w.timeline.tokens.size()) - 1);
    EXPECT_TRUE(w.cache.is_consistent());
    ASSERT_FALSE(w.times.ms_by_kind_and_layer.empty());
    EXPECT_EQ(w.times.ms_by_kind_and_layer[0].size(), 9u);
    EXPECT_TRUE(w.worker().trace()->get(w.timeline.branch, 3)->has(kRouterScores, 3));
}

TEST(Worker, ComparesTheModesBesideTheConversation) {
    Window w;
    w.run(LoadModel{kSeedling});
    w.ask("74*82=?", Mode::non_think);
    const auto n_turns = w.conversation->path.size();
    const CacheReport held = w.cache;
    w.run(CompareModes{w.conversation->path.front().id, "", greedy()});
    EXPECT_EQ(w.errors, "");
    ASSERT_TRUE(w.comparison);
    EXPECT_TRUE(w.comparison->is_finished());
    EXPECT_EQ(w.comparison->question, "74*82=?");
    EXPECT_EQ(w.comparison->n_earlier_turns, 0);
    EXPECT_EQ(w.comparison->at(Mode::non_think).content, "6108");
    w.run(CompareModes{0, "72*59=?", greedy()});
    EXPECT_EQ(w.comparison->question, "72*59=?");
    EXPECT_EQ(w.comparison->n_earlier_turns, 2);
    EXPECT_EQ(w.conversation->path.size(), n_turns);
    EXPECT_EQ(w.cache.allocated(), held.allocated());
    w.run(CompareModes{4711, "", greedy()});
    EXPECT_NE(w.errors.find("turn 4711"), std::string::npos) << w.errors;
}

TEST(Worker, KnowsAModelOfTheCurriculumByItsTokenizer) {
    Window w;
    w.run(LoadModel{kSeedling});
    EXPECT_FALSE(w.knows_curriculum);
    const test::TempFolder folder;
    EXPECT_FALSE(has_tokenizer_of_curriculum(folder.path()));
    std::filesystem::copy(std::string(VITRINE_SOURCE_DIR) + "/assets/curriculum/tokenizer.json", folder.path() + "/tokenizer.json");
    EXPECT_TRUE(has_tokenizer_of_curriculum(folder.path()));
    std::ofstream(folder.path() + "/tokenizer.json", std::ios::app) << "\n";
    EXPECT_FALSE(has_tokenizer_of_curriculum(folder.path()));
}

TEST(Worker, ErrorsBecomeNoticesAndTheOldModelStays) {
    const test::TempFolder folder;
    Window w;
    w.ask("hi", Mode::non_think);
    EXPECT_NE(w.errors.find("No model is loaded"), std::string::npos) << w.errors;
    w.run(LoadModel{kSeedling});
    w.errors.clear();
    w.run(LoadModel{folder.file("nowhere")});
    EXPECT_NE(w.errors.find("nowhere"), std::string::npos) << w.errors;
    std::ofstream(folder.file("config.json")) << "{\"hidden_size\": -4}";
    w.errors.clear();
    w.run(LoadModel{folder.path()});
    EXPECT_NE(w.errors.find("hidden_size"), std::string::npos) << w.errors;
    w.errors.clear();
    for (Command c :
         {Command(Regenerate{99, Mode::high, {}}), Command(EditTurn{99, "x", Mode::high, {}}),
          Command(SelectSibling{99, 0}), Command(OpenConversation{99}), Command(MakeHistogram{"no.such.tensor"}),
          Command(RecomputeToken{{1, 2}, 0}), Command(ExportConversation{folder.file("no/such/x.md"), false})}) {
        w.errors.clear();
        w.run(std::move(c));
        EXPECT_NE(w.errors, "");
    }
    w.ask("74*82=?", Mode::non_think);
    EXPECT_EQ(w.last().content, "6108");
}

TEST(Worker, EditRegenerateAndSiblings) {
    Window w;
    w.run(LoadModel{kSeedling});
    w.ask("74*82=?", Mode::non_think);
    const int64_t question = w.conversation->path[0].id, answer = w.conversation->path[1].id;
    w.run(Regenerate{answer, Mode::high, greedy()});
    EXPECT_EQ(w.last().n_siblings, 2);
    EXPECT_EQ(w.last().sibling, 1);
    EXPECT_FALSE(w.last().reasoning.empty());
    const uint64_t second_branch = w.timeline.branch;
    w.run(SelectSibling{answer, 0});
    EXPECT_EQ(w.last().content, "6108");
    EXPECT_TRUE(w.last().reasoning.empty());
    EXPECT_NE(w.timeline.branch, second_branch);  // the timeline is that of the chosen answer again
    EXPECT_EQ(w.timeline.tokens.size(), 16u);
    w.run(EditTurn{question, "72*59=?", Mode::high, greedy()});
    EXPECT_EQ(w.last().content, "4248");
    EXPECT_EQ(w.conversation->path[0].n_siblings, 2);
    w.run(EditTurn{w.last().id, "by hand", Mode::high, greedy()});
    EXPECT_EQ(w.last().content, "by hand");
    EXPECT_EQ(w.last().n_siblings, 2);
    EXPECT_EQ(w.errors, "");
}

TEST(Worker, StopEndsAnAnswerAndTheNextOneIsUnchanged) {
    Window w;
    w.run(LoadModel{kSeedling});
    // The seedling ends its answers soon, so stops come at many phases, sometimes too late: both must leave a good
    // state.
    for (int i = 0; i < 20; ++i) {
        ASSERT_TRUE(w.worker().send(NewConversation{""}));
        ASSERT_TRUE(w.worker().send(SendMessage{"72*59=?", Mode::max, greedy()}));
        if (i % 2) w.until([](const Update& u) { return std::holds_alternative<TimelineStarted>(u); });
        w.worker().cancel();
        w.until([](const Update& u) { return std::holds_alternative<Idle>(u); });
        ASSERT_EQ(w.errors, "");
        w.run(NewConversation{""});
        w.ask("74*82=?", Mode::non_think);
        ASSERT_EQ(w.last().content, "6108");
    }
}

TEST(Worker, QueueIsBounded) {
    Window w;
    int n_accepted = 0;
    for (int i = 0; i < 1000; ++i) n_accepted += w.worker().send(LoadModel{kSeedling});
    EXPECT_GE(n_accepted, static_cast<int>(Worker::kMaxCommands));
    EXPECT_LT(n_accepted, 1000);
}

// Slowly enough that the answers are saved several times while they grow, when the newest record isn't there yet.
TEST(Worker, ReopenedConversationsHaveTheirTrace) {
    const test::TempFolder folder;
    const std::string store = folder.file("data/conversations.sqlite");
    std::vector<float> scores;
    Timeline before;
    std::shared_ptr<const Conversation> conversation;
    {
        Window w(store, false, [] { std::this_thread::sleep_for(std::chrono::milliseconds(10)); });
        w.run(LoadModel{kSeedling});
        w.ask("72*59=?", Mode::high);
        w.ask("74*82=?", Mode::high);  // forks: the thinking is dropped
        before = w.timeline;
        conversation = w.conversation;
        const auto r = w.worker().trace()->get(before.branch, 14)->floats(kRouterScores, 5);
        scores.assign(r.data.begin(), r.data.end());
    }
    Window w(store);
    w.run(LoadModel{kSeedling});
    ASSERT_TRUE(w.worker().send(ListConversations{"72*59"}));
    w.until([](const Update& u) { return std::holds_alternative<ConversationsListed>(u); });
    ASSERT_EQ(w.list.size(), 1u);
    EXPECT_EQ(w.list[0].title, "72*59=?");
    EXPECT_EQ(w.list[0].n_turns, 4);
    w.run(OpenConversation{w.list[0].id});
    ASSERT_EQ(w.errors, "");
    EXPECT_TRUE(w.conversation->is_recorded);
    ASSERT_EQ(w.conversation->path.size(), 4u);
    for (size_t i = 0; i < 4; ++i) {
        EXPECT_EQ(w.conversation->path[i].content, conversation->path[i].content);
        EXPECT_EQ(w.conversation->path[i].reasoning, conversation->path[i].reasoning);
        EXPECT_EQ(w.conversation->path[i].tokens.size(), conversation->path[i].tokens.size());
    }
    ASSERT_EQ(w.timeline.tokens.size(), before.tokens.size());
    EXPECT_EQ(w.timeline.reuse_reason, before.reuse_reason);
    EXPECT_EQ(w.timeline.prompt_text, before.prompt_text);
    for (size_t p = 0; p + 1 < before.tokens.size(); ++p) {
        EXPECT_EQ(w.timeline.tokens[p].id, before.tokens[p].id);
        EXPECT_EQ(w.timeline.tokens[p].ref, before.tokens[p].ref);
        EXPECT_TRUE(w.worker().trace()->get(before.branch, static_cast<int64_t>(p))) << p;
    }
    const auto r = w.worker().trace()->get(before.branch, 14)->floats(kRouterScores, 5);
    EXPECT_EQ(std::vector<float>(r.data.begin(), r.data.end()), scores);
    // And the thinking that left the context is there too.
    const TokenRef dropped = w.conversation->path[1].tokens[3].ref;
    EXPECT_TRUE(w.worker().trace()->get(dropped.branch, dropped.position));

    w.ask("2*3=?", Mode::non_think);  // goes on
    EXPECT_EQ(w.errors, "");
    EXPECT_EQ(w.conversation->path.size(), 6u);
    w.run(RenameConversation{w.conversation->id, "sums"});
    EXPECT_EQ(w.conversation->title, "sums");
    w.run(DeleteConversation{w.conversation->id});
    EXPECT_TRUE(w.conversation->path.empty());
    ASSERT_TRUE(w.worker().send(ListConversations{""}));
    w.until([&](const Update& u) {
        const auto* l = std::get_if<ConversationsListed>(&u);
        return l && l->list.empty();
    });
}

TEST(Worker, TheCacheIsTheShownConversations) {
    const test::TempFolder folder;
    Window w(folder.file("c.sqlite"));
    w.run(LoadModel{kSeedling});
    w.ask("72*59=?", Mode::non_think);
    const uint64_t held = w.cache.total();
    const int64_t id = w.conversation->id;
    EXPECT_GT(held, 0u);
    w.run(NewConversation{});
    EXPECT_EQ(w.cache.total(), 0u);
    EXPECT_EQ(w.cache.n_tokens, 0);
    w.run(OpenConversation{id});  // the session still has it
    ASSERT_EQ(w.errors, "");
    EXPECT_EQ(w.cache.total(), held);
    w.run(Regenerate{w.conversation->path[1].id, Mode::high, greedy(50)});
    EXPECT_GT(w.cache.total(), 0u);
    w.run(SelectSibling{w.conversation->path[1].id, 0});
    EXPECT_EQ(w.cache.total(), 0u) << "held is the other version";
    w.run(SelectSibling{w.conversation->path[1].id, 1});
    EXPECT_GT(w.cache.total(), 0u);
}

TEST(Worker, AConversationKnowsTheModelThatReadIt) {
    const test::TempFolder folder;
    const std::string other = folder.file("other");
    std::filesystem::create_directory_symlink(kSeedling, other);
    Window w(folder.file("c.sqlite"));
    w.run(LoadModel{other + "/config.json"});  // a file stands for its folder
    ASSERT_TRUE(w.model) << w.errors;
    EXPECT_EQ(w.model->folder, other);
    w.ask("72*59=?", Mode::non_think);
    EXPECT_EQ(w.last().model, other);
    EXPECT_EQ(w.last().numerics, "exact");
    const int64_t id = w.conversation->id;
    w.run(LoadModel{kSeedling});
    w.run(OpenConversation{id});
    ASSERT_EQ(w.errors, "");
    EXPECT_EQ(w.last().model, other);
    EXPECT_EQ(w.last().numerics, "exact");
    w.run(RecomputeToken{w.timeline.tokens[3].ref, 0});
    EXPECT_NE(w.errors.find("this token was read by " + other), std::string::npos) << w.errors;
    w.ask("2*3=?", Mode::non_think);  // what follows is this model's, and stays told apart on disk
    EXPECT_EQ(w.last().model, kSeedling);
    w.run(NewConversation{});
    w.run(OpenConversation{id});
    ASSERT_EQ(w.conversation->path.size(), 4u);
    EXPECT_EQ(w.conversation->path[1].model, other);
    EXPECT_EQ(w.conversation->path[3].model, kSeedling);
}

TEST(Worker, WatchingIsMeasuredWhileIdle) {
    Window w("", true);
    w.run(LoadModel{kSeedling});
    w.ask("72*59=?", Mode::high);
    w.until([](const Update& u) {
        const auto* m = std::get_if<Meters>(&u);
        return m && m->watching_cost_percent != -1;
    });
    EXPECT_GT(w.watching_cost, -100);
    w.ask("74*82=?", Mode::non_think);  // the measurement left the session alone
    EXPECT_EQ(w.last().content, "6108");
}

TEST(Worker, NumericsChangeWithoutRestart) {
    Window w;
    w.run(LoadModel{kSeedling});
    w.ask("74*82=?", Mode::non_think);
    const uint64_t exact_bytes = w.cache.total();
    w.run(SetNumerics{Numerics::reference});
    EXPECT_EQ(w.model->numerics, Numerics::reference);
    w.run(Regenerate{w.last().id, Mode::non_think, greedy()});
    EXPECT_EQ(w.errors, "");
    EXPECT_EQ(w.timeline.n_reused, 0);
    EXPECT_LT(w.cache.total(), exact_bytes);
}

TEST(Worker, ALostGpuKeepsTheTextAndLeavesTheChoice) {
    const test::TempFolder folder;
    int n = 0;
    Window w(folder.file("store.db"), false, [&n] {
        if (++n == 3) throw Error(ErrorKind::device, "GPU 0, running a step: unspecified launch failure");
    });
    w.run(LoadModel{kSeedling});
    w.ask("72*59=?", Mode::high);
    ASSERT_TRUE(w.model);
    EXPECT_TRUE(w.model->is_gpu_lost);
    EXPECT_NE(w.errors.find("unspecified launch failure"), std::string::npos) << w.errors;
    EXPECT_EQ(w.last().role, "assistant");
    EXPECT_FALSE(w.last().reasoning.empty());  // as far as it came
    w.run(SetDevice{kCpu});
    EXPECT_FALSE(w.model->is_gpu_lost);
    w.ask("72*59=?", Mode::high);
    EXPECT_EQ(w.last().content, "4248");
}

TEST(Worker, ClosesInTheMiddleOfAnAnswerAndKeepsWhatWasShown) {
    const test::TempFolder folder;
    const std::string store = folder.file("c.sqlite");
    std::string shown;
    {
        Window w(store);
        w.run(LoadModel{kSeedling});
        ASSERT_TRUE(w.worker().send(SendMessage{"72*59=?", Mode::max, greedy()}));
        w.until([](const Update& u) { return std::holds_alternative<TokensAppended>(u) || is_finished(u); });
        shown = w.reasoning;
    }
    Window w(store);
    w.run(LoadModel{kSeedling});
    ASSERT_TRUE(w.worker().send(ListConversations{""}));
    w.until([](const Update& u) { return std::holds_alternative<ConversationsListed>(u); });
    ASSERT_EQ(w.list.size(), 1u);
    w.run(OpenConversation{w.list[0].id});
    ASSERT_EQ(w.conversation->path.size(), 2u);
    EXPECT_TRUE(w.last().reasoning.starts_with(shown)) << shown << " / " << w.last().reasoning;
}

// Cancelled from the report that says that loading began, so that it always comes in the middle.
TEST(Worker, OpeningAModelCanBeCancelledAndLeavesWhatWasOpen) {
    Worker* worker = nullptr;
    std::atomic<bool> cancels{false}, is_idle{false};
    Worker w({.engine = {.n_threads = 1}, .measures_watching = false}, [&] {
        if (cancels.exchange(false)) worker->cancel();
    });
    worker = &w;
    std::string notices, errors;
    std::shared_ptr<const ModelInfo> model;
    const auto load = [&](const std::string& folder, bool is_cancelled) {
        w.take_reports();
        cancels = is_cancelled;
        notices.clear();
        ASSERT_TRUE(w.send(LoadModel{folder}));
        for (is_idle = false; !is_idle; std::this_thread::sleep_for(std::chrono::milliseconds(1)))
            for (Update& u : w.take_reports()) {
                if (std::holds_alternative<Idle>(u)) is_idle = true;
                if (auto* x = std::get_if<ModelLoaded>(&u)) model = x->info;
                if (auto* x = std::get_if<Notice>(&u)) (x->level == Notice::Level::error ? errors : notices) += x->text;
            }
    };
    const std::string other = std::string(VITRINE_SOURCE_DIR) + "/tests/golden/flashlike";
    load(kSeedling, true);
    EXPECT_FALSE(model);
    EXPECT_EQ(notices, "Opening seedling was cancelled.");
    load(kSeedling, false);
    ASSERT_TRUE(model);
    EXPECT_EQ(model->name, "seedling");
    load(other, true);
    EXPECT_EQ(model->name, "seedling");
    EXPECT_EQ(notices, "Opening flashlike was cancelled; seedling stays open.");
    EXPECT_EQ(errors, "");
}

}  // namespace
}  // namespace vitrine
