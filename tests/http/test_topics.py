"""Which topics a selector means, and that no selector costs more than its length times the topic's."""

from __future__ import annotations

import pytest

from jobkit.http.topics import BadSelector, new, old

HUB = "https://hub.example/.well-known/mercure"


@pytest.mark.parametrize(
    ("selector", "topic", "is_meant"),
    [
        ("*", "anything", True),
        ("a", "a", True),
        ("a", "A", False),
        ("https://e.com/{id}", "https://e.com/1", True),
        ("https://e.com/{id}", "https://e.com/1/2", False),
        ("https://e.com/{id}", "https://e.com/", True),
        ("https://e.com/{id}/x", "https://e.com/1/x", True),
        ("https://e.com/{a}-{b}", "https://e.com/1-2-3", True),
        ("https://e.com/{+path}", "https://e.com/1/2", True),
        ("https://e.com{/path*}", "https://e.com/1/2", True),
        ("https://e.com/{id}{?q}", "https://e.com/1?q=2", True),
        ("https://e.com/{id}", "https://e.com/{id}", True),
        ("https://e.com/{id}", "https://e.org/1", False),
        ("https://e.com/é{id}", "https://e.com/é1", True),
    ],
)
def test_selectors_of_the_old_protocol(selector: str, topic: str, is_meant: bool) -> None:
    assert old(selector).matches(topic) is is_meant


@pytest.mark.parametrize(
    ("pattern", "topic", "is_meant"),
    [
        ("*", "anything", True),
        ("https://e.com/:id", "https://e.com/1", True),
        ("https://e.com/:id", "https://e.com/", False),
        ("https://e.com/:id", "https://e.com/1/2", False),
        ("https://e.com/*", "https://e.com/1/2?q#f", True),
        ("https://e.com/a?q=*", "https://e.com/a?q=1", True),
        ("https://e.com/a?q=*", "https://e.com/a", False),
        ("https://*.e.com/a", "https://x.e.com/a", True),
        ("https://:sub.e.com/a", "https://x.y.e.com/a", False),
        ("http*://e.com/a", "https://e.com/a", True),
        ("https://E.com/a", "https://e.COM/a", True),
        ("https://e.com/a", "https://e.com/A", False),
        ("/books/:id", "https://hub.example/books/1", True),
        ("/books/:id", "/books/1", True),
        ("/books/:id", "https://e.com/books/1", False),
        ("https://e.com/:a-:b", "https://e.com/1-2", True),
        ("https://e.com/a", "https://[bad", False),
    ],
)
def test_url_patterns_of_the_new_protocol(pattern: str, topic: str, is_meant: bool) -> None:
    assert new("urlpattern", pattern, HUB).matches(topic) is is_meant


@pytest.mark.parametrize(
    "bad", ["", "a\n", "a\u200b", "a" * 4097, "\udc80", 5, None, "{a", "{a}b}", "{a b}", "{}", "x{a}" * 150]
)
def test_selectors_that_cannot_be_understood_are_refused(bad: object) -> None:
    with pytest.raises(BadSelector):
        old(bad)


@pytest.mark.parametrize("bad", ["(.*)", "/a{b}?", ":a+", "/x\\:y", "/:a" * 150])
def test_patterns_that_would_need_an_engine_are_refused(bad: str) -> None:
    with pytest.raises(BadSelector):
        new("urlpattern", bad, HUB)


def test_the_worst_selectors_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: how often a character is looked at."""
    from jobkit.http import topics

    looked = 0

    def counting(c: str) -> bool:
        nonlocal looked
        looked += 1
        return True

    monkeypatch.setattr(topics, "_ANY", counting)
    pieces = topics._pieces("*a" * 90 + "*b", "")
    text = "a" * 4000

    assert not topics.follows(pieces, text)
    assert looked <= len(pieces) * (len(text) + 1)
