"""Why a function cannot be sent to a worker: the variable that it uses, and what to do instead."""

from __future__ import annotations

import builtins
import dis
import functools
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator
from typing import Any

from jobkit.importable import is_importable
from jobkit.model import InvalidParams

#: Functions of libraries are not searched: their variables mean nothing to the user.
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})

#: Maximum number of functions between the submitted one and the variable.
_DEPTH = 5


def told(function: Any, encode: Callable[[Any], object]) -> InvalidParams | None:
    """Return the error that names the variable for which a function cannot be sent; None if no variable is the cause.

    Args:
        encode: raises InvalidParams for a value that cannot be sent.
    """
    found = _search(function, encode, set(), _DEPTH)
    if found is None:
        return None
    chain, name, value, where, error = found
    chain = ["the lambda" if each == "<lambda>" else f"`{each}`" for each in chain]
    uses = f"{chain[0]} uses {', which uses '.join([*chain[1:], f'`{name}`'])}"
    if type(value).__module__.startswith("jobkit.client."):  # it says itself what to do
        return InvalidParams(f"{uses}, {where}: {error}", name)
    return InvalidParams(
        f"{uses} ({kind_of(value)}), {where}, which cannot be sent: {_hint(value)} inside {chain[-1]}", name
    )


def kind_of(value: Any) -> str:
    """Return the type of a value as people write it: `sqlite3.Connection`, `lock`, `module`."""
    kind = type(value)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__.removeprefix('_')}."
    return f"{module}{kind.__qualname__}"


def _hint(value: Any) -> str:
    return (
        "open it"
        if callable(getattr(value, "close", None)) and not isinstance(value, types.GeneratorType)
        else "make it"
    )


def advice(value: Any) -> str:
    """Return what to do about an argument that cannot be sent, behind the reason; "" for a container of others."""
    if isinstance(value, (list, tuple, dict, set)):
        return ""
    return "; give a list" if isinstance(value, types.GeneratorType) else f"; {_hint(value)} inside the function"


#: Names of the functions on the way, name, value and place of the variable, and why it cannot be sent.
_Found = tuple[list[str], str, Any, str, InvalidParams]


def _search(function: Any, encode: Callable[[Any], object], seen: set[int], depth: int) -> _Found | None:
    for plain in _functions(function):
        if id(plain) in seen or not depth or plain.__code__.co_filename.startswith(_LIBRARIES):
            continue
        seen.add(id(plain))
        for name, value, where in _variables(plain):
            try:
                encode(value)
            except InvalidParams as error:
                deeper = _search(value, encode, seen, depth - 1)
                if deeper is not None:
                    return [plain.__name__, *deeper[0]], *deeper[1:]
                return [plain.__name__], name, value, where, error
    return None


def _functions(value: Any) -> Iterator[types.FunctionType]:
    """Yield the plain functions of a callable: itself, what a partial or a method calls, methods of a class."""
    if isinstance(value, functools.partial):
        yield from _functions(value.func)
    elif isinstance(value, types.MethodType):
        yield from _functions(value.__func__)
    elif isinstance(value, type):
        for item in vars(value).values():
            if isinstance(item, types.FunctionType):
                yield item
    elif isinstance(wrapped := getattr(value, "__wrapped__", None), types.FunctionType):
        yield wrapped
    if isinstance(value, types.FunctionType):
        yield value


def _variables(function: types.FunctionType) -> Iterator[tuple[str, Any, str]]:
    """Yield name, value and place of each variable that travels with a function."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents, "a variable around it"
        except ValueError:  # not assigned yet
            continue
    if function.__module__ is None or not is_importable(function.__module__):
        where = f"a global of {_program()}"
        for name in sorted(_globals_of(function.__code__)):
            if name in function.__globals__:
                yield name, function.__globals__[name], where
    for name, value in (function.__kwdefaults__ or {}).items():
        yield name, value, "the default of a parameter"
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    for name, value in zip(names[len(names) - len(defaults) :], defaults, strict=True):
        yield name, value, "the default of a parameter"


def _globals_of(code: types.CodeType) -> set[str]:
    names = {str(each.argval) for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL"}
    return names.union(*(_globals_of(each) for each in code.co_consts if isinstance(each, types.CodeType)))


def _program() -> str:
    if hasattr(builtins, "__IPYTHON__"):
        return "the notebook"
    return "the script" if hasattr(sys.modules.get("__main__"), "__file__") else "this session"
