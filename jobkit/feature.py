"""`Feature`: how a part of jobkit that the kernel does not know takes part in it.

A feature is a folder of `jobkit/features/` and a line in its list. The kernel and the faces name none of them; they
load a feature's modules by what they are for, when they are first used:

- `lua/`: files of the store's library. `on('ended', ...)` in them acts at a moment of a job's life, inside of the call
  that brings it about; `lua/lib/call.lua` lists the moments.
- `store.py`: verbs of the store, as a `StorePart`, which `store.part(...)` makes.
- `kit.py`: the class of its noun, and a class with the verbs that the kit itself has; `nouns.py` beside the list names
  both. Its verbs that submit stand there, too; `verbs.py` beside the list gives them to a kit and its `options(...)`,
  and `jobs.py` the verbs of a job to `Job`.
- `named.py`: what a name at the command line stands for that is no task's: `call_of(name, pairs)`, a function with its
  arguments from `["n=5"]`, or None; `names()`, the names that complete, each with a word.
- `joblib.py`: what `import jobkit.joblib` loads: a backend of joblib.
- `led.py`: of batches that its jobs lead: `title(spec)`, `NOUN` for one of the jobs, and `unbegun(job)`, the batch of
  such a job that has submitted none yet, or None; `led_card.py`: `MODEL`, a `BatchModel`.
- `routes.py`: `ROUTES` of the HTTP API, with `MODELS` as those of `jobkit/http/api/shapes.py`, if there are any.
- `commands.py`: commands of the command line.
- `facet.py`: an option of `jobkit show` for something else about a job: `NAME`, `HELP`, `show(kit, id, as_json)`.
- `token.py`: `OPTIONS` of `jobkit token`; `claims(given)` takes them out of the given options, and returns claims.
- `page.py`: `PAGE` of the dashboard, with its scripts and style sheets beside it.
- `menu.py`: a part of the menu of the list of jobs, with its script and style sheet beside it: `form(access, put)`
  makes what answers its `REQUESTS`.
- `rows.py`: rows of the list of jobs that stand for groups of them, with their script and style sheet beside it:
  `GROUPS`, a `Groups` of `jobkit/ui/jobs/groups.py`; `led(kit, ids)`, a coroutine, returns the number of jobs that go
  when these are deleted, and `delete_led(call)`, a coroutine, deletes them first.
- `card.py`: `about(store, snapshot)`, a coroutine that tells the card of a job more, by the names of the card's texts.
- `reader.py`: `about(actions, id)`, the same for one reader of the card of a job or batch.
- `requests.py`: `serve(store, codec, claimed, request, changed, pause)`, a coroutine that serves what a running job
  requests by `Recorder.request`, with replies; `here(...)`, the same for the person at the process of `sync://`.
- `card_section.py`: a section of the card of a job, with its script and style sheet beside it: `NAME`;
  `is_stale(snapshot, shown)` tells whether its data are old, and `read(kit, snapshot)`, a coroutine, returns them;
  `form(access, put)` makes what answers its requests, `ACTIONS`: each with the action that it needs.
- `history.py`: what the history of a job tells: `lines(snapshot)`, each about one `NOUN`, for saved cards and shells.
- `actions.py`: actions of the pages, which it registers when it is loaded.
- `said.py`: `said(store)`, a coroutine that returns what each page says on top while something is wrong, or "".
- `index.py`: `Index(store, hub)`, which answers queries that the store is slow at: `page`, `count` and `activity`.
- `older.py`: `place_of(settings)`, the jobs that the store no longer has: `is_there`; `page(query, now_ms)` and
  `total(query, now_ms)` block; `cure(job_id)` says how one of them comes back.
- `section.py`: a section of the page of workers, with its script and style sheet beside it: `SECTION`, its name there;
  `rows(kit)`, a coroutine that returns its data; its `ACTIONS`, and the `DETAILS` of these that the browser sends.
- `starts.py`: `expected(store, codec, jobs, lines)`, a coroutine that returns the `Start` of each job that waits.
- `fleet.py`: what starts workers while jobs wait: `source(store, codec)`, a coroutine that returns a `WorkerSource` of
  `jobkit/client/waits.py`; `is_grave(reason)` tells whether such a reason does not pass by itself; `ends_idle(store)`,
  a coroutine that tells whether idle workers are ended now, so that they need not end by themselves.
- `doctor.py`: `findings(store)`, a coroutine that returns lines of `jobkit doctor`.
- `beside.py`: `beside(store, codec, pause)`, which makes what runs beside each worker's loop: `name`; `keep()` goes on
  until cancelled; `look()` does once what is due; `wake()` is called when something may be due earlier.
- `submitter.py`: `submitter(connection)`, which names what is kept of this process with each submit: `name()` is for
  `JobSpec.made`, and blocks unless `is_ready`.
- `attempts.py`: `around(settings, worker, store, codec)`, what acts around a worker's attempts, as an `Around` of
  `jobkit/worker/attempt.py`.
- `prepare.py`: `prepare(store, claimed, codec, settings, file_store, most)`, a coroutine that returns what the code of
  a job has as `Context.prepared[NAME]`, as msgpack can send it; `most` bytes of a kind of news are kept in the store.
- `news.py`: `NEWS`, kinds of news from the code of a job to its attempt, see `jobkit/run/news.py`.
- `source.py`: `source(connection, job_id, head)`, the job that a repetition of one goes on from, and its time of
  submit.
- `made.py`: `reader(store, codec)`: `of(snapshots)`, a coroutine that returns what made each job: its `lines()`, labels
  with texts, and its `differences(other)`, sentences.
- `values.py`: values of libraries: `preview(value, preview, png_limit)` puts what shows one into its preview, and
  returns a line about it, or None for other values; `file(name, value)` returns a media type and the content of a file,
  or None; `render(value, preview, limit)`, if it is there, replaces a simple picture by the exact one.
- `patches.py`: changes of libraries in processes of jobs: `PATCHES`, functions by names of the modules that they
  change once these are loaded; `DISPLAYS`, whether they are about what a notebook would show; `own()` is called in a
  process that runs nothing but jobs.
- `contents.py`: contents in the store that go with jobs to an export or the archive: their `KIND`; `NAME`, a pattern;
  `names(dump)`, those that a job has, and `named_in(body)`, those that a content itself names; `CONTENTS`, the part of
  the store with `whole`, `keep` and `of_workers`.
- `moved.py`: groups of jobs in an export, after their jobs: `KIND` of their lines; `names(dump)`, ids of the groups of
  a job; `read(store, id)`, a coroutine, returns the content of a group, and `restore(store, id, content)` stores it;
  `check(id, content)` raises InvalidParams for a content that cannot be read.
- `told.py`: groups of jobs whose end people may be notified of: `NOUN` for a group; `of(snapshot)`, the id of the group
  of a job, or ""; `ended(store, ids)`, a coroutine, returns a sentence and the state of each group that has ended;
  `has_ended(store, id, person)`, a coroutine, tells whether a group that this person sees has ended.
- `coded.py`: `introduce(store, tasks, settings, codec)`, a coroutine that keeps what stands in the code of tasks.
- `due.py`: `waiting(store)`, the number of jobs that come by themselves, and `submit_due(store, codec)`, which submits
  those that are due and returns their ids; for places without workers.
- `options.py`: checks of options of `@task`, by their names.
- `packer.py`: `packer(task, ship, ref, roots)`, which returns the `Packer` (see `jobkit/tasks/call.py`) of a call: what
  of its code travels with it. `unpacker.py`: `unpack(head)` uses that in the process of the job, before its call is
  read.
- `settings.py`: `READERS` of settings, each with the words for its values, as in `jobkit/settings.py`.
- `env.py`: words that `env` of a submit may be beside variables, `SUBMITTED`, or that of a rerun, `REPEATED`, each with
  what it stands for; `submitted(folder, task)` and `repeated(word, connection, job, head)` return what travels with
  the call, as its `packages`.
- `places.py`: `place_of(url, home)`, the `Place` of `jobkit/files/storage.py` for a URL that values or files are kept
  at, or None for other URLs.
- `door.py`: runs the jobs of another queue's client, see `Door`: `run(path, settings, ...)` as `run_worker` does, with
  what `path` leads to, and `place_of(path, settings)`, the settings and the queue of that.
- `worker.py`: `service_of(settings, store)`, which returns None, or what runs beside each worker: `begin()` is awaited
  first, then `run()` goes on until cancelled.
- `server.py`: `run(kit, public_url)`, a coroutine that goes on as long as a server of the API.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Generic, Self, TypeVar, overload

N = TypeVar("N")


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A way in for jobs of another queue's client, which `jobkit worker --NAME PATH` runs; NAME is the feature's.

    The record of such a job has the name as its `door`, and only workers of that door claim it. Its call refers to
    `DOOR` (see `jobkit/tasks/call.py`) with the name. `NAME:{queue}` in the namespace exists while there are some.

    Attributes:
        help: of the option. path: what PATH is, in advice. keys: how keys and queues of the client begin.
    """

    help: str
    path: str
    keys: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """A feature, as its folder's `__init__.py` declares it; loads nothing by itself.

    Attributes:
        name: of its folder, and of its noun.
        parts: those of its modules that others load, by the names above without ".py".
        door: for jobs of another queue's client.
        services: settings of which each of its services, "worker" or "server", needs one.
        after: names of the features that it imports from; they are earlier in the list.
        commands: commands in its `commands.py`, each with its line in `jobkit --help`.
        leads: kind of the batches that its jobs lead: such a job has the id of the batch, and submits the others.
        hashes, lists: kinds of keys that it keeps for jobs, which go with their copies: hashes of sealed values, and
            lists of JSON objects. Its Lua adds them to `Records.KINDS`.
        scripts: scripts of the pages, each with the shared ones that it builds on.
    """

    name: str
    parts: frozenset[str] = frozenset()
    services: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    leads: str = ""
    hashes: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    scripts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    door: Door | None = None

    def load(self, part: str) -> Any:
        """Return a module of its folder."""
        return importlib.import_module(f"jobkit.features.{self.name}.{part}")


class NounOf(Generic[N]):
    """A noun as an attribute of a kit: loaded and made when it is first used, and kept with the kit.

    Args:
        make: the noun's class, or its name in the `kit.py` of the feature that has the attribute's name.
    """

    def __init__(self, make: type[N] | str) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, kit: None, owner: type) -> Self: ...
    @overload
    def __get__(self, kit: object, owner: type) -> N: ...

    def __get__(self, kit: object | None, owner: type) -> Self | N:
        if kit is None:
            return self
        if (made := vars(kit).get(self._name)) is None:
            made = vars(kit).setdefault(self._name, self._class()(kit))
        noun: N = made
        return noun

    def _class(self) -> Any:
        noun = getattr(kit_part(self._name), self._make) if isinstance(self._make, str) else self._make
        for verb, form in vars(noun).items():
            if hasattr(form, "coroutine"):  # as Python's own errors name it
                form.__wrapped__.__qualname__ = f"kit.{self._name}{'' if verb == '__call__' else f'.{verb}'}"
        return noun


class VerbOf:
    """A verb of a feature as an attribute of a kit, or of what submits for one; loaded when it is first used.

    Args:
        feature: name of the feature. path: of the function in its `kit.py`.
        shown: what has the verb, as Python's own errors and warnings name it.
    """

    def __init__(self, feature: str, path: str, shown: str = "kit") -> None:
        self._feature, self._path, self._shown = feature, path, shown

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, kit: object | None, owner: type) -> Any:
        form = attrgetter(self._path)(kit_part(self._feature))
        inspect.unwrap(getattr(form, "fget", form)).__qualname__ = f"{self._shown}.{self._name}"
        return form if kit is None else form.__get__(kit, owner)


def kit_part(feature: str) -> Any:
    """Return the module `kit` of a feature."""
    return importlib.import_module(f"jobkit.features.{feature}.kit")
