"""The search box: a text as a query, or the sentence that says what is wrong with it. Pure."""

from __future__ import annotations

from jobkit.model import InvalidParams
from jobkit.store.grammar import parse
from jobkit.store.query import Query


def read_search(text: str, order: str = "", cursor: str = "", limit: int = 50) -> tuple[Query, str]:
    """Return the query of all arguments and "", or an empty query and the sentence that says what is wrong."""
    try:
        return parse(text, Query(order=order, limit=limit, cursor=cursor)).checked(), ""
    except InvalidParams as error:
        return Query(limit=0), str(error)
