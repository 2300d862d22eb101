"""The state of the git repository that a program is in: commit, branch, changed files and the diff.

git gets little time, and its output has a limit, so that a huge or slow repository costs no more. It takes no locks,
and starts none of the programs that the configuration of a repository may name: hooks, filters, file monitors, external
diffs and transports, nor git inside of a submodule, which has its own configuration.
If it cannot say something, `GitFacts.problem` says why; nothing is raised.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from msgspec.structs import replace

from jobkit.features.provenance.made_by import GitFacts
from jobkit.model.format import size
from jobkit.tasks.masking import is_secret_name, masked

#: Seconds for all calls of git together.
LIMIT_S = 5.0

#: Bytes that are read of git's output, characters of a kept diff, and of one file in it, at most.
_READ_MOST, _DIFF_MOST, _FILE_MOST = 5_000_000, 500_000, 100_000
_FILES_MOST = 200

#: Submodules that are looked into, at most.
_SUBMODULES_MOST = 50

#: Files whose content is not kept: the outputs in a notebook change with each save, and keys are secret.
_LEFT_OUT = (".ipynb", ".pem", ".key", ".p12", ".pfx", ".env")

#: Without file monitors and hooks: also a diff that refreshes the index would call one.
_COMMAND = (
    "git",
    *("-c", "core.quotePath=false"),
    *("-c", "core.fsmonitor=false"),
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "diff.autoRefreshIndex=false"),
)

#: Nor does it fetch what a partial clone lacks.
_ENVIRON = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}


def root_of(directory: str) -> str:
    """Return the root of the work tree that a directory is in, "" if it is in none."""
    try:
        path = Path(directory).resolve()
        return next((str(each) for each in (path, *path.parents) if (each / ".git").exists()), "")
    except OSError:
        return ""


def watched(root: str) -> list[str]:
    """Return the files of git that change with a commit, a checkout or a change of the index."""
    folder = _folder(root)
    return [str(folder / name) for name in ("HEAD", "index", "logs/HEAD")]


def state_of(root: str, *, has_diff: bool = True) -> tuple[GitFacts, str]:
    """Return the state of the repository at `root`, and its diff. Takes little longer than `LIMIT_S` seconds."""
    git = _Git(root)
    try:
        status = git.status()
    except _NoAnswer as problem:
        return replace(known(root), problem=str(problem)), ""
    head, changed, untracked = _read_status(status)
    changed += [line for path in git.submodules() if (line := f"M {path}") not in changed and git.is_dirty(path)]
    files = [*changed, *(f"? {path}" for path in untracked)]
    facts = GitFacts(
        root=root,
        commit=head.get("branch.oid", "").replace("(initial)", ""),
        branch=head.get("branch.head", "").replace("(detached)", ""),
        is_dirty=bool(files),
        changed=tuple(files[:_FILES_MOST]),
        more=max(0, len(files) - _FILES_MOST),
    )
    if not files or not has_diff:
        return facts, ""
    sections: list[str] = []
    try:
        if facts.commit and changed:
            options = ("--no-color", "--no-ext-diff", "--no-textconv", "--submodule=short", "--ignore-submodules=dirty")
            sections = _sections(git.output("diff", *options, "HEAD").decode("utf-8", "replace"))
    except _NoAnswer as problem:
        facts = replace(facts, note=str(problem))
    sections += filter(None, (_new_file(root, path) for path in untracked[:_FILES_MOST]))
    diff, left_out = _kept(sections)
    note = f"left out: {', '.join(left_out[:20])}{' and more' if len(left_out) > 20 else ''}" if left_out else ""
    return replace(facts, note=facts.note or note), diff


class _NoAnswer(Exception):
    """Why git did not answer, as a sentence."""


#: Commands that run now, which end with this process.
_running: set[subprocess.Popen[bytes]] = set()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_running.clear)

#: This process ends: a command that its thread still starts ends at once.
_is_over = threading.Event()


@atexit.register
def _end() -> None:
    _is_over.set()
    for process in list(_running):
        _kill(process)


class _Git:
    """Calls of git in one repository, for a limited time."""

    def __init__(self, root: str, deadline: float | None = None) -> None:
        self._root, self._deadline = root, deadline or time.monotonic() + LIMIT_S
        self._settings: list[str] = []

    def status(self) -> str:
        """Return the state of the work tree; later commands run without filters of files, too. Raises _NoAnswer."""
        self._turn_off_filters()
        options = ("--porcelain=v2", "--branch", "-z", "--ignore-submodules=dirty")
        return self.output("status", *options).decode("utf-8", "replace")

    def submodules(self) -> list[str]:
        """Return the paths of submodules that are checked out."""
        if not os.path.isfile(os.path.join(self._root, ".gitmodules")):
            return []
        wanted = ("--null", "--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$")
        with contextlib.suppress(_NoAnswer):
            found = os.fsdecode(self.output("config", *wanted)).split("\0")[:_SUBMODULES_MOST]
            paths = [item.partition("\n")[2] for item in found]
            return [path for path in paths if path and os.path.exists(os.path.join(self._root, path, ".git"))]
        return []

    def is_dirty(self, path: str) -> bool:
        """Return whether tracked files of a submodule have changed, or untracked ones are there; False if unknown."""
        inner = _Git(os.path.join(self._root, path), self._deadline)
        with contextlib.suppress(_NoAnswer):
            return any(_read_status(inner.status())[1:])
        return False

    def _turn_off_filters(self) -> None:
        listed = self.output("config", "--null", "--name-only", "--get-regexp", r"^filter\.", allowed=(0, 1))
        for name in dict.fromkeys(os.fsdecode(listed).split("\0")[:-1]):
            if "=" in name:  # `-c` would set another one
                raise _NoAnswer(f"git has a filter with a name that cannot be turned off: {name[:100]}")
            self._settings += ["-c", f"{name}={'false' if name.endswith('.required') else ''}"]

    def output(self, *arguments: str, allowed: Sequence[int] = (0,)) -> bytes:
        """Return what a command of git prints, at most `_READ_MOST` bytes.

        Raises _NoAnswer, also if the command ends with a code that is not `allowed`.
        """
        try:
            process = subprocess.Popen(
                [*_COMMAND, *self._settings, *arguments], cwd=self._root, env={**os.environ, **_ENVIRON},
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError:
            raise _NoAnswer("git is not installed, so changes are not known") from None
        except OSError as error:
            raise _NoAnswer(f"git could not be started ({error.strerror or error})") from None
        except RuntimeError:  # the interpreter is ending, and starts no process
            raise _NoAnswer("git had not answered when the process ended") from None
        _running.add(process)
        timer = threading.Timer(max(0.0, self._deadline - time.monotonic()), _kill, [process])
        timer.name, timer.daemon = "jobkit-git", True
        try:
            timer.start()
        except RuntimeError:  # the interpreter is ending, and starts no thread
            _is_over.set()
        if _is_over.is_set():
            _kill(process)
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            content = process.stdout.read(_READ_MOST)
            is_cut = len(content) == _READ_MOST
            if is_cut:
                _kill(process)
            said = process.stderr.read(2_000).decode("utf-8", "replace")
        timer.cancel()
        _running.discard(process)
        if process.returncode not in allowed and not is_cut:
            raise _NoAnswer(self._why(said))
        return content

    def _why(self, said: str) -> str:
        if time.monotonic() >= self._deadline:
            return f"git took longer than {LIMIT_S:g} s, so changes are not known"
        if "dubious ownership" in said:
            return (
                f"git refuses {self._root}, which belongs to another user; "
                f"`git config --global --add safe.directory {self._root}` allows it"
            )
        return f"git said: {(said.strip().splitlines() or ['nothing'])[0][:300]}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill git with what it has started, which would keep its output open."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.returncode is None and hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        elif process.returncode is None:  # on Windows
            process.kill()


def _read_status(text: str) -> tuple[dict[str, str], list[str], list[str]]:
    """Return headers, changed files like "M train.py" and untracked files of `git status --porcelain=v2 -z`."""
    head: dict[str, str] = {}
    changed: list[str] = []
    untracked: list[str] = []
    items = iter(text.split("\0"))
    for item in items:
        kind, _, rest = item.partition(" ")
        if kind == "#":
            name, _, value = rest.partition(" ")
            head[name] = value
        elif kind == "?":
            untracked.append(rest)
        elif kind in ("1", "2", "u"):
            states, *fields = rest.split(" ", {"1": 7, "2": 8, "u": 9}[kind])
            changed.append(f"{states.replace('.', '')[-1:]} {fields[-1]}")
            if kind == "2":
                next(items, "")  # the name that it had
    return head, changed, untracked


def _sections(diff: str) -> list[str]:
    """Return the parts of a diff, one for each file."""
    return re.split(r"(?m)^(?=diff --git )", diff)[1:]


def _new_file(root: str, path: str) -> str:
    """Return the diff of an untracked Python file, "" for others and for links, which may lead anywhere."""
    if not path.endswith(".py") or os.path.islink(os.path.join(root, path)):
        return ""
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            lines = file.read(_FILE_MOST + 1).splitlines()
    except OSError:
        return ""
    head = (
        f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{len(lines)} @@\n"
    )
    return head + "".join(f"+{line}\n" for line in lines)


def _kept(sections: Iterable[str]) -> tuple[str, list[str]]:
    """Return the diff to keep, its secrets masked, and the files that it lacks."""
    kept, left_out, total = [], [], 0
    for section in sections:
        name = section.split("\n", 1)[0].rpartition(" b/")[2]
        base, ending = os.path.splitext(os.path.basename(name))
        is_shown = ending not in _LEFT_OUT and base not in _LEFT_OUT and not (is_secret_name(base) and ending != ".py")
        if is_shown and len(section) <= _FILE_MOST and total + len(section) <= _DIFF_MOST:
            kept.append(masked(section))
            total += len(section)
        else:
            left_out.append(f"{name} ({size(len(section))})" if is_shown else name)
    return "".join(kept), left_out


def _folder(root: str) -> Path:
    """Return the directory of git for a work tree, which is elsewhere for submodules and `git worktree`."""
    path = Path(root, ".git")
    try:
        if path.is_file():
            return Path(root, path.read_text("utf-8").removeprefix("gitdir:").strip())
    except (OSError, ValueError):
        pass
    return path


def known(root: str) -> GitFacts:
    """Return commit and branch as the files of git have them, without its program."""
    folder, commit, branch = _folder(root), "", ""
    try:
        commit = (folder / "HEAD").read_text("utf-8").strip()
        if commit.startswith("ref: "):
            ref, commit = commit[5:], ""
            branch = ref.removeprefix("refs/heads/")
            common = folder / "commondir"
            shared = folder / common.read_text("utf-8").strip() if common.exists() else folder
            commit = next(filter(None, _commits(shared, ref)), "")
    except (OSError, ValueError):
        pass
    return GitFacts(root=root, commit=commit, branch=branch)


def _commits(folder: Path, ref: str) -> Iterator[str]:
    """Yield the commit of a reference, from its own file or the file of all packed ones."""
    if (own := folder / ref).is_file():
        yield own.read_text("utf-8").strip()
    if (packed := folder / "packed-refs").is_file():
        for line in packed.read_text("utf-8").splitlines():
            if line.endswith(f" {ref}"):
                yield line.split(" ", 1)[0]
