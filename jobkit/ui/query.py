"""The search box: what a text asks for, of whom, or what is wrong with it. Pure."""

from __future__ import annotations

from dataclasses import replace

from jobkit.model import InvalidParams
from jobkit.store.base import Query
from jobkit.store.grammar import parse
from jobkit.store.query import is_pattern


def only_of(query: Query, owner: str | None) -> Query:
    """The same query for somebody who sees the jobs of `owner` alone; None for who sees all."""
    if owner is None:
        return query
    return replace(query, owner="\x00nobody" if is_pattern(owner) else owner)  # a name, whatever it is made of


def read_search(text: str, order: str = "", cursor: str = "", limit: int = 50) -> tuple[Query, str]:
    """The query that all of them ask for and "", or the sentence that says what is wrong with them."""
    try:
        return parse(text, Query(order=order, limit=limit, cursor=cursor)).checked(), ""
    except InvalidParams as error:
        return Query(limit=0), str(error)
