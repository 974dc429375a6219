CREATE TABLE blob (
    id          INTEGER PRIMARY KEY,
    sha256      TEXT UNIQUE,      -- NULL = an upload that is not finished
    bytes       INTEGER NOT NULL, -- so far
    chunk_bytes INTEGER NOT NULL CHECK (chunk_bytes > 0), -- of every chunk but the last
    created_us  INTEGER NOT NULL
) STRICT;

CREATE TABLE chunk (
    blob  INTEGER NOT NULL REFERENCES blob (id) ON DELETE CASCADE,
    seq   INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (blob, seq)
) STRICT;
