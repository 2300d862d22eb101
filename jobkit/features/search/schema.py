"""Tables of the index. Times are milliseconds since the epoch, NULL for "not yet".

jobs   n         sequence number, counted down from the newest job by time of submit
       id, us    the job, its time of submit in microseconds
       seq       of the record; state: index into `query.STATES`
       task, queue, owner, worker (of the last attempt), attempt (its number)
       error     type and kind of the error, joined by a tab; "" for none
       flag      one of `query.FLAGS` or ""
       batch     id and name of the batch, joined by a tab if it has a name; "" for none; behind a tab if it has left it
       started, finished, took (ms; of ended jobs), progress (0..1)
       changed   time of the last change, see `query.changed_ms`
       is_stray  1 if `n` is not in the order of `us`, because its event came late
tags   tag, n    one row per label
texts  n, text   the searched text: a line for each value, A to Z in lower case
grams  the trigrams of `texts` (FTS5), if this SQLite has that tokenizer
"""

from __future__ import annotations

import sqlite3
from typing import Any

from jobkit.store.query import FILTERS, ORDERS, STATES, Candidate

#: Columns of few different values, which are counted.
COUNTED = ("state", *(name for name in FILTERS if name != "tag"))

#: Columns to filter or order by; each has an index that ends with `us`.
INDEXED = (*COUNTED, *(name for name in ORDERS if name not in COUNTED and name != "submitted"))

#: Columns with many equal values. Ascending order (of equals the newest first) needs a separate index.
REPEATED = ("progress", "attempt")

#: Texts that are sampled for trigram frequencies: the first `SAMPLED`, then every `SAMPLE_EVERY`-th.
SAMPLED, SAMPLE_EVERY = 500, 200

COLUMNS = ("n", "id", "us", "seq", *INDEXED, "is_stray")

_TABLES = """
CREATE TABLE jobs(
  n INTEGER PRIMARY KEY, id TEXT NOT NULL, us INTEGER NOT NULL, seq INTEGER NOT NULL, state INTEGER NOT NULL,
  task TEXT NOT NULL, queue TEXT NOT NULL, owner TEXT NOT NULL, worker TEXT NOT NULL, error TEXT NOT NULL,
  flag TEXT NOT NULL, batch TEXT NOT NULL, started INTEGER, finished INTEGER, took INTEGER, progress REAL,
  attempt INTEGER, changed INTEGER NOT NULL, is_stray INTEGER NOT NULL);
CREATE UNIQUE INDEX jobs_id ON jobs(id);
CREATE INDEX jobs_us ON jobs(us);
CREATE INDEX jobs_stray ON jobs(n) WHERE is_stray;
CREATE TABLE tags(tag TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY(tag, n)) WITHOUT ROWID;
CREATE INDEX tags_n ON tags(n);
CREATE TABLE texts(n INTEGER PRIMARY KEY, text TEXT NOT NULL);
"""

#: Without positions: trigrams find candidates, `instr` decides. A fifth of the size, and of the time to fill.
_GRAMS = """
CREATE VIRTUAL TABLE grams USING fts5(
  text, content='texts', content_rowid='n', detail='none', columnsize=0, tokenize='trigram case_sensitive 1');
INSERT INTO grams(grams, rank) VALUES('hashsize', 8388608);
"""

#: Bounds the memory of the index. Scanning uncached pages is slower than a larger cache.
_CACHE_KB = 48 * 1024


def open_index() -> tuple[sqlite3.Connection, bool]:
    """Create an empty index in a temporary file; return the connection, and True if it has `grams`."""
    connection = sqlite3.connect("", check_same_thread=False, isolation_level=None)
    for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{_CACHE_KB}"):
        connection.execute(f"PRAGMA {pragma}")
    connection.executescript(_TABLES)
    for column in INDEXED:
        condition = f" WHERE {column} IS NOT NULL" if column in ("finished", "took", "progress") else ""
        counted = ", state, flag" if column == "changed" else ""  # counters of a span of time read the index alone
        connection.execute(f"CREATE INDEX jobs_{column} ON jobs({column}, us{counted}){condition}")
    for column in REPEATED:
        connection.execute(f"CREATE INDEX jobs_{column}_up ON jobs({column}, us DESC) WHERE {column} IS NOT NULL")
    try:
        connection.executescript(_GRAMS)
    except sqlite3.OperationalError:  # built without FTS5, or too old for trigrams
        return connection, False
    return connection, True


def row_of(one: Candidate) -> tuple[Any, ...]:
    """Return the values of a job's row from `id` to `changed`."""
    job = one.job
    names = ("\t".join(FILTERS[column](job)) for column in COUNTED[1:])
    return job.id, one.us, job.seq, STATES.index(job.state), *names, *(ORDERS[c](one) for c in INDEXED[len(COUNTED) :])


def pieces(text: str) -> list[str]:
    """Return the trigrams of a text without duplicates; empty if it is shorter than three letters."""
    return list(dict.fromkeys(text[i : i + 3] for i in range(len(text) - 2)))
