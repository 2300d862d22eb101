"""`display()` and `plt.show()` in a job: pictures in the order of their first calls."""

from __future__ import annotations

from types import SimpleNamespace

from jobkit.features.figures import patches
from jobkit.run.inside.context import CURRENT, Context
from jobkit.ui.card.downloads import placed


class Shown:
    """A recorder that keeps the names of pictures."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def show(self, name: str, obj: object) -> None:
        self.names.append(name)


def test_objects_are_numbered_by_the_place_of_their_call() -> None:
    shown = Shown()
    token = CURRENT.set(Context("1", 1, "t", shown))  # type: ignore[arg-type]  # as much of one as is used
    try:
        for k in range(2):
            patches.display(k, k + 1)
        patches.display("named", display_id="mine")
        for k in range(9):
            patches.display(k) if k else patches.display(0)
    finally:
        CURRENT.reset(token)

    assert shown.names[:5] == ["output 1", "output 2", "output 1", "output 2", "mine"]
    assert shown.names[-2:] == ["output 3", "output 3"]


def test_show_of_libraries_shows_in_a_job_and_elsewhere_does_what_it_did() -> None:
    said: list[object] = []
    library = SimpleNamespace(show=said.append)
    patches._patch_show(library)
    shown = Shown()

    library.show("elsewhere")
    token = CURRENT.set(Context("1", 1, "t", shown))  # type: ignore[arg-type]  # as much of one as is used
    try:
        library.show("one")
        library.show("two")
        exec(
            compile("show('inside the library')", "basedatatypes.py", "exec"), {"__name__": "plotly.x", **vars(library)}
        )
    finally:
        CURRENT.reset(token)

    assert said == ["elsewhere"]
    assert shown.names == ["figure 1", "figure 2", "figure 3"]


def test_pictures_with_a_name_come_first_and_others_in_the_order_of_their_first_calls() -> None:
    names = ["output 10", "figure 2", "samples", "output 1", "curve"]

    assert sorted(names, key=placed) == ["curve", "samples", "output 1", "figure 2", "output 10"]
