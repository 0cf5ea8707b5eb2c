"""Tables of the index. Whoever changes them raises `VERSION`; a file of another version is made anew."""

from __future__ import annotations

VERSION = 2

# `records`: a row for each name that the folder or the ledger has.
#   told      newest entry of the ledger that names it, 0 for none; `ended`: the newest that tells of its end or its import
#   seen      what `told` was when its files were read, -1 while they never were: known only if seen = told
#   present   whether the folder lists it; `listed`: it is there, was read, and could be
#   problem   why it could not be read, a sentence; else empty
#   started   microseconds since 1970, UTC
#   shown     number of its row in `shown`
# `shown`: a `Row` as JSON, for lists; what records are looked for by has columns, too. Rows are only ever added at the end, so
#   that its pages are full.
# `folder`: names in `records/` when it was listed, as the disk has them, with `/` between them; those that came together.
# `scalars`: metrics and parameters by name of records that are listed, and when these started; numbers as numbers,
#   everything else as text; what is no scalar is left out.
# `entries`: of the ledger; kind '' for one that cannot be read, record 0 for one that names none.
SCHEMA = """
CREATE TABLE IF NOT EXISTS state (only INTEGER PRIMARY KEY CHECK (only = 1), value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS folder (number INTEGER PRIMARY KEY, names BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS records (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    backwards TEXT NOT NULL,
    told INTEGER NOT NULL DEFAULT 0,
    ended INTEGER NOT NULL DEFAULT 0,
    imported INTEGER NOT NULL DEFAULT 0,
    seen INTEGER NOT NULL DEFAULT -1,
    present INTEGER NOT NULL DEFAULT 0,
    listed INTEGER NOT NULL DEFAULT 0,
    problem TEXT NOT NULL DEFAULT '',
    stage TEXT, environment TEXT, status TEXT, started INTEGER, wall_s REAL, key TEXT, sweep TEXT, reproduces TEXT,
    shown INTEGER, file TEXT, mtime_ns INTEGER, ctime_ns INTEGER, size INTEGER, inode INTEGER
);
CREATE TABLE IF NOT EXISTS shown (number INTEGER PRIMARY KEY, row BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_end_of_id ON records (backwards);
CREATE INDEX IF NOT EXISTS listing ON records (started, id, stage, environment, status, wall_s, listed) WHERE listed = 1;
CREATE INDEX IF NOT EXISTS by_stage ON records (stage, environment, status, ended, started, listed) WHERE listed = 1;
CREATE INDEX IF NOT EXISTS by_key ON records (key, ended) WHERE listed = 1 AND key <> '';
CREATE INDEX IF NOT EXISTS by_sweep ON records (sweep, started) WHERE listed = 1 AND sweep <> '';
CREATE INDEX IF NOT EXISTS not_listed ON records (ended) WHERE listed = 0;
CREATE INDEX IF NOT EXISTS pending ON records (id) WHERE seen < told OR (present = 1 AND (problem <> '' OR status = 'started'));
CREATE TABLE IF NOT EXISTS names (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (kind, name));
CREATE TABLE IF NOT EXISTS scalars (
    record INTEGER NOT NULL, name INTEGER NOT NULL, value, started INTEGER NOT NULL, PRIMARY KEY (record, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_value ON scalars (name, value, started, record);
CREATE TRIGGER IF NOT EXISTS no_longer_listed AFTER UPDATE OF listed ON records WHEN old.listed = 1 AND new.listed = 0
BEGIN DELETE FROM scalars WHERE record = old.n; DELETE FROM shown WHERE number = old.shown; END;
CREATE TABLE IF NOT EXISTS entries (
    record INTEGER NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, release TEXT NOT NULL, PRIMARY KEY (record, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS decisive ON entries (seq) WHERE kind NOT IN ('start', 'end', 'import');
"""
TABLES = ("state", "folder", "records", "shown", "names", "scalars", "entries")
