// What the window says of what it shows: one token, one model, one conversation at a time; badges, captions, copies, names.
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/viz/window_fixture.h"
#include "viz/text_util.h"
#include "viz/widgets/export.h"
#include "viz/widgets/number.h"

namespace vitrine::viz {
namespace {

using test::Window;

TEST_F(Window, hovering_shows_one_token_not_two) {
    show(fake::snapshot(fake::typical()));
    const auto& tokens = shell_->snapshot().timeline.tokens;
    const size_t selected = tokens.size() - 20, hovered = tokens.size() - 10;
    desk().select(tokens[selected].ref);
    driver_->frames(2);
    EXPECT_EQ(ui::find_widget("overview/came")->text, "then came \"" + token_label(tokens[selected + 1].text) + "\"");
    ASSERT_EQ(driver_->hover("tokens/cell/" + std::to_string(hovered)), "");
    driver_->frames(2);
    ASSERT_EQ(desk().shown, tokens[hovered].ref);
    EXPECT_EQ(ui::find_widget("overview/came")->text, "then came \"" + token_label(tokens[hovered + 1].text) + "\"");
    ASSERT_TRUE(shell_->workspace().show_panel("Attention"));
    driver_->frames(3);
    EXPECT_EQ(number("attention/text/selected"), static_cast<double>(hovered));
}

TEST_F(Window, the_cell_that_was_clicked_is_copied) {
    show(fake::snapshot(fake::typical()));
    ASSERT_TRUE(shell_->workspace().show_panel("Routing"));
    driver_->frames(3);
    for (const char* column : {"affinity", "weight", "rank"}) {
        const std::string cell = std::string("routing/why/rank/1/") + column;
        ASSERT_TRUE(ui::find_widget(cell)) << cell;
        const double shown = number(cell);
        ASSERT_EQ(driver_->click(cell, 1), "");
        driver_->frames(2);
        click("Copy value");
        EXPECT_EQ(std::string(ImGui::GetClipboardText()), ui::full_precision(shown)) << cell;
    }
}

TEST_F(Window, whatever_is_drawn_can_be_expected) {
    show(fake::empty_conversation(fake::typical()));
    EXPECT_TRUE(ui::is_text_shown("Every token of the answer can be opened up"));  // an empty state's second line
    show(fake::snapshot(fake::typical()));
    const size_t n = shell_->snapshot().timeline.tokens.size();
    ASSERT_EQ(driver_->hover("tokens/cell/" + std::to_string(n - 10)), "");
    driver_->frames(2);
    EXPECT_TRUE(ui::is_text_shown("token " + std::to_string(n - 10) + " \xC2\xB7 id "));  // a tooltip
    driver_->move_to({1, 1});
    driver_->frames(3);
    EXPECT_FALSE(ui::is_text_shown("token " + std::to_string(n - 10) + " \xC2\xB7 id "));
    ASSERT_TRUE(shell_->workspace().show_panel("Routing"));
    driver_->frames(3);
    EXPECT_TRUE(ui::is_text_shown("affinity"));  // a column
    EXPECT_TRUE(ui::is_text_shown("Size of what they add"));
    EXPECT_FALSE(ui::is_text_shown("How to read it"));
    click("help/Routing");
    driver_->frames(3);
    EXPECT_TRUE(ui::is_text_shown("How to read it"));
    EXPECT_TRUE(ui::is_text_shown("how much an expert beat the best one left out"));
    key("Escape");
    ASSERT_TRUE(shell_->workspace().show_panel("Attention"));
    driver_->frames(3);
    EXPECT_TRUE(ui::is_text_shown("share of attention"));  // an axis
    ASSERT_TRUE(shell_->workspace().show_panel("Cache"));
    driver_->frames(3);
    EXPECT_TRUE(ui::is_text_shown("GQA-8 would take"));
    click("menu/File");
    driver_->frames(2);
    EXPECT_TRUE(ui::is_text_shown("Ctrl+Shift+E"));
}

TEST_F(Window, short_labels_name_values_too) {
    show(fake::snapshot(fake::typical()));
    ASSERT_TRUE(shell_->workspace().show_panel("Routing"));
    driver_->frames(3);
    EXPECT_EQ(find_label("maxvio", true).name, "routing/load/maxvio");
    EXPECT_EQ(find_label("MaxVio", true).name, "routing/load/maxvio");
    const Label many = find_label("expert", true);
    EXPECT_EQ(many.name, "");
    EXPECT_NE(many.problem.find("routing/why/rank/0/expert, routing/why/rank/1/expert"), std::string::npos) << many.problem;
    EXPECT_NE(find_label("maxvoi", true).problem.find("did you mean"), std::string::npos);
    EXPECT_EQ(find_label("view/Routing", false).name, "view/Routing");
    ASSERT_TRUE(shell_->workspace().show_panel("Streams"));
    driver_->frames(3);
    EXPECT_EQ(find_label("\xCF\x83\xE2\x82\x82", true).name, "streams/sigma2");
}

TEST_F(Window, a_conversation_of_another_model_is_not_read_with_this_one) {
    Snapshot s = fake::snapshot(fake::typical());
    auto c = std::make_shared<Conversation>(*s.conversation);
    c->path[1].model = "/models/nano", c->is_recorded = true;
    s.conversation = c;
    show(std::move(s));
    for (const char* view : {"Overview", "Routing", "Attention", "Streams", "Cache"}) {
        ASSERT_TRUE(shell_->workspace().show_panel(view));
        driver_->frames(3);
        EXPECT_TRUE(ui::is_text_shown("This token was read by nano, and seedling is loaded")) << view;
        expect_nothing_cut(view);
    }
    for (const char* own : {"overview/next/0", "routing/why/rank/0/expert", "attention/shares/4/window", "streams/sigma2",
                            "cache/cells"}) {
        EXPECT_FALSE(ui::find_widget(own)) << own;
    }
    click("Open that model");
    const auto* reopened = sink_.last<OpenConversation>();
    ASSERT_TRUE(reopened);
    EXPECT_EQ(reopened->id, c->id);
    const auto* opened = std::get_if<LoadModel>(&sink_.commands[sink_.commands.size() - 2]);
    ASSERT_TRUE(opened);
    EXPECT_EQ(opened->folder, "/models/nano");
}

TEST_F(Window, badges_and_captions_are_the_tokens_own) {
    Snapshot s = fake::snapshot(fake::typical());
    auto c = std::make_shared<Conversation>(*s.conversation);
    c->path[1].numerics = "exact", c->path[1].sampling.temperature = 0.25;
    s.conversation = c;
    show(std::move(s));
    desk().settings.mode = Mode::max, desk().settings.sampling.temperature = 0;
    driver_->frames(2);
    EXPECT_EQ(ui::find_widget("status/badge")->text, "live");
    for (const char* view : {"Overview", "Model", "Cache"}) {
        ASSERT_TRUE(shell_->workspace().show_panel(view));
        driver_->frames(3);
        EXPECT_EQ(ui::find_widget("badge")->text, "live") << view;
    }
    EXPECT_EQ(ui::find_widget("badge/projected")->text, "projected");
    auto other = std::make_shared<ModelInfo>(*desk().s.model);
    other->numerics = Numerics::reference;
    const TokenRef before = desk().cursor.token;
    desk().cursor.layer = 6;
    desk().s.apply(ModelLoaded{other});
    ASSERT_TRUE(shell_->workspace().show_panel("Overview"));
    driver_->frames(3);
    EXPECT_EQ(desk().cursor.token, before);
    EXPECT_EQ(desk().cursor.layer, 6);
    EXPECT_EQ(ui::find_widget("badge")->text, "recorded");  // made with the numerics of then
    EXPECT_EQ(ui::find_widget("status/badge")->text, "recorded");
    const std::string path = ::testing::TempDir() + "vitrine_caption_test.svg";
    ui::request_export("overview/next", ui::ExportFormat::svg, path);
    driver_->frames(3);
    ui::wait_for_exports();
    std::ifstream in(path);
    const std::string svg((std::istreambuf_iterator<char>(in)), {});
    std::filesystem::remove(path);
    EXPECT_NE(svg.find("exact"), std::string::npos);
    EXPECT_EQ(svg.find("reference"), std::string::npos);
    EXPECT_NE(svg.find("Think High"), std::string::npos);
    EXPECT_EQ(svg.find("Think Max"), std::string::npos);
    EXPECT_NE(svg.find("temperature 0.250"), std::string::npos);
}

TEST_F(Window, another_conversation_takes_cursor_and_cache_along) {
    show(fake::snapshot(fake::typical()));
    ASSERT_GE(desk().cursor.token.position, 0);
    ASSERT_GT(shell_->snapshot().cache.total(), 0u);
    auto next = std::make_shared<Conversation>();
    next->id = 99;
    shell_->snapshot().apply(ConversationChanged{next});
    driver_->frames(3);
    EXPECT_EQ(desk().cursor.token.position, -1);
    EXPECT_EQ(shell_->snapshot().cache.total(), 0u);
    EXPECT_FALSE(ui::find_widget("status/cache"));
}

TEST_F(Window, settings_are_found_by_their_names) {
    show(fake::snapshot(fake::typical()));
    for (const char* chord : {"Ctrl+F", "Ctrl+K"}) {
        key(chord);
        ASSERT_EQ(driver_->type("temperature"), "");
        driver_->frames(2);
        EXPECT_TRUE(ui::find_widget("palette/Sampling: Temperature")) << chord;
        key("Enter");
        EXPECT_EQ(desk().overlay, Overlay::sampling);
        driver_->frames(3);
        key("Ctrl+A");
        ASSERT_EQ(driver_->type("0.7"), "") << "the field has the keyboard";
        key("Enter");
        EXPECT_NEAR(desk().settings.sampling.temperature, 0.7, 1e-9);
        desk().settings.sampling.temperature = 0;
        key("Escape");
        key("Escape");
        key("Escape");
    }
    const auto choose = [&](const std::string& words) {
        key("Ctrl+K");
        ASSERT_EQ(driver_->type(words), "");
        key("Enter");
        driver_->frames(2);
    };
    choose("unfold");
    EXPECT_TRUE(desk().settings.is_think_open);
    choose("paint entropy");
    EXPECT_EQ(desk().settings.paint, 2);
    choose("head 3");
    EXPECT_EQ(desk().cursor.head, 3);
    EXPECT_STREQ(desk().panels[static_cast<size_t>(desk().panel)]->name(), "Attention");
    choose("version 1 of");
    ASSERT_TRUE(sink_.last<SelectSibling>());
    EXPECT_EQ(sink_.last<SelectSibling>()->sibling, 0);
    desk().settings.has_reduced_motion = true;
    driver_->frames(1);
    EXPECT_FALSE(ImGui::GetIO().ConfigInputTextCursorBlink);
}

TEST_F(Window, the_system_text_is_set_beside_the_sampling) {
    show(fake::snapshot(fake::typical()));
    EXPECT_TRUE(ui::is_text_shown("System: You are a careful assistant."));
    click("Sampling");
    driver_->frames(3);
    EXPECT_EQ(ui::find_widget("System text")->text, "You are a careful assistant.");
    click("System text");
    key("Ctrl+A");
    ASSERT_EQ(driver_->type("Answer in one word."), "");
    EXPECT_FALSE(sink_.last<SetSystemPrompt>());  // not letter by letter
    click("Greedy");
    ASSERT_TRUE(sink_.last<SetSystemPrompt>());
    EXPECT_EQ(sink_.last<SetSystemPrompt>()->text, "Answer in one word.");
    driver_->frames(2);
    EXPECT_EQ(ui::find_widget("System text")->text, "Answer in one word.");
    expect_nothing_cut("sampling");
}

TEST_F(Window, a_folder_is_recent_once_it_was_opened) {
    show(fake::snapshot(fake::typical()));
    shell_->workspace().drop_files({"/models/nowhere"});
    driver_->frames(2);
    shell_->snapshot().apply(Idle{});
    driver_->frames(2);
    EXPECT_TRUE(shell_->settings().recent_folders.empty());
    shell_->workspace().drop_files({"/models/nano/config.json"});
    auto nano = std::make_shared<ModelInfo>(*desk().s.model);
    nano->folder = "/models/nano", nano->name = "nano";
    shell_->snapshot().apply(ModelLoaded{nano});
    driver_->frames(2);
    EXPECT_EQ(shell_->settings().recent_folders, (std::vector<std::string>{"/models/nano"}));
}

}  // namespace
}  // namespace vitrine::viz
