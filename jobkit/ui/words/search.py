"""The search box: what a text asks for, or what is wrong with it. Pure."""

from __future__ import annotations

from jobkit.model import InvalidParams
from jobkit.store.grammar import parse
from jobkit.store.query import Query


def read_search(text: str, order: str = "", cursor: str = "", limit: int = 50) -> tuple[Query, str]:
    """The query that all of them ask for and "", or the sentence that says what is wrong with them."""
    try:
        return parse(text, Query(order=order, limit=limit, cursor=cursor)).checked(), ""
    except InvalidParams as error:
        return Query(limit=0), str(error)
