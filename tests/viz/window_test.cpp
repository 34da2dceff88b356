// The window without a display: chat, keys, palette, branches, cursor, huge timelines; read from the drawn widgets.
#include <imgui_internal.h>

#include <algorithm>
#include <filesystem>

#include "tests/viz/window_fixture.h"
#include "viz/shell/suggestions.h"

namespace vitrine::viz {
namespace {

using test::Window;

TEST_F(Window, every_view_draws_empty_typical_and_small) {
    driver_->frames(2);
    visit_all_views("nothing");
    show(fake::empty_conversation(fake::typical()));
    visit_all_views("empty");
    show(fake::snapshot(fake::typical()));
    visit_all_views("typical");
    shell_->settings().window_width = 1000, shell_->settings().window_height = 700;  // the chat is a drawer
    visit_all_views("narrow");
    shell_->settings().is_chat_open = false;
    visit_all_views("narrow, chat folded");
}

TEST_F(Window, a_million_tokens_are_drawn_by_the_screenful) {
    show(fake::snapshot(fake::huge()));
    visit_all_views("huge");
    key("Ctrl+P");
    driver_->frames(3);
    EXPECT_LT(ui::widget_names("prompt/").size(), 5000u);  // cells of a screen, not of the timeline
    key("Escape");
    EXPECT_EQ(number("cursor/token"), static_cast<double>(shell_->snapshot().timeline.tokens.size() - 1));
    key("Escape");
    key("Home");
    EXPECT_EQ(number("cursor/token"), 0);
}

TEST_F(Window, enter_sends_what_was_typed_with_mode_and_sampling) {
    show(fake::empty_conversation(fake::typical()));
    click("Think Max");  // the last part of a name serves
    EXPECT_EQ(desk().settings.mode, Mode::max);
    click("mode/Think High");
    click("Message");
    ASSERT_EQ(driver_->type("74*82=?"), "");
    EXPECT_EQ(ui::find_widget("Message")->text, "74*82=?");
    key("Enter");
    const auto* sent = sink_.last<SendMessage>();
    ASSERT_TRUE(sent);
    EXPECT_EQ(sent->text, "74*82=?");
    EXPECT_EQ(sent->mode, Mode::high);
    EXPECT_EQ(desk().draft, "");
    finish();
    ASSERT_EQ(driver_->type("two\nlines"), "");  // the field has the focus again; Shift+Enter begins a line
    key("Ctrl+Enter");
    ASSERT_TRUE(sink_.last<SendMessage>());
    EXPECT_EQ(sink_.last<SendMessage>()->text, "two\nlines");
}

TEST_F(Window, compare_asks_in_the_three_modes_and_shows_them) {
    show(fake::empty_conversation(fake::typical()));
    EXPECT_FALSE(desk().can_compare());  // nothing typed, nothing said
    click("Message");
    ASSERT_EQ(driver_->type("74*82=?"), "");
    click("Compare");
    const auto* sent = sink_.last<CompareModes>();
    ASSERT_TRUE(sent);
    EXPECT_EQ(sent->turn, 0);
    EXPECT_EQ(sent->text, "74*82=?");
    EXPECT_EQ(desk().draft, "");
    EXPECT_STREQ(desk().panels[static_cast<size_t>(desk().panel)]->name(), "Modes");
    EXPECT_FALSE(desk().can_send());
    click("Stop");
    EXPECT_EQ(sink_.n_cancelled, 1);
    finish();
    EXPECT_TRUE(desk().can_send());

    show(fake::snapshot(fake::typical()));
    click("Message");
    key("Ctrl+M");  // nothing typed: the last question, in its own context
    sent = sink_.last<CompareModes>();
    ASSERT_TRUE(sent);
    EXPECT_EQ(sent->turn, desk().last_turn("user")->id);
    finish();
    ASSERT_EQ(driver_->type("and then?"), "");
    key("Ctrl+M");
    sent = sink_.last<CompareModes>();
    ASSERT_TRUE(sent);
    EXPECT_EQ(sent->text, "and then?");
    EXPECT_EQ(desk().draft, "");
}

TEST_F(Window, suggestions_are_written_into_the_composer) {
    show(fake::empty_conversation(fake::typical()));
    EXPECT_TRUE(ui::widget_names("suggest/").empty());  // a model of other training: nothing is promised
    Snapshot taught = fake::empty_conversation(fake::typical());
    taught.knows_curriculum = true;
    show(std::move(taught));
    expect_nothing_cut("suggestions");
    EXPECT_EQ(ui::widget_names("suggest/").size(), 2 * suggestions().size());
    for (const Suggestion& s : suggestions())
        for (const bool is_chinese : {false, true}) {
            const std::string question = is_chinese ? s.chinese : s.english;
            click("suggest/" + question);
            driver_->frames(2);
            EXPECT_EQ(desk().draft, suggested_prompt(s, is_chinese));
            EXPECT_TRUE(desk().draft.ends_with(question));
            if (s.note_english) {
                EXPECT_TRUE(desk().draft.starts_with(is_chinese ? s.note_chinese : s.note_english));
            }
        }
    EXPECT_TRUE(sink_.commands.empty());
    key("Enter");
    ASSERT_TRUE(sink_.last<SendMessage>());
    EXPECT_EQ(sink_.last<SendMessage>()->text, suggested_prompt(suggestions().back(), true));
}

TEST_F(Window, what_is_typed_wraps_and_is_sent_as_typed) {
    show(fake::empty_conversation(fake::typical()));
    desk().fonts.note_text("\xE9\x92\xA5\xE5\x8C\x99");
    click("Message");
    std::string words, chinese;
    for (int i = 0; i < 40; ++i) words += "word" + std::to_string(i) + " ", chinese += "\xE9\x92\xA5\xE5\x8C\x99";
    for (const std::string& text : {words, chinese, std::string(200, 'x'), "one\ntwo " + words + "\n" + chinese}) {
        ASSERT_EQ(driver_->type(text), "");
        driver_->frames(2);
        EXPECT_EQ(desk().draft, text);
        EXPECT_GT(number("Message/lines"), 1 + std::count(text.begin(), text.end(), '\n'));
        expect_nothing_cut("composer");
        key("Enter");
        ASSERT_TRUE(sink_.last<SendMessage>());
        EXPECT_EQ(sink_.last<SendMessage>()->text, text);
        EXPECT_EQ(desk().draft, "");
        finish();
    }
    // Edits in the middle: the breaks move, the text is what was typed.
    ASSERT_EQ(driver_->type(chinese + words), "");
    for (int i = 0; i < 3; ++i) key("Up");
    key("Home");
    ASSERT_EQ(driver_->type("AB"), "");
    std::string now = desk().draft;
    EXPECT_EQ(now.size(), chinese.size() + words.size() + 2);
    const size_t at = now.find("AB");
    ASSERT_NE(at, std::string::npos);
    now.erase(at, 2);
    EXPECT_EQ(now, chinese + words);
    // Backspace at the beginning of a wrapped line takes the character before it.
    key("Home");
    const std::string before = desk().draft;
    key("Backspace");
    EXPECT_LT(desk().draft.size(), before.size());
    EXPECT_EQ(desk().draft.find('\n'), std::string::npos);
    key("Ctrl+A");
    key("Delete");
    EXPECT_EQ(desk().draft, "");
}

TEST_F(Window, greyed_cells_say_why) {
    fake::Shape shape = fake::typical();
    shape.n_recorded = 10;
    Snapshot s = fake::snapshot(shape);
    // An earlier answer whose reasoning was dropped: its tokens are of another branch.
    auto c = std::make_shared<Conversation>(*s.conversation);
    Turn old = c->path.back();
    old.id = 9, old.is_reasoning_in_context = false;
    for (TokenInfo& t : old.tokens) t.ref.branch = 77;
    c->path.insert(c->path.begin(), old);
    s.conversation = c;
    const size_t n = s.timeline.tokens.size();
    show(std::move(s));
    const ui::Widget* newest = ui::find_widget("tokens/cell/" + std::to_string(n - 1));
    ASSERT_TRUE(newest);
    EXPECT_EQ(newest->number, 1);
    const ui::Widget* gone = ui::find_widget("tokens/cell/" + std::to_string(n - 12));
    ASSERT_TRUE(gone);
    EXPECT_EQ(gone->number, 0);
    EXPECT_EQ(gone->text, "nothing was recorded; select it to compute it again");
    desk().select(old.tokens.front().ref);
    driver_->frames(3);
    const ui::Widget* lost = ui::find_widget("tokens/lost/0");
    ASSERT_TRUE(lost);
    EXPECT_EQ(lost->number, 0);
    EXPECT_EQ(lost->text, "out of context: a new thinking turn drops earlier reasoning");
    driver_->move_to(lost->center());
    driver_->frames(2);
    EXPECT_EQ(ui::find_widget("tokens/why")->text, "out of context: a new thinking turn drops earlier reasoning");
    EXPECT_TRUE(desk().shown == old.tokens.front().ref);
    driver_->press(lost->center());
    EXPECT_TRUE(desk().cursor.token == old.tokens.front().ref);
}

TEST_F(Window, opening_a_model_can_be_cancelled) {
    shell_->snapshot().is_loading = true;
    driver_->frames(2);
    click("Cancel loading");  // nothing is open: the chat pane says so
    EXPECT_EQ(sink_.n_cancelled, 1);
    show(fake::snapshot(fake::typical()));
    shell_->snapshot().is_loading = true;
    shell_->snapshot().apply(Progress{"Loading prolike", 0, 0});
    driver_->frames(2);
    EXPECT_EQ(ui::find_widget("loading/what")->text, "Loading prolike\xE2\x80\xA6");
    click("loading/Cancel");
    EXPECT_EQ(sink_.n_cancelled, 2);
    key("Escape");
    EXPECT_EQ(sink_.n_cancelled, 3);
    shell_->snapshot().apply(Idle{});
    driver_->frames(2);
    EXPECT_FALSE(ui::find_widget("loading/what"));
}

TEST_F(Window, text_streams_in_and_stop_cancels) {
    Snapshot s = fake::empty_conversation(fake::typical());
    show(std::move(s));
    auto timeline = std::make_shared<Timeline>(fake::snapshot(fake::typical()).timeline);
    timeline->tokens.resize(static_cast<size_t>(timeline->n_prompt));
    shell_->snapshot().apply(TimelineStarted{timeline});
    TokenInfo t;
    t.phase = Phase::thinking, t.text = "74", t.ref = {1, timeline->n_prompt};
    shell_->snapshot().apply(TokensAppended{2, {t}, "74", ""});
    t.phase = Phase::answer, t.text = "6068", t.ref.position++;
    shell_->snapshot().apply(TokensAppended{2, {t}, "", "6068"});
    driver_->frames(3);
    EXPECT_EQ(ui::find_widget("live/content")->text, "6068");
    EXPECT_EQ(number("live/thinking"), 1);
    EXPECT_EQ(number("tokens/answer"), 1);
    click("Stop");
    EXPECT_EQ(sink_.n_cancelled, 1);
    key("Escape");
    EXPECT_EQ(sink_.n_cancelled, 2);
    EXPECT_FALSE(ui::find_widget("Send"));
    shell_->snapshot().apply(Finished{2, {}});
    driver_->frames(2);
    EXPECT_TRUE(ui::find_widget("Send"));
}

TEST_F(Window, regenerate_edit_and_branches_ask_the_engine) {
    show(fake::snapshot(fake::typical()));
    click("turn/1/Regenerate");
    ASSERT_TRUE(sink_.last<Regenerate>());
    EXPECT_EQ(sink_.last<Regenerate>()->turn, 2);
    finish();
    EXPECT_EQ(ui::find_widget("turn/1/sibling")->text, "2/3");
    click("turn/1/\xE2\x80\xBA");
    ASSERT_TRUE(sink_.last<SelectSibling>());
    EXPECT_EQ(sink_.last<SelectSibling>()->sibling, 2);
    click("turn/1/\xE2\x80\xB9");
    EXPECT_EQ(sink_.last<SelectSibling>()->sibling, 0);
    click("turn/0/Edit");
    click("Edit text");
    key("End");
    key("Ctrl+A");
    ASSERT_EQ(driver_->type("12+30=?"), "");
    click("Save and answer");
    ASSERT_TRUE(sink_.last<EditTurn>());
    EXPECT_EQ(sink_.last<EditTurn>()->turn, 1);
    EXPECT_EQ(sink_.last<EditTurn>()->text, "12+30=?");
    finish();
    key("Ctrl+R");
    EXPECT_TRUE(sink_.last<Regenerate>());
}

TEST_F(Window, keys_move_the_one_cursor_unless_text_is_typed) {
    show(fake::snapshot(fake::typical()));
    key("Escape");  // leaves the text field
    const double last = number("cursor/token");
    const double layer = number("cursor/layer");
    key("Left");
    EXPECT_EQ(number("cursor/token"), last - 1);
    EXPECT_EQ(number("Live"), 0);
    key("Down");
    EXPECT_EQ(number("cursor/layer"), layer + 1);
    key("3");
    EXPECT_STREQ(desk().panels[static_cast<size_t>(desk().panel)]->name(), "Attention");
    key("L");
    EXPECT_EQ(number("cursor/token"), last);
    click("Message");
    ASSERT_EQ(driver_->type("l3"), "");
    key("1");
    EXPECT_EQ(desk().draft, "l3");  // a key without its character types nothing here, and moves nothing
    EXPECT_STREQ(desk().panels[static_cast<size_t>(desk().panel)]->name(), "Attention");
}

TEST_F(Window, clicking_a_token_in_the_answer_selects_it_everywhere) {
    show(fake::snapshot(fake::typical()));
    const ui::Widget* w = ui::find_widget("turn/1/content");
    ASSERT_TRUE(w);
    driver_->press({w->min.x + 4, w->min.y + 8});  // the first character
    const TokenInfo* t = desk().token(desk().cursor.token);
    ASSERT_TRUE(t);
    EXPECT_EQ(t->phase, Phase::answer);
    EXPECT_EQ(t->text.substr(0, 2), "74");
    EXPECT_FALSE(desk().cursor.is_live);
    EXPECT_EQ(number("cursor/token"), static_cast<double>(t->ref.position));
}

TEST_F(Window, a_long_message_is_folded_until_all_of_it_is_asked_for) {
    const auto show_question = [&](const std::string& text) {
        Snapshot s = fake::snapshot(fake::typical());
        auto c = std::make_shared<Conversation>(*s.conversation);
        c->id += 1;  // another conversation: nothing of it was unfolded
        c->path[0].content = text;
        s.conversation = c;
        show(std::move(s));
    };
    const auto shown = [] { return ui::find_widget("turn/0/content")->text; };
    std::string text;
    for (int i = 1; i <= 12; ++i) text += (i > 1 ? "\n" : "") + ("line " + std::to_string(i));
    show_question(text);
    EXPECT_EQ(shown(), text);  // twelve lines are shown whole
    EXPECT_FALSE(ui::find_widget("turn/0/content/fold"));
    text += "\nline 13";
    show_question(text);
    EXPECT_EQ(shown(), text.substr(0, text.find("line 9")));
    ASSERT_TRUE(ui::find_widget("turn/0/content/fold"));
    EXPECT_EQ(ui::find_widget("turn/0/content/fold")->text, "Show all 13 lines");
    const ui::Widget* content = ui::find_widget("turn/0/content");
    const float folded = content->max.y - content->min.y;
    click("Show all 13 lines");
    driver_->frames(2);
    EXPECT_EQ(shown(), text);
    content = ui::find_widget("turn/0/content");
    EXPECT_NEAR((content->max.y - content->min.y) / folded, 13.0f / 8, 0.01f);
    click("Show the beginning");
    driver_->frames(2);
    EXPECT_NE(shown(), text);
    EXPECT_EQ(shell_->snapshot().conversation->path[0].content, text);  // what is copied, edited and sent

    text.clear();
    for (int i = 0; i < 400; ++i) text += "words ";  // one line that wraps
    show_question(text);
    EXPECT_TRUE(ui::find_widget("turn/0/content/fold"));
    EXPECT_LT(shown().size(), text.size());
    auto answered = std::make_shared<Conversation>(*shell_->snapshot().conversation);
    answered->path[1].content = text;  // an answer is always whole
    shell_->snapshot().conversation = answered;
    driver_->frames(2);
    EXPECT_FALSE(ui::find_widget("turn/1/content/fold"));
}

TEST_F(Window, bytes_of_a_chinese_character_can_be_selected) {
    // A byte-level vocabulary: each character is three tokens that show as replacement characters.
    Snapshot s = fake::snapshot(fake::typical());
    auto c = std::make_shared<Conversation>(*s.conversation);
    Turn& t = c->path[1];
    t.reasoning.clear(), t.content = "\xE6\xB3\xA8 ok", t.tokens.clear();
    for (const char* text : {"\xEF\xBF\xBD", "\xEF\xBF\xBD", "\xEF\xBF\xBD", " ", "ok"}) {
        TokenInfo k;
        k.phase = Phase::answer, k.text = text, k.ref = {9, static_cast<int64_t>(t.tokens.size())};
        t.tokens.push_back(k);
    }
    s.conversation = c;
    desk().fonts.note_text(t.content);
    show(std::move(s));
    const ui::Widget* w = ui::find_widget("turn/1/content");
    ASSERT_TRUE(w);
    driver_->press({w->min.x + 4, w->min.y + 8});
    EXPECT_EQ(desk().cursor.token, (TokenRef{9, 0}));
    // The character is as wide as the fonts there are make it: going right, the space comes next, then the word.
    std::vector<int64_t> seen = {0};
    for (float x = 4; x < 60; x += 1) {
        driver_->press({w->min.x + x, w->min.y + 8});
        if (desk().cursor.token.position != seen.back()) seen.push_back(desk().cursor.token.position);
    }
    EXPECT_EQ(seen, (std::vector<int64_t>{0, 3, 4}));
    EXPECT_EQ(desk().source(desk().cursor.token), Source::recorded);  // no longer in context
}

TEST_F(Window, the_palette_finds_actions_layers_and_text) {
    show(fake::snapshot(fake::typical()));
    key("Ctrl+K");
    ASSERT_EQ(driver_->type("dark"), "");
    ASSERT_TRUE(ui::find_widget("palette/Dark theme"));
    key("Enter");
    EXPECT_FALSE(shell_->settings().is_dark);
    EXPECT_EQ(desk().overlay, Overlay::none);
    key("Ctrl+K");
    ASSERT_EQ(driver_->type("layer 6"), "");
    key("Enter");
    EXPECT_EQ(number("cursor/layer"), 6);
    key("Ctrl+F");
    ASSERT_EQ(driver_->type("sliding"), "");
    driver_->frames(3);
    key("Enter");
    const TokenInfo* t = desk().token(desk().cursor.token);
    ASSERT_TRUE(t);
    EXPECT_EQ(t->text, " slidi");
}

TEST_F(Window, every_dialog_opens_closes_and_cuts_no_text) {
    show(fake::snapshot(fake::typical()));
    for (int o = 1; o <= static_cast<int>(Overlay::keys); ++o) {
        desk().open(static_cast<Overlay>(o));
        driver_->frames(4);
        expect_nothing_cut("overlay " + std::to_string(o));
        key("Escape");
        EXPECT_EQ(desk().overlay, Overlay::none);
    }
}

TEST_F(Window, deleting_a_conversation_asks_first) {
    show(fake::snapshot(fake::typical()));
    key("Ctrl+H");
    click("conversation/8/Delete");
    EXPECT_FALSE(sink_.last<DeleteConversation>());
    click("conversation/8/confirm");
    driver_->frames(2);
    EXPECT_FALSE(ui::find_widget("conversation/8"));
    EXPECT_FALSE(sink_.last<DeleteConversation>());  // held back while it can be undone
    desk().s.time += 100;
    desk().send_held_back(false);
    ASSERT_TRUE(sink_.last<DeleteConversation>());
    EXPECT_EQ(sink_.last<DeleteConversation>()->id, 8);
    click("conversation/9");
    ASSERT_TRUE(sink_.last<OpenConversation>());
    EXPECT_EQ(sink_.last<OpenConversation>()->id, 9);
}

TEST_F(Window, a_deletion_that_is_held_back_is_sent_when_the_window_closes) {
    show(fake::snapshot(fake::typical()));
    const int64_t id = shell_->snapshot().conversations.front().id;
    ASSERT_TRUE(desk().post(DeleteConversation{id}));
    driver_->frames(2);
    EXPECT_FALSE(sink_.last<DeleteConversation>());
    driver_.reset();
    shell_.reset();
    ASSERT_TRUE(sink_.last<DeleteConversation>());
    EXPECT_EQ(sink_.last<DeleteConversation>()->id, id);
}

TEST_F(Window, a_lost_gpu_leaves_the_choice_of_the_cpu_and_nothing_else) {
    show(fake::snapshot(fake::typical()));
    auto lost = std::make_shared<ModelInfo>(*desk().s.model);
    lost->is_gpu_lost = true;
    desk().s.apply(ModelLoaded{lost});
    desk().s.apply(Notice{Notice::Level::error, "The GPU was lost: GPU 0, running a step: unspecified launch failure"});
    driver_->frames(2);
    EXPECT_FALSE(desk().can_send());
    EXPECT_NE(ui::find_widget("lost/text")->text.find("unspecified launch failure"), std::string::npos);
    click("Continue on the CPU");
    ASSERT_TRUE(sink_.last<SetDevice>());
    EXPECT_EQ(sink_.last<SetDevice>()->gpu, kCpu);
}

TEST_F(Window, what_was_done_to_a_conversation_can_be_undone) {
    show(fake::snapshot(fake::typical()));
    const Turn answer = *desk().last_turn("assistant");
    // A deletion: nothing was sent, nothing will be.
    key("Ctrl+H");
    click("conversation/8/Delete");
    click("conversation/8/confirm");
    key("Escape");
    const std::string title = desk().s.conversations[1].title;
    EXPECT_EQ(ui::find_widget("undo/what")->text, "Deleted \xE2\x80\x9C" + title + "\xE2\x80\x9D");
    click("undo/Undo");
    desk().s.time += 100;
    desk().send_held_back(false);
    EXPECT_EQ(std::count_if(sink_.commands.begin(), sink_.commands.end(),
                            [](const Command& c) { return std::holds_alternative<DeleteConversation>(c); }),
              0);
    key("Escape");  // out of the composer
    // A branch, a rename, another answer, a new chat: each by Ctrl+Z.
    EXPECT_FALSE(desk().can_undo());
    desk().post(SelectSibling{answer.id, 0});
    desk().post(RenameConversation{8, "other"});
    desk().post(NewConversation{""});
    ImGui::ClearActiveID();
    driver_->frames(2);
    EXPECT_TRUE(ui::find_widget("undo/what"));
    desk().panel += 1;  // in the next view the offer would cover a corner
    driver_->frames(2);
    EXPECT_FALSE(ui::find_widget("undo/what"));
    key("Ctrl+Z");
    ASSERT_TRUE(sink_.last<OpenConversation>());
    EXPECT_EQ(sink_.last<OpenConversation>()->id, desk().s.conversation->id);
    key("Ctrl+Z");
    ASSERT_TRUE(sink_.last<RenameConversation>());
    EXPECT_EQ(sink_.last<RenameConversation>()->title, title);
    key("Ctrl+Z");
    ASSERT_TRUE(sink_.last<SelectSibling>());
    EXPECT_EQ(sink_.last<SelectSibling>()->sibling, answer.sibling);
    desk().post(EditTurn{answer.id, "edited", Mode::high, {}});
    EXPECT_FALSE(desk().can_undo());  // not while an answer is written
    finish();
    desk().undo();
    EXPECT_EQ(sink_.last<SelectSibling>()->sibling, answer.sibling);
}

TEST_F(Window, text_grows_and_shrinks_and_nothing_is_cut) {
    show(fake::snapshot(fake::typical()));
    for (int i = 0; i < 5; ++i) key("Ctrl++");
    EXPECT_NEAR(shell_->settings().font_scale, 1.5, 1e-6);
    expect_nothing_cut("1.5x");
    key("Ctrl+0");
    EXPECT_EQ(shell_->settings().font_scale, 1.0f);
    key("Ctrl+-");
    EXPECT_NEAR(shell_->settings().font_scale, 0.9, 1e-6);
    key("F11");
    expect_nothing_cut("presenter");
    EXPECT_FALSE(ui::find_widget("Send"));
    key("F11");
    EXPECT_TRUE(ui::find_widget("Send"));
}

TEST_F(Window, the_splitter_moves_and_is_remembered_as_a_ratio) {
    show(fake::snapshot(fake::typical()));
    const ui::Widget* bar = ui::find_widget("chat splitter");
    ASSERT_TRUE(bar);
    const ImVec2 from = bar->center();
    driver_->drag(from, {from.x + 100, from.y});
    EXPECT_NEAR(ui::find_widget("chat splitter")->center().x, from.x + 100, 2);
    EXPECT_NEAR(shell_->settings().chat_ratio, 0.42, 0.03);
}

TEST_F(Window, a_full_queue_is_told) {
    show(fake::snapshot(fake::typical()));
    sink_.is_full = true;
    click("turn/1/Regenerate");
    driver_->frames(2);
    EXPECT_TRUE(ui::is_text_shown("queue is full"));
}

TEST_F(Window, a_picture_is_drawn_without_a_display) {
    show(fake::snapshot(fake::typical()));
    const std::string path = ::testing::TempDir() + "vitrine_window_test.png";
    EXPECT_EQ(shell_->picture(path).get(), "");
    EXPECT_GT(std::filesystem::file_size(path), 20000u);
    std::filesystem::remove(path);
}

}  // namespace
}  // namespace vitrine::viz
