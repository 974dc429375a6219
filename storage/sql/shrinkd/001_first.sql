-- Times are microseconds since 1970, UTC; 0 = not yet. Text that may be absent is ''.

CREATE TABLE item (
    id         TEXT PRIMARY KEY,
    kind       TEXT NOT NULL CHECK (kind IN ('model', 'dataset')),
    name       TEXT NOT NULL,
    version    INTEGER NOT NULL CHECK (version > 0),
    format     TEXT NOT NULL,
    options    TEXT NOT NULL,
    summary    TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    UNIQUE (kind, name, version)
) STRICT;

-- Outlives the versions, so that a number never comes back with other bytes behind it.
CREATE TABLE item_name (
    kind         TEXT NOT NULL,
    name         TEXT NOT NULL,
    last_version INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE part (
    item   TEXT NOT NULL REFERENCES item (id) ON DELETE CASCADE,
    seq    INTEGER NOT NULL,
    name   TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    bytes  INTEGER NOT NULL,
    PRIMARY KEY (item, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX part_sha256 ON part (sha256);

CREATE TABLE job (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of the queue
    id               TEXT NOT NULL UNIQUE,
    name             TEXT NOT NULL,
    state            TEXT NOT NULL,
    recipe           TEXT NOT NULL,
    model_id         TEXT NOT NULL,
    model_name       TEXT NOT NULL,
    datasets         TEXT NOT NULL, -- ids, separated by a blank
    error            TEXT NOT NULL,
    verdict          TEXT NOT NULL CHECK (verdict IN ('', 'pass', 'fail')),
    cancel_requested INTEGER NOT NULL CHECK (cancel_requested IN (0, 1)),
    attempt          INTEGER NOT NULL,
    created_us       INTEGER NOT NULL,
    started_us       INTEGER NOT NULL,
    finished_us      INTEGER NOT NULL,
    idempotency_key  TEXT UNIQUE, -- NULL = none
    request_sha256   TEXT NOT NULL
) STRICT;
CREATE INDEX job_state ON job (state, seq);
CREATE INDEX job_model ON job (model_name, seq);
CREATE INDEX job_open ON job (seq) WHERE finished_us = 0;

CREATE TABLE step (
    job     INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    seq     INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    pass    TEXT NOT NULL,
    sha256  TEXT NOT NULL,
    bytes   INTEGER NOT NULL,
    report  TEXT NOT NULL,
    PRIMARY KEY (job, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX step_sha256 ON step (sha256);

CREATE TABLE metric (
    job   INTEGER NOT NULL,
    step  INTEGER NOT NULL,
    seq   INTEGER NOT NULL,
    name  TEXT NOT NULL,
    value REAL, -- NULL = not measured, and why:
    why   TEXT NOT NULL,
    PRIMARY KEY (job, step, seq),
    FOREIGN KEY (job, step) REFERENCES step (job, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    job     INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    kind    TEXT NOT NULL,
    data    TEXT NOT NULL,
    time_us INTEGER NOT NULL
) STRICT;
CREATE INDEX event_job ON event (job, id);

-- One row, rewritten to find out whether the disk takes writes.
CREATE TABLE pulse (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    time_us INTEGER NOT NULL
) STRICT;
