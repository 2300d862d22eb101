"""Named cases: each lets one promise stand against what endangers it most, with the outages and jobs for it alone."""

from __future__ import annotations

from dataclasses import dataclass

#: Jobs that nothing may cost their success.
_INNOCENT = ("coroutine", "long coroutine", "function", "long function")


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table.

    Attributes:
        outages: names in `outages.OUTAGES`; None: everything, by its weight. One alone happens every second or two.
        kinds: names in `kinds.KINDS`; none: the usual mix.
        place: "team" or "home". rate: submits a second.
    """

    outages: tuple[str, ...] | None = None
    kinds: tuple[str, ...] = ()
    place: str = "team"
    rate: float = 4.0


CASES: dict[str, Case] = {
    "innocents beside pills": Case((), (*_INNOCENT, "poison of the loop", "poison of the zygote")),
    "no supervisor": Case(("supervisor",), _INNOCENT, "home", 2.0),
    "no temporary folder": Case(("cleaner",), (*_INNOCENT, "large result")),
    "a full disk": Case(("full", "kill"), (*_INNOCENT, "large result"), "home", 2.0),
    "a deleted home": Case((), _INNOCENT, "home", 2.0),
    "strange ends of coroutines": Case((), (*_INNOCENT, "strange end")),
    "no descriptors": Case(("descriptors",), _INNOCENT),
    "programs that outlive": Case(("family",), (*_INNOCENT, "programs")),
    "last words": Case((), ("chatty", "chatty crash")),
    "previews that harm": Case((), (*_INNOCENT, "harmful preview", "hanging preview")),
    "strange bytes": Case(("strange_bytes",), _INNOCENT),
    "keys of another type": Case(("damage",), _INNOCENT),
    "submits without a reply": Case(("silence",), _INNOCENT, rate=8.0),
    "many followers": Case(("kill",), (*_INNOCENT, "leader of many"), rate=2.0),
    "checkpoints": Case(("kill",), ("stepwise",), rate=2.0),
    "checkpoints at home": Case(("kill", "full"), ("stepwise",), "home", 1.0),
    "studies": Case(("kill",), ("search",), rate=0.3),
    "people": Case(("kill",), ("asking",), rate=2.0),
    "a terminal that closes": Case(("hang_up",), _INNOCENT),
}
