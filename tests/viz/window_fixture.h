// The whole window without a display, and hands for it: what the tests of the window share.
#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "app/shell.h"
#include "tests/viz/fake_feed.h"
#include "viz/widgets/registry.h"

namespace vitrine::viz::test {

class Window : public ::testing::Test {
  protected:
    void SetUp() override {
        ui::registry_enable(true);
        ui::registry_clear();
        ShellOptions options;
        options.has_window = false;
        options.width = 1280, options.height = 800;
        shell_ = Shell::open(options, sink_, {});
        driver_ = std::make_unique<Driver>(shell_->input(), [this] { return shell_->frame(); });
    }
    void show(Snapshot s) {
        shell_->snapshot() = std::move(s);
        driver_->frames(3);
        sink_.commands.clear();
    }
    Desk& desk() { return shell_->workspace().desk(); }
    void click(const std::string& name) { ASSERT_EQ(driver_->click(name), ""); }
    void key(const std::string& chord) { ASSERT_EQ(driver_->key(chord), ""); }
    // The engine is done: until it says so the window takes no other request for an answer.
    void finish() {
        shell_->snapshot().apply(Idle{});
        driver_->frames(2);
    }
    double number(const std::string& name) {
        const ui::Widget* w = ui::find_widget(name);
        EXPECT_TRUE(w && w->has_number) << name;
        return w ? w->number : -1;
    }
    // Text cut at the side of its pane, in any view, is a defect.
    void expect_nothing_cut(const std::string& where) {
        const auto cut = ui::find_cut_text();
        for (const auto& c : cut)
            ADD_FAILURE() << where << ": text cut at " << c.at.x << ", " << c.at.y << " in " << c.window;
    }
    void visit_all_views(const std::string& what) {
        for (const auto& p : desk().panels) {
            shell_->workspace().show_panel(p->name());
            driver_->frames(3);
            expect_nothing_cut(what + "/" + p->name());
        }
    }

    fake::Sink sink_;
    std::unique_ptr<Shell> shell_;
    std::unique_ptr<Driver> driver_;
};

}  // namespace vitrine::viz::test
