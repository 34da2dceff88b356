// A run's folder: what `vitrine train --run DIR` writes and the lab, the command line and scripts read.
//
//   run.json         written first, whole: {"version": 1, "experiment", "arm", "seed", "n_steps", "knobs": {key: text},
//                    "config": {...} (resolved), "revision", "command": [words],
//                    "parent": {"id", "step"} when it left another run at a checkpoint,
//                    "from": {"weights": folder, "fingerprint"} when it began with a checkpoint's weights}. With the first
//                    checkpoint, if either is there, and the events of kind "change": enough to repeat the run
//   lock             held by flock(LOCK_EX) by the process that runs it: a run that says "running" without it was killed. A
//                    record lock on its first byte (F_OFD_SETLK) besides: the disk is full, the run waits for room
//   metrics.sqlite   WAL; kRunSchema. One transaction a step: a row that was committed stays, whatever happens then
//   log.txt          what the process said, one line each; the last one is shown when it failed
//   checkpoints/N/   of step N, after N steps; manifest.json is written last, so one without it does not count
#pragma once

namespace vitrine::run_folder {

inline constexpr int kVersion = 1;
inline constexpr const char* kRunJson = "run.json";
inline constexpr const char* kLock = "lock";
inline constexpr const char* kMetrics = "metrics.sqlite";
inline constexpr const char* kLog = "log.txt";
inline constexpr const char* kCheckpoints = "checkpoints";
inline constexpr const char* kManifest = "manifest.json";

// A value that is not a number is NULL. Going on from a checkpoint replaces rows by equal ones, in the same step's
// transaction. A rollback takes away the rows of the steps that it takes back, so that the table is one run's. `events.id` only
// grows; an event that is told again after going on has the same step, kind and text and is left out by the unique index. A
// change may lie ahead of the run: it is a repeat, and it will happen there. `state` holds "state" (waiting, running, paused,
// finished, stopped, failed), "step" (done so far), "n_steps" (asked for: it may be changed live), "rollbacks" (how many there
// were) and "error".
inline constexpr const char* kRunSchema =
    "CREATE TABLE IF NOT EXISTS names(id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);"
    "CREATE TABLE IF NOT EXISTS scalars(name INTEGER NOT NULL, step INTEGER NOT NULL, value REAL,"
    " PRIMARY KEY(name, step)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS events(id INTEGER PRIMARY KEY AUTOINCREMENT, step INTEGER NOT NULL, kind TEXT NOT NULL,"
    " text TEXT NOT NULL, detail TEXT NOT NULL DEFAULT '');"
    "CREATE UNIQUE INDEX IF NOT EXISTS one_event ON events(step, kind, text);"
    "CREATE TABLE IF NOT EXISTS state(key TEXT PRIMARY KEY, value TEXT NOT NULL);";

// Kinds of events. `detail` is a JSON object; what it holds is shown as it is: values by their names, lists of objects as
// tables. A spike has {"batch": {"step", "seed", "domains", "samples": [text]}, "layers": [{"layer", "grad_norm"}],
// "matrices": [{"name", "grad_norm", "update_ratio"}]}, largest first.
inline constexpr const char* kSpike = "spike";
inline constexpr const char* kAlarm = "alarm";
// A live field: text "lr 0.003 -> 0.001", detail {"key", "value", "rollbacks" (before it)}.
inline constexpr const char* kChange = "change";
// The row that a spike had before the run went back: detail {"scalars": {name: value}, "to": step}.
inline constexpr const char* kRollback = "rollback";
inline constexpr const char* kCheckpoint = "checkpoint";
inline constexpr const char* kControl = "control";        // paused, resumed, one step, stopped, waited for room
inline constexpr const char* kSkipped = "skipped";        // a step that was not taken (NaN, Inf)

// A scalar that the list of runs shows.
inline constexpr const char* kTokensPerSecond = "tokens_per_s";

}  // namespace vitrine::run_folder
