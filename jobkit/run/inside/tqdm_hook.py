"""Any tqdm in a job reports as progress, with no code change. So do rich's bars, see `rich_hook`.

tqdm's classes are patched where a bar is made, looped over, drawn and closed. In a job the loop looks at one flag
instead of tqdm's numbers, which is cheaper than tqdm's own. A bar made outside a job stays exactly what it was. Nothing
is imported for this: an import hook waits for the modules, whatever imports them and when.
"""

from __future__ import annotations

import functools
import importlib.machinery
import sys
import weakref
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import Any

from jobkit.run.inside.context import Context, active
from jobkit.run.inside.recorder import Bar, Recorder

_PATCHES = {"tqdm.std": "_patch_std", "tqdm.notebook": "_patch_notebook", "rich.progress": "_patch_rich"}


#: Whether tqdm may start its thread that draws bars which seem to be stuck.
_has_monitor = True


def install(*, has_monitor: bool = True) -> None:
    """See to it that tqdm and rich, loaded or yet to be, report to the job they run in.

    Args:
        has_monitor: False in a process that runs nothing but jobs, whose bars are seen to anyway: without its thread a
            process can be used for another job.
    """
    global _has_monitor
    _has_monitor = has_monitor
    if not has_monitor and "tqdm.std" in sys.modules:
        sys.modules["tqdm.std"].tqdm.monitor_interval = 0
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    for name in _PATCHES:
        module = sys.modules.get(name)
        if module is not None:
            _patch(name, module)
    sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Lets the usual finder find these modules, and patches them once they are loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader  # the module must look as if it had not been hooked
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _patch(module.__name__, module)


def _patch(name: str, module: ModuleType) -> None:
    globals()[_PATCHES[name]](module)


class _Nowhere:
    """The file of a bar in a job: its text goes nowhere."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


_NOWHERE = _Nowhere()


def _watch(tqdm: Any, context: Context) -> None:
    """Give a new tqdm its bar in the job."""
    recorder = context.recorder
    if recorder is None or tqdm.disable:
        return
    known = weakref.ref(tqdm)

    def poke() -> None:
        # tqdm learns how many iterations it may skip before it looks at the clock. After a fast stretch that can be
        # seconds of slow ones, so let it look now.
        bar = known()
        if bar is not None and getattr(bar, "dynamic_miniters", False):
            bar.miniters = 0

    bar = Bar("", tqdm.total, poke)
    tqdm.__dict__["_jobkit"] = bar, recorder
    _read(tqdm, bar)
    recorder.open_bar(bar)


def _read(tqdm: Any, bar: Bar) -> None:
    bar.done, bar.total = tqdm.n, tqdm.total
    desc = (tqdm.desc or "").removesuffix(": ")
    bar.message = f"{desc} {tqdm.postfix}".strip() if tqdm.postfix else desc


def _report(tqdm: Any) -> None:
    watched = tqdm.__dict__["_jobkit"]
    if watched is not None:  # None: still in its constructor, or switched off
        bar, recorder = watched
        _read(tqdm, bar)
        recorder.moved()


def _counted(tqdm: Any, bar: Bar, recorder: Recorder) -> Iterator[Any]:
    """The loop of a bar. As in tqdm's own, what `update` adds meanwhile counts as well."""
    done = told = 0
    try:
        for item in tqdm.iterable:
            yield item
            done += 1
            if bar.due:
                bar.due = False
                tqdm.n += done - told
                told = done
                _read(tqdm, bar)
                recorder.moved()
    finally:
        tqdm.n += done - told
        tqdm.close()


def _quiet(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a bar that shall draw nothing on standard output or error, and be on unless switched off."""
    if len(args) < 5 and kwargs.get("file") in (None, sys.stdout, sys.stderr):
        kwargs["file"] = _NOWHERE
    if kwargs.get("disable", False) is None:  # "off unless on a terminal"
        kwargs["disable"] = False
    return kwargs


def _patch_rich(module: ModuleType) -> None:
    from jobkit.run.inside import rich_hook

    rich_hook.patch(module)


def _patch_std(module: ModuleType) -> None:
    cls: Any = module.tqdm
    if not _has_monitor:
        cls.monitor_interval = 0
    init, iterate = cls.__init__, cls.__iter__
    refresh, display, close = cls.refresh, cls.display, cls.close

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        context = active()
        if context is None:
            init(self, *args, **kwargs)
            return
        self.__dict__["_jobkit"] = None  # from now on nothing draws
        init(self, *args, **_quiet(args, kwargs))
        _watch(self, context)

    def __iter__(self: Any) -> Iterator[Any]:
        watched = None if self.disable else self.__dict__.get("_jobkit")
        return iterate(self) if watched is None else _counted(self, *watched)

    def patched_refresh(self: Any, nolock: bool = False, lock_args: Any = None) -> Any:
        if "_jobkit" not in self.__dict__:
            return refresh(self, nolock=nolock, lock_args=lock_args)
        _report(self)
        return True

    def patched_display(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "_jobkit" not in self.__dict__:
            return display(self, *args, **kwargs)
        return True

    def patched_close(self: Any) -> None:
        watched = None if getattr(self, "disable", True) else self.__dict__.get("_jobkit")
        close(self)
        if watched is not None:
            bar, recorder = watched
            _read(self, bar)
            recorder.close_bar(bar)

    patched: dict[str, tuple[Any, Any]] = {
        "__init__": (__init__, init),
        "__iter__": (__iter__, iterate),
        "refresh": (patched_refresh, refresh),
        "display": (patched_display, display),
        "close": (patched_close, close),
    }
    for name, (method, original) in patched.items():
        setattr(cls, name, functools.wraps(original)(method))


def _patch_notebook(module: ModuleType) -> None:
    """A notebook bar in a job has no widget: it is a plain bar with another name."""
    cls: Any = module.tqdm_notebook
    std = cls.__mro__[1]
    init = cls.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if active() is None:
            init(self, *args, **kwargs)
            return
        kwargs.pop("display", None)
        self.disp = lambda *_, **__: None
        std.__init__(self, *args, **kwargs)

    __init__.__doc__ = init.__doc__
    cls.__init__ = __init__
    for name in ("display", "close", "reset", "clear"):
        setattr(cls, name, _plain_in_a_job(getattr(cls, name), getattr(std, name)))


def _plain_in_a_job(own: Any, plain: Any) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return (plain if "_jobkit" in self.__dict__ else own)(self, *args, **kwargs)

    method.__doc__ = own.__doc__
    method.__name__ = own.__name__
    return method
