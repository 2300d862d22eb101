"""Options of a submission in a form: name, default and a line of explanation of each, and what users type into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jobkit.model import InvalidParams
from jobkit.model.format import duration, number, size
from jobkit.model.limits import resources_text
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.options import MAX_PRIORITY, JobOptions, check_submit_options
from jobkit.tasks.specs import number as number_in

#: What may be typed, the task's own value, and a line of explanation, by option.
_SHOWN: Mapping[str, tuple[str, Callable[[JobOptions], str], str]] = {
    "queue": ("name", lambda of: of.queue or "default", "Workers that serve this queue run the job."),
    "priority": (
        f"−{MAX_PRIORITY:,} to {MAX_PRIORITY:,}",
        lambda of: number(of.priority),
        "Jobs of a queue with a higher number start first.",
    ),
    "delay": ("seconds, or like 10m", lambda of: "0", "It starts at the earliest after this time."),
    "timeout": (
        "seconds, or like 10m",
        lambda of: duration(of.timeout_s) or "none",
        "An attempt that runs longer is stopped, and fails.",
    ),
    "retries": ("whole number", lambda of: number(of.retries), "If it fails, it runs again at most this often."),
    "memory_limit": (
        "like 2GB",
        lambda of: size(of.memory_limit_bytes) or "none",
        "An attempt that needs more memory is stopped, and fails.",
    ),
    "resources": (
        "like gpu=1,license=2",
        lambda of: resources_text(of.resources) or "none",
        "It starts on a worker that has so much of them free.",
    ),
    "tags": ("comma-separated", lambda of: ", ".join(of.tags) or "none", "Words to find the job again: tag:nightly."),
}

#: Options that are numbers if they look like one.
_NUMBERS = frozenset({"delay", "priority", "timeout", "retries"})


def options_of(info: TaskInfo) -> list[tuple[str, str, str, str]]:
    """Return name, what may be typed, explanation and the task's own value of each option, for `form.js`."""
    return [(name, typed, about, usual(info.options)) for name, (typed, usual, about) in _SHOWN.items()]


def read_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return `(options, errors)`: options and the earliest start as they were typed; empty ones are left out."""
    out: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name in ("at", *_SHOWN):
        text = str(options.get(name) or "").strip()
        value: Any = number_in(text) if name in _NUMBERS else text
        if name == "tags":
            value = [tag.strip() for tag in text.split(",") if tag.strip()]
        if not text or value == [] or (name == "delay" and value == 0):
            continue
        try:
            check_submit_options({**out, name: value})
            out[name] = value
        except InvalidParams as error:
            errors["" if name == "at" else f"option:{name}"] = str(error)
    return out, errors
