-- Where the running step of a job can go on after a crash; the next one takes its place.
CREATE TABLE checkpoint (
    job    INTEGER PRIMARY KEY REFERENCES job (seq) ON DELETE CASCADE,
    step   INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    bytes  INTEGER NOT NULL
) STRICT;
CREATE INDEX checkpoint_sha256 ON checkpoint (sha256);
