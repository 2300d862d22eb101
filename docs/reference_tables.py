"""Tables of the reference that are made from the code: settings, options of jobs, routes, names elsewhere."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any


def meanings(described: type) -> dict[str, str]:
    """Return what a dataclass's docstring says about each field; several fields may share a paragraph."""
    text = (described.__doc__ or "").partition("Attributes:")[2]
    text = " ".join(text.split())
    names = "|".join(each.name for each in dataclasses.fields(described))
    parts = re.split(rf"(?:(?<=[.;]) |^ ?)({names}): ", text)
    return dict(zip(parts[1::2], (each.strip() for each in parts[2::2]), strict=True))


def default_of(field: dataclasses.Field[Any]) -> str:
    """Return a field's default in code, or "" for none."""
    value = field.default_factory() if field.default is dataclasses.MISSING else field.default  # type: ignore[misc]
    return f"`{value!r}`" if value or value is False or value == 0 else ""


def settings_rows() -> Iterator[tuple[str, ...]]:
    """Yield a row for each setting."""
    from jobkit.settings import Settings

    said = meanings(Settings)
    for each in dataclasses.fields(Settings):
        default = "the user's data directory" if each.name == "home" else default_of(each)
        yield f"`{each.name}`", f"`JOBKIT_{each.name.upper()}`", default, said[each.name]


def option_rows() -> Iterator[tuple[str, ...]]:
    """Yield a row for each option of a task or a submission."""
    from jobkit.tasks.options import OPTIONS, JobOptions, SubmitOptions, TaskOptions

    said = meanings(JobOptions)
    types = {**TaskOptions.__annotations__, **SubmitOptions.__annotations__}
    for name in dict.fromkeys((*OPTIONS["task"], *OPTIONS["submission"])):
        place = "" if name in OPTIONS["task"] and name in OPTIONS["submission"] else "`options`"
        place = place if name in OPTIONS["submission"] else "`@task`"
        field = OPTIONS["task"].get(name) or OPTIONS["submission"][name]
        default = "exponential" if name == "backoff" else default_of(field)
        yield f"`{name}`", value_of(types[name].__forward_arg__), default, place, said[field.name]


def value_of(annotation: str) -> str:
    """Return the type of an option in words: "text, or a list of texts"."""
    words = annotation.replace(" | None", "")
    for pattern, word in (
        (r"Literal\[(.*?)\]", lambda found: found[1].replace("'", '"').replace(", ", " | ")),
        (r"Collection\[(.*)\]", r"a list"),
        (r"Callable\[\.\.\., Any\]", "a function"),
        (r"Mapping\[.*?\]", "a dict"),
        (r"type\[BaseException\]", "a type of exceptions"),
        (r"\bDuration\b", "a time"),
        (r"\bstr\b", "text"),
        (r"\bfloat\b", "a number"),
        (r"\bint\b", "an integer"),
        (r"\bbool\b", "true or false"),
    ):
        words = re.sub(pattern, word, words)
    return ", ".join(words.split(" | "))


def route_rows() -> Iterator[tuple[str, ...]]:
    """Yield a row for each route of the HTTP API, from the table that serves it."""
    from jobkit.http.routes import ROUTES

    for route in ROUTES:
        needs = f"`{route.scope}`" if route.scope else "a hub's token" if route.asks_itself else "nothing"
        yield f"`{route.method} {route.path}`", route.summary, needs


def name_rows() -> Iterator[tuple[str, ...]]:
    """Yield a row for each name of another library that an error message answers with jobkit's."""
    import jobkit
    from jobkit.model.neighbours import JOB, KIT, OPTIONS, TASK

    answered = {"job": JOB[1], "batch": jobkit.Batch._OTHER_NAMES[1], "study": jobkit.Study._OTHER_NAMES[1]}
    answered |= {"task": TASK[1], "kit": KIT[1], "jobkit": jobkit._OTHER_NAMES}
    for thing, names in answered.items():
        for ours in dict.fromkeys(names.values()):
            yield ", ".join(f"`{thing}.{name}`" for name, answer in names.items() if answer == ours), f"`{ours}`"
    for ours in dict.fromkeys(OPTIONS.values()):
        yield ", ".join(f"`{name}=`" for name, answer in OPTIONS.items() if answer == ours), f"`{ours}`"


def table(titles: Iterable[str], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    titles = tuple(titles)
    return [f"| {' | '.join(cells)} |" for cells in (titles, ["---"] * len(titles), *rows)]


#: The tables by name: lines of Markdown.
TABLES = {
    "settings": lambda: table(("setting", "variable", "default", "meaning"), settings_rows()),
    "options": lambda: table(("option", "value", "default", "only in", "meaning"), option_rows()),
    "names": lambda: table(("name elsewhere", "in jobkit"), name_rows()),
    "routes": lambda: table(("request", "answer", "needs"), route_rows()),
}
