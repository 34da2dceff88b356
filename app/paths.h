// Where things live on disk: the XDG folders and what ships with the program. The only file that reads the environment.
#pragma once
#include <string>

namespace vitrine {

// $XDG_*_HOME/vitrine, else the default under $HOME. An empty or relative variable counts as unset. Nothing is created.
// Error(io) when neither the variable nor HOME is set: callers say so and run on without the folder.
std::string config_folder();  // settings
std::string data_folder();    // conversations, recordings
std::string state_folder();   // layout, recents
std::string cache_folder();   // deletable

std::string make_folder(
    const std::string& path);  // with its parents, 0700; Error(io) with path and reason; returns path

// A new folder of its own in $TMPDIR or /tmp; Error(io).
std::string temporary_folder(const std::string& name);

// The folder of the model that ships with the program: beside the executable (package, install) or in the source tree
// it was built from. Error(io) listing the places that were tried.
std::string shipped_model();
// A file or folder of assets/, found the same way.
std::string asset(const std::string& relative);

// Whether the model in this folder was taught by experiments/curriculum: its tokenizer is that of assets/curriculum, to the
// byte. What a model was taught can't be read from its weights, and names can be anything.
bool has_tokenizer_of_curriculum(const std::string& folder);

bool has_display();  // DISPLAY or WAYLAND_DISPLAY is set

}  // namespace vitrine
