-- results/runner.sqlite: every sweep, run, metric and prediction. This file is its documentation.
--
-- Read it with `runner query "SELECT .."` or any SQLite program. Only the coordinator of a sweep writes it.
-- PRAGMA application_id is 0x72756e72 ("runr"); PRAGMA user_version is the version of this schema.
-- Times are seconds since the Unix epoch. Epochs count finished epochs from 1, steps count optimizer steps from 1.

-- One experiment file, as it was last run under its name.
CREATE TABLE sweeps (
    name TEXT PRIMARY KEY,          -- `name` in the file
    path TEXT NOT NULL,             -- where the file lay
    file TEXT NOT NULL,             -- its text, whole
    version TEXT NOT NULL,          -- version of the program that planned it last
    created_at REAL NOT NULL,       -- first planned
    updated_at REAL NOT NULL        -- last planned
) WITHOUT ROWID;

-- One `[[experiment]]` of a sweep.
CREATE TABLE experiments (
    sweep TEXT NOT NULL REFERENCES sweeps(name) ON DELETE CASCADE,
    name TEXT NOT NULL,             -- `name` in the file
    position INTEGER NOT NULL,      -- order in the file, from 0; the first is what the others are compared to
    spec TEXT NOT NULL,             -- resolved specification as TOML, before the sweep's axes
    PRIMARY KEY (sweep, name)
) WITHOUT ROWID;

-- One training run. Its identity is a hash of specification, data and seed: one run can serve several sweeps.
CREATE TABLE runs (
    id TEXT PRIMARY KEY,            -- 16 hex digits
    seed INTEGER NOT NULL,
    fold INTEGER,                   -- fold of a cross-validation; null without one
    status TEXT NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'running', 'finished', 'failed', 'pruned')),
    spec TEXT NOT NULL,             -- resolved specification as TOML, whole
    data TEXT NOT NULL,             -- fingerprint of the data
    attempts INTEGER NOT NULL DEFAULT 0,  -- attempts started so far
    device TEXT,                    -- of the last attempt: `cpu`, `cuda:0`, ..
    threads INTEGER,                -- of the last attempt
    parameters INTEGER,             -- of the model
    epochs INTEGER,                 -- planned
    steps_per_epoch INTEGER,
    epoch INTEGER NOT NULL DEFAULT 0,     -- finished
    best_epoch INTEGER,             -- selected so far; final once finished
    started_at REAL,                -- first attempt
    finished_at REAL,               -- null until the run is complete
    cause TEXT,                     -- why the last attempt ended early: user, non_finite, out_of_memory, environment, ..
    error TEXT,                     -- its message
    journal_offset INTEGER NOT NULL DEFAULT 0   -- bytes of the run's journal that are in this file
) WITHOUT ROWID;

-- Which runs serve which experiment of which sweep.
CREATE TABLE sweep_runs (
    sweep TEXT NOT NULL,
    experiment TEXT NOT NULL,
    point TEXT NOT NULL,            -- what the axes set, e.g. `optimizer.adam.lr=0.005`; empty without axes
    run_id TEXT NOT NULL REFERENCES runs(id),
    position INTEGER NOT NULL,      -- order of the plan, from 0
    PRIMARY KEY (sweep, experiment, point, run_id),
    FOREIGN KEY (sweep, experiment) REFERENCES experiments(sweep, name) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX sweep_runs_by_run ON sweep_runs (run_id);

-- One try at a run; a resumed run has several.
CREATE TABLE attempts (
    run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,       -- from 1
    device TEXT NOT NULL,
    threads INTEGER NOT NULL,
    epoch INTEGER NOT NULL,         -- finished epochs it began with: 0, or where its checkpoint stood
    started_at REAL NOT NULL,
    seen_at REAL NOT NULL,          -- its last sign of life
    outcome TEXT,                   -- `finished`, or the cause it ended by; null while running or when it vanished
    message TEXT,                   -- the error, where there was one
    PRIMARY KEY (run_id, attempt)
) WITHOUT ROWID;

-- Every number over time. One row per key: what a resumed attempt repeats replaces what the broken one wrote.
CREATE TABLE metrics (
    run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    epoch INTEGER NOT NULL,
    step INTEGER,                   -- null on a row that speaks for the whole epoch
    split TEXT NOT NULL,            -- train, val or test
    name TEXT NOT NULL,             -- loss, accuracy, auc, tpr_at_fpr_1e-3, lr, ..
    value REAL                      -- null: not a number
);
CREATE UNIQUE INDEX metrics_key ON metrics (run_id, name, split, epoch, ifnull(step, 0));

-- A finished run's values at its selected epoch: `auc`, .. of the validation split, `seconds`, `images_per_second`.
CREATE TABLE summaries (
    run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value REAL,                     -- null: not a number
    PRIMARY KEY (run_id, name)
) WITHOUT ROWID;

-- The probability of every class for every image, at the selected epoch.
CREATE TABLE predictions (
    run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    split TEXT NOT NULL,            -- val or test
    image TEXT NOT NULL,            -- file name
    target INTEGER NOT NULL,        -- index of the true class
    class INTEGER NOT NULL,         -- index of the class `score` is for
    score REAL,                     -- its probability; null: not a number
    PRIMARY KEY (run_id, split, image, class)
) WITHOUT ROWID;

-- What the class indices of `predictions` mean.
CREATE TABLE classes (
    run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    class INTEGER NOT NULL,         -- from 0
    name TEXT NOT NULL,
    PRIMARY KEY (run_id, class)
) WITHOUT ROWID;

-- What a user should know about a run.
CREATE TABLE warnings (
    run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    message TEXT NOT NULL,
    at REAL NOT NULL,               -- when it was first said
    PRIMARY KEY (run_id, message)
) WITHOUT ROWID;
