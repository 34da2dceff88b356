// The lab's plain data: which experiments exist, their knobs, the runs that belong to them, and what was measured.
//
// Experiments (experiments/list.cpp) describe themselves in these terms; the app runs them as child processes that write run
// folders, reads those folders, and hands a LabSnapshot to the panel; the panel answers with LabCommands.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace vitrine {

// How much of what is seen the set-up provoked. The last two need no run: calculated from formulas, or measured on a
// model.
enum class LabBadge : uint8_t { natural, provoked, weights_edited, analytic, measured };
const char* lab_badge_name(LabBadge b);
inline bool lab_has_runs(LabBadge b) {
    return b != LabBadge::analytic && b != LabBadge::measured;
}

struct LabKnob {                       // one field of an experiment's form
    std::string key, label, help;
    std::string value;                 // the preset's; numbers in decimal
    std::vector<std::string> choices;  // empty: a number in [min, max], or any text where min == max
    double min = 0, max = 0;
    bool is_logarithmic = false;
    std::string when_empty;  // what an empty text stands for, drawn in its place
};

struct LabPlot {                       // what the panel draws for an experiment
    std::string title, x_label, y_label;
    std::vector<std::string> metrics;  // names of scalars in a run's folder; "hyper.gain.max"
    bool log_x = false, log_y = false;
};

struct LabInfo {
    std::string name;                  // "X01": also the folder's prefix and the argument of --experiment
    std::string title, question, claim, literature;  // claim: what is said, and where; literature: what is known
    LabBadge badge = LabBadge::natural;
    std::string provoked_by;           // the knob, when provoked
    std::vector<LabKnob> knobs;
    std::vector<LabPlot> plots;
    std::vector<std::string> judged;   // what the judgement reads besides the plots' metrics; * stands for any text
    std::string readme;                // Markdown
    bool is_collection = false;        // no experiment: holds the runs that belong to none of those listed
    std::string expected_time;         // of the preset on two cores
};

// What `vitrine train` takes in the middle of a run, and records in it: "set lr 1e-3". The live keys of TrainConfig: numbers in
// [min, max], whole ones where is_integer, or one of the choices.
struct LabLiveField {
    std::string key, label, help;
    double min = 0, max = 0;
    bool is_integer = false;
    std::vector<std::string> choices = {};
};
const std::vector<LabLiveField>& lab_live_fields();

// A table of results with a sentence about it: what was measured here beside what is claimed.
struct LabTable {
    std::string title;
    std::vector<std::string> columns;
    std::vector<std::vector<std::string>> rows;
};
// Curves over something else than steps: what the panel plots beside the tables.
struct LabCurve {
    std::string label;
    std::vector<double> x, y;
    std::vector<double> lowest, highest;  // of the seeds at each x; empty: one value alone
};
struct LabChart {
    std::string title, x_label, y_label;
    bool log_x = false, log_y = false;
    std::vector<LabCurve> curves;
};
struct LabVerdict {
    enum class Outcome : uint8_t { none, holds, does_not_hold, not_visible, mixed } outcome = Outcome::none;
    std::string sentence;              // honest: names seeds and what was not shown
    std::vector<LabTable> tables;
    std::vector<LabChart> charts;
};
const char* lab_outcome_name(LabVerdict::Outcome o);

struct LabSeries {                     // one scalar of one run
    std::vector<double> step, value;   // ascending steps; NaN is a value, not a gap in the file
    uint64_t revision = 1;             // another one when values were not only appended
};
struct LabEvent {                      // a live change, an alarm, a checkpoint, a spike
    int64_t step;
    std::string kind, text;            // kind: see run_folder.h
    std::string detail;                // a JSON object, or empty: what was recorded with it (batch, layers, matrices)
};
// waiting: for its turn; with is_resumable: since an earlier window, and it is held until it is resumed.
enum class RunState : uint8_t { waiting, running, paused, finished, stopped, failed };
const char* run_state_name(RunState s);

struct LabRun {
    std::string id;                    // folder name
    std::string folder, experiment, arm;
    int64_t seed = 0, step = 0, n_steps = 0;
    RunState state = RunState::waiting;
    bool is_resumable = false;         // not at its end, and nobody runs it
    std::string error, last_log_line;
    std::string changed;               // the first live change, "lr 0.01 -> 0 at step 60"; empty: none. No sample of its arm then
    std::vector<std::string> metrics;  // names of all that was recorded
    std::map<std::string, LabSeries> scalars;  // the watched ones; for a verdict those of the experiment's plots
    std::vector<LabEvent> events;
    std::map<std::string, std::string> knobs;  // as it was started; those that are missing stand at the preset
    std::string config_json;           // resolved: two of them are compared field by field
    std::vector<int64_t> checkpoints;  // steps that it can be rewound to
    double tokens_per_s = 0;
    std::string parent;                // of a rewound run: the id of the one it left, at parent_step
    int64_t parent_step = 0;
};

struct LabSnapshot;
// ---- what changes in the snapshot (run manager -> UI thread)
struct LabListed { std::vector<LabInfo> experiments; };
struct LabRunChanged { LabRun run; };                           // everything but its scalars and events; new ones come last
struct LabEventsAdded { std::string id; std::vector<LabEvent> events; bool is_from_start = false; };
struct LabPointsAdded { std::string id, metric; std::vector<double> step, value; bool is_from_start = false; };
struct LabRunGone { std::string id; };
struct LabVerdictMade { std::string experiment; LabVerdict verdict; };
struct LabProblem { std::string text; bool is_error = true; };  // something asked for could not be done; or a word about what was
struct LabAtWork {
    std::vector<std::string> experiments;
};  // that need no run: the first is under way, the rest waits
struct LabWorkLine {
    std::string line;
};  // what the first one does now
using LabUpdate = std::variant<LabListed, LabRunChanged, LabEventsAdded, LabPointsAdded, LabRunGone, LabVerdictMade,
                               LabProblem, LabAtWork, LabWorkLine>;

struct LabSnapshot {
    std::vector<LabInfo> experiments;
    std::vector<LabRun> runs;          // newest last
    std::map<std::string, LabVerdict> verdicts;  // by experiment, of its finished runs
    std::vector<std::string> at_work;            // experiments that need no run: the first is under way
    std::string work_line;                       // what it does now
    uint64_t version = 0;              // grows with every update

    void apply(LabUpdate&& update);
    LabRun* find(const std::string& id);
    const LabRun* find(const std::string& id) const;
    const LabInfo* experiment(const std::string& name) const;
};

// ---- what the panel asks for
struct StartRuns { std::string experiment; std::map<std::string, std::string> knobs; int n_seeds = 1; int64_t first_seed = 1; };
struct ControlRun { std::string id; enum class Do : uint8_t { pause, resume, step, stop, checkpoint } what; };
struct SetLive { std::string id, key, value; };                 // lr, clip and the like, in the middle of a run; recorded
struct RewindRun { std::string id; int64_t step; std::map<std::string, std::string> changes; };  // a new run from a checkpoint
struct ForgetRun { std::string id; };                           // its folder is deleted
struct WatchScalars { std::vector<std::string> ids, metrics; }; // what is drawn: read from now on, the rest is not
struct ExportEvents { std::vector<std::string> ids; std::string folder; };  // TensorBoard; folder empty: beside the runs'
struct RunsAtOnce { int n; };                                   // the rest waits
struct ShowFolder { std::string id; };                          // in the file manager; id empty: the folder of all runs
struct CancelWork {
    std::string experiment;
};  // one that needs no run and is under way or waits
using LabCommand = std::variant<StartRuns, ControlRun, SetLive, RewindRun, ForgetRun, WatchScalars, ExportEvents,
                                RunsAtOnce, ShowFolder, CancelWork>;

// Whether a scalar's name is `pattern`, in which one * stands for any text.
bool lab_names(const std::string& pattern, const std::string& metric);

// Two values of configs that differ; empty: absent.
struct ConfigDifference { std::string field, a, b; };
// Field by field, nested names joined by dots. Error(bad_input) when one is not a JSON object.
std::vector<ConfigDifference> compare_configs(const std::string& a, const std::string& b);

}  // namespace vitrine
