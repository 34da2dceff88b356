// A panel: one view of probes. Panels are listed, in order, in panels.cpp.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "viz/snapshot.h"

namespace vitrine::viz {

struct Help {
    const char *shows, *how_to_read, *formula, *source, *try_this;
};

// What a panel gets besides the data: the shared cursor and the way to ask for things.
struct View {
    Cursor& cursor;
    CommandSink& commands;
    // The record under the cursor (or hovered), resolved once a frame; null: nothing recorded there.
    std::shared_ptr<const TokenRecord> record;
    const TokenInfo* token = nullptr;  // the token under the cursor
    Source source = Source::none;
    bool is_dark = true;
    std::string go_to;                 // a panel sets the name of another panel to switch to it
    std::string open_model = {};       // a folder: to be opened, and the shown conversation again
    std::string run = {};              // and the id of an action to have it done
    // The one token that the view is about: of which everything in it must be, previewed or selected.
    TokenRef shown() const { return token ? token->ref : cursor.token; }
};

// What a panel can do by name: in the menu of its name and in the command palette.
struct PanelAction {
    std::string title;                                            // "Pause the run"
    bool is_enabled = true, has_separator = false;                // a line above it in the menu
    std::function<void(const Snapshot&, CommandSink&)> run;       // outside draw(); the panel is shown next
};

class Panel {
  public:
    virtual ~Panel() = default;
    virtual const char* name() const = 0;               // tab title, unique
    virtual const Help& help() const = 0;
    virtual ProbeSet probes() const { return 0; }       // wanted while visible, besides the base set
    virtual bool needs_model() const { return true; }   // false: drawn without a model too
    // What stands inside exported pictures; empty: model, token, layer, settings.
    virtual std::vector<std::string> picture_lines(const Snapshot&) const { return {}; }
    // As things stand now; asked for while the menu or the palette is open.
    virtual std::vector<PanelAction> actions(const Snapshot&) { return {}; }
    virtual void draw(const Snapshot& s, View& view) = 0;
};

std::vector<std::unique_ptr<Panel>> make_panels();

}  // namespace vitrine::viz
