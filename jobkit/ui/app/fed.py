"""`fed`: builds a page of a dashboard that reads while it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import param

from jobkit.ui.live.page import PageSession


def fed(kind: Callable[..., Any], session: PageSession, url: Mapping[str, str] | None = None, **options: Any) -> Any:
    """Return a page that reads while it is shown. `url` has its parameters by the names of their values in the URL."""
    page = kind(
        session.kit,
        access=session.access,
        bridge=session.bridge,
        is_open=False,
        on_open=session.open,
        sizing_mode="stretch_both",
        margin=0,
        **options,
    )
    live = getattr(page, "head", page)  # of a page that is one component with figures below it
    kept = {key: live.param[name] for key, name in (url or {}).items()}

    def take(query: Mapping[str, str]) -> None:
        live.param.update(**{each.name: _valid(each, query.get(key)) for key, each in kept.items()})

    def remember(*_: object) -> None:
        values = {key: (each.default, getattr(live, each.name)) for key, each in kept.items()}
        shown = {key: "" if value == usual else value for key, (usual, value) in values.items()}
        session.remember_search(shown.pop("q", ""), **shown)

    if kept:
        take(session.query)
        session.on_query(take)
        live.param.watch(remember, [each.name for each in kept.values()])
    if "selected" in live.param:
        live.selected = session.job
        session.on_job(lambda job_id: live.param.update(selected=job_id))
    session.on_shown(lambda: live.param.update(is_open=True))
    session.on_hidden(lambda: live.param.update(is_open=False))
    return page


def _valid(parameter: param.Parameter[Any], value: str | None) -> Any:
    is_known = value is not None and (not isinstance(parameter, param.Selector) or value in parameter.objects)
    return value if is_known else parameter.default
