"""Jobs as lines of an export, with all that they need, and back. These methods block; nothing of a job is unsealed."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING

import msgspec

from jobkit.codec import RAW, Blob, Codec, Subject
from jobkit.features import modules
from jobkit.features.moving.belongings import ContentGone, Missing, belongings_of, word_of
from jobkit.features.moving.dump import VERSION, ContentLine, Dump, read_dumps, read_line, restore
from jobkit.model import InvalidParams, JobkitError, JobState, SignatureError
from jobkit.store.values import Submission

if TYPE_CHECKING:
    from jobkit.client.kit import Kit

#: What reads and restores groups of jobs, by the kind of their lines.
_GROUPS = {module.KIND: module for module in modules("moved")}

#: Jobs that are stored together, and bytes after which there are fewer.
_SLICE, _SLICE_BYTES = 100, 8_000_000

_OTHER_KEY = (
    "they are signed with another key: to run them again or read their results here, use the JOBKIT_SECRET of their "
    "server; that of an embedded one is the file secret in its home"
)

_FORMER_KEY = (
    "the export is not sealed with the key of now, and a machine that knew an earlier one was revoked: arguments, "
    "results and files were left out, and jobs that had not ended; export the jobs again on the server that keeps them"
)


class _Seal:
    """Running hash of the lines of an export, and its seal."""

    def __init__(self, codec: Codec) -> None:
        self._codec, self._hash = codec, hashlib.sha256()
        self.is_open = False

    def add(self, line: bytes) -> bytes:
        """Count a line, and return it."""
        self._hash.update(line)
        self.is_open = True
        return line

    def line(self) -> bytes:
        """Return the line that seals the lines before it."""
        return _line("seal", "", self._codec.seal(RAW, self._hash.digest(), _LINES))

    def close(self, sealed: bytes) -> None:
        """Begin again behind a line that has sealed the lines before it; ignore one that has not."""
        with contextlib.suppress(SignatureError):
            if self._codec.verify(sealed, _LINES, is_stored=False) == (RAW, self._hash.digest()):
                self._hash, self.is_open = hashlib.sha256(), False


_LINES = Subject("export", "", "")


class JobExport:
    """Writes jobs as lines.

    Args:
        has_files: also large parts of calls, and the files of jobs.

    Attributes:
        count: jobs so far. missing: what they have and the lines lack.
    """

    def __init__(self, kit: Kit, *, has_files: bool = True) -> None:
        self._call, self._verbs = kit.connection.call, kit.verbs
        self._belongings = belongings_of(kit.verbs)
        self._seal = _Seal(kit.connection.codec)
        self._most = float("inf") if has_files else -1.0
        self._known: set[str] = set()
        self._groups: dict[tuple[str, str], None] = {}
        self.count = 0
        self.missing: list[Missing] = []

    def lines(self, job_ids: Sequence[str]) -> Iterator[bytes]:
        """Yield the lines of these jobs; those that are deleted meanwhile are left out."""
        return map(self._seal.add, self._lines(job_ids))

    def _lines(self, job_ids: Sequence[str]) -> Iterator[bytes]:
        for dump in self._call(read_dumps, self._verbs.store, job_ids):
            if dump is None:
                continue
            yield dump.to_line() + b"\n"
            self.count += 1
            for kind, moved in _GROUPS.items():
                self._groups |= dict.fromkeys((kind, name) for name in moved.names(dump))
            contents, missing = self._call(self._belongings.of, dump, self._most, self._known)
            self.missing += missing
            for one in contents:
                try:
                    for chunk in one.chunks():
                        yield _line(one.kind, one.name, chunk, more=True)
                    yield _line(one.kind, one.name, b"")
                except (ContentGone, OSError):
                    self.missing.append(Missing(word_of(one.name), one.size))
                else:
                    self._known |= {one.name} if one.kind != "file" else set()

    def end(self) -> Iterator[bytes]:
        """Yield the lines after all jobs: their groups, and the seal."""
        for kind, name in self._groups:
            if (content := self._call(_GROUPS[kind].read, self._verbs.store, name)) is not None:
                yield self._seal.add(_line(kind, name, content))
        yield self._seal.line()


def _line(kind: str, name: str, content: bytes, *, more: bool = False) -> bytes:
    return msgspec.json.encode(ContentLine(VERSION, kind, name, content, more)) + b"\n"


class JobImport:
    """Stores the jobs of an export.

    Args:
        source: can seek.
        waiting: submit the jobs that had not ended, too. One with checkpoints, also if it was running, is stored as a
            cancelled one, and a new job goes on from them.

    Attributes:
        ended, waited, ran: jobs in the export by their state; one that ran and has checkpoints counts as waiting.
        stored, submitted: those that are new here.
        problems: sentences about what could not be stored.
    """

    def __init__(self, kit: Kit, source: IO[bytes], *, waiting: bool = False) -> None:
        self._kit, self._has_waiting = kit, waiting
        self._call, self._verbs, self._codec = kit.connection.call, kit.verbs, kit.connection.codec
        self._belongings, self._source = belongings_of(kit.verbs), source
        self._next: Dump | ContentLine | None = None
        self._waiting: list[int] = []
        self._begun: set[str] = set()
        self._to_go_on: list[str] = []
        self._is_bare = False
        self.ended = self.ran = self.stored = self.submitted = 0
        self.problems: dict[str, None] = {}

    @property
    def waited(self) -> int:
        return len(self._waiting) + len(self._begun)

    def check(self) -> None:
        """Read all lines. Raises InvalidParams: one is refused."""
        self._codec.renew()
        at, seal = 0, _Seal(self._codec)
        for n, line in enumerate(self._source, 1):
            try:
                item = read_line(line) if line.strip() else None
                if isinstance(item, ContentLine) and item.piece in _GROUPS:
                    _GROUPS[item.piece].check(item.name, item.content)
            except InvalidParams as error:
                raise InvalidParams(f"line {n}: {error}; nothing was stored") from None
            if isinstance(item, ContentLine) and item.piece == "seal":
                seal.close(item.content)
            elif item is not None:
                seal.add(line)
            if isinstance(item, Dump):
                self._count(item, at)
            at += len(line)
        if seal.is_open and self._codec.has_retired:
            self._is_bare = True
            self._waiting, self._begun = [], set()
            self.problems = {_FORMER_KEY: None}

    def _count(self, dump: Dump, at: int) -> None:
        if not self._codec.has_key_of(dump.args):
            self.problems[_OTHER_KEY] = None
        state = dump.snapshot.state
        if state.is_terminal:
            self.ended += 1
        elif dump.hashes.get("checkpoints"):
            self._begun.add(dump.id)
        elif state is JobState.RUNNING:
            self.ran += 1
        else:
            self._waiting.append(at)

    def store(self) -> None:
        """Store the jobs, after `check`."""
        self._store()
        for job_id in self._to_go_on:
            self._go_on(job_id)
        if self._has_waiting:
            self._submit_waiting()

    def _store(self) -> None:
        """Store the jobs that have ended and their groups, and the parts and facts of all."""
        self._source.seek(0)
        dumps: list[Dump] = []
        folders: set[str] = set()
        size = 0
        while (item := self._read()) is not None:
            if isinstance(item, ContentLine):
                if item.piece in _GROUPS:
                    self._restore(dumps)
                    dumps = []
                    self._call(_GROUPS[item.piece].restore, self._verbs.store, item.name, item.content)
                else:
                    is_of_job = item.piece != "file" or item.name.rpartition("/")[0] in folders
                    self._put(item, is_wanted=is_of_job and not self._is_bare)
                continue
            if len(dumps) >= _SLICE or size > _SLICE_BYTES:
                self._restore(dumps)
                dumps, folders, size = [], set(), 0
            item = item.bare() if self._is_bare else item
            if self._has_waiting and item.id in self._begun:
                item = item.stopped("it was moved to another server, where a new job goes on")
            if item.snapshot.is_terminal:
                dump, has_files = self._call(self._belongings.adopted, item)
                folders |= {dump.folder} if has_files else set()
                dumps.append(dump)
                fields = itertools.chain(dump.bodies.values(), *(each.values() for each in dump.hashes.values()))
                size += sum(map(len, (dump.args, dump.result, *fields)))
        self._restore(dumps)

    def _submit_waiting(self) -> None:
        """Submit the jobs that were waiting, oldest first: they may need each other."""
        found: list[Submission] = []
        for at in reversed(self._waiting):
            self._source.seek(at)
            dump = Dump.from_line(self._source.readline())
            found.append(Submission(dump.snapshot.spec, dump.args, tuple(map(Blob, dump.parts))))
            if len(found) >= _SLICE or sum(len(each.payload) for each in found) > _SLICE_BYTES:
                self._submit(found)
                found = []
        self._submit(found)

    def _read(self) -> Dump | ContentLine | None:
        item, self._next = self._next, None
        while item is None and (line := self._source.readline()):
            item = read_line(line) if line.strip() else None
        return item

    def _put(self, first: ContentLine, *, is_wanted: bool) -> None:
        chunks = self._chunks(first)
        try:
            if is_wanted:
                self._call(self._belongings.put, first.piece, first.name, chunks)
        except InvalidParams as error:
            self.problems[str(error)] = None
        except ContentGone:
            self.problems[f"a {word_of(first.name)} is not whole in the export, and was left out"] = None
        with contextlib.suppress(ContentGone):
            for _ in chunks:
                pass

    def _chunks(self, piece: ContentLine) -> Iterator[bytes]:
        """Yield the bytes of a content. Raises ContentGone if other lines follow before its end."""
        yield piece.content
        while piece.more:
            item = self._read()
            if not isinstance(item, ContentLine) or (item.piece, item.name) != (piece.piece, piece.name):
                self._next = item
                raise ContentGone(f"{piece.name} is not whole")
            piece = item
            yield piece.content

    def _restore(self, dumps: Sequence[Dump]) -> None:
        if dumps:
            stored = self._call(restore, self._verbs.store, dumps)
            self._call(self._belongings.restored, dumps)
            for dump, is_new in zip(dumps, stored, strict=True):
                if dump.id not in self._begun:
                    self.stored += is_new
                elif is_new:
                    self._to_go_on.append(dump.id)

    def _go_on(self, job_id: str) -> None:
        try:
            self._kit.retry(job_id, from_checkpoint=True)
            self.submitted += 1
        except JobkitError as error:
            self.problems[f"job {job_id} does not go on by itself: {error}"] = None

    def _submit(self, submissions: Sequence[Submission]) -> None:
        replies = self._call(self._verbs.sender.submit_many, submissions) if submissions else []
        self.submitted += sum(reply.created_ms > 0 for reply in replies)
        for submission, reply in zip(submissions, replies, strict=True):
            if reply.lacks:
                self.problems[f"job {submission.spec.id} was left out: large parts of its arguments are missing"] = None
