-- The record's tables. Rows are only ever added; the newest row of a cell is the one that counts.
CREATE TABLE IF NOT EXISTS schema (          -- every schema version that wrote to this file
    version TEXT PRIMARY KEY,
    torchskew TEXT NOT NULL,
    since TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS plan (            -- stored once, however many runs follow it
    id INTEGER PRIMARY KEY,
    content TEXT NOT NULL UNIQUE,            -- digest of everything below it
    head TEXT NOT NULL,                      -- PlanHead as JSON
    cells INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS cell (
    plan INTEGER NOT NULL REFERENCES plan (id),
    position INTEGER NOT NULL,
    cell_id TEXT NOT NULL,
    body TEXT NOT NULL,                      -- Cell as JSON
    PRIMARY KEY (plan, position)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS run (
    number INTEGER PRIMARY KEY,              -- order in which runs began
    run_id TEXT NOT NULL UNIQUE,
    plan INTEGER NOT NULL REFERENCES plan (id),
    started TEXT NOT NULL,
    schema TEXT NOT NULL,
    info TEXT NOT NULL,                      -- RunInfo as JSON
    expectations TEXT NOT NULL               -- as they were when the run began
);

CREATE TABLE IF NOT EXISTS mark (            -- what happened to a run later: finished, accepted, shard …
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES run (run_id),
    name TEXT NOT NULL,                      -- MarkKind
    value TEXT NOT NULL,                     -- its payload as JSON
    at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS mark_of_run ON mark (run_id, name);

CREATE TABLE IF NOT EXISTS attempt (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES run (run_id),
    cell_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    seconds REAL NOT NULL,
    fault TEXT,                              -- the machine's fault
    at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS attempt_of_cell ON attempt (run_id, cell_id);

CREATE TABLE IF NOT EXISTS facts (
    attempt INTEGER NOT NULL REFERENCES attempt (id),
    rank INTEGER NOT NULL,
    body TEXT NOT NULL,                      -- RankFacts as JSON, without what the next two hold
    printed BLOB,                            -- log and stacks: JSON, zlib; only read when asked for
    payload BLOB,                            -- what the scenario reported: JSON, zlib
    PRIMARY KEY (attempt, rank)
);

CREATE TABLE IF NOT EXISTS result (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES run (run_id),
    cell_id TEXT NOT NULL,
    repeat INTEGER NOT NULL,                 -- 0, or which repetition of the cell
    verdict TEXT NOT NULL,
    outcomes TEXT NOT NULL,                  -- JSON array, rank 0 first
    seconds REAL NOT NULL,
    cached INTEGER NOT NULL,
    key TEXT NOT NULL,                       -- content key; a cached result shares its origin's attempts
    attempts TEXT NOT NULL,                  -- JSON array of ids
    judged INTEGER REFERENCES attempt (id),  -- the last of them
    at TEXT NOT NULL,
    body TEXT NOT NULL                       -- Judgement as JSON
);
CREATE INDEX IF NOT EXISTS result_of_run ON result (run_id, cell_id, repeat);
CREATE INDEX IF NOT EXISTS result_of_cell ON result (cell_id);
CREATE INDEX IF NOT EXISTS result_of_key ON result (key) WHERE key <> '';
