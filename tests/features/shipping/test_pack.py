"""Modules that travel with a call: which ones, what is left out, and that none leaves its folder."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import msgspec
import pytest

from jobkit.codec import digest
from jobkit.features.shipping import packer
from jobkit.features.shipping.pack import is_here, packed, unpacked
from jobkit.features.shipping.unpacker import use
from jobkit.model import InvalidParams, SignatureError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folder of a notebook: `helper` imports `pkg.sub`, which imports `pkg.deep`."""
    files = {
        "helper.py": "from pkg import sub",
        "other.py": "",
        "lazy.py": "def f():\n    import other",
        "pkg/__init__.py": "",
        "pkg/sub.py": "from . import deep\nimport json",
        "pkg/deep.py": "",
        "pkg/unused.py": "",
        "pkg/data.csv": "1",
        "broken.py": "def (",
    }
    for name, text in files.items():
        path = tmp_path / "nb" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "nb"


def test_modules_are_found_with_all_that_they_import(root: Path) -> None:
    found = packer.closure(["helper"], [str(root)])

    assert sorted(found) == ["helper.py", "pkg/__init__.py", "pkg/deep.py", "pkg/sub.py"]
    assert sorted(packer.closure(["lazy"], [str(root)])) == ["lazy.py", "other.py"]
    assert sorted(packer.closure(["broken", "json"], [str(root)])) == ["broken.py"]


def test_the_pickle_says_which_modules_are_needed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [str(root)]

    assert packer.names_in([pickle.dumps({"a": "helper", "b": ["pkg.sub"]}, 5)], roots) == {"helper", "pkg.sub"}
    assert packer.names_in([pickle.dumps({"__module__": "helper", "__name__": "helper"}, 5)], roots) == set()
    assert not packer._beginning_with(frozenset({"helper"})).search(pickle.dumps("/folder/helper.py", 5))
    large, known = pickle.dumps(["helper", bytes(200_000)], 5), dict[bytes, set[str]]()
    assert packer.names_in([large], roots, known) == {"helper"} == known[large]
    assert packer.names_in([large], [], known) == {"helper"}  # not read again
    assert packer.names_in([pickle.dumps("helpers and others", 5), b"helper, but no pickle"], roots) == set()


def test_the_same_files_give_the_same_pack_and_a_change_another_one(root: Path) -> None:
    key, pack = packer.packer("f", True, "helper:f", [str(root)])([], {})

    before = pack()
    assert (key, pack()) == (frozenset({"helper"}), before)
    (root / "pkg" / "deep.py").write_text("K = 1")
    assert pack() != before
    assert packer.packer("f", None, "", [str(root)])([b""], {})[1]() == b""


def test_named_folders_travel_as_a_whole_without_what_is_ignored(root: Path) -> None:
    (root / "pkg" / ".jobkitignore").write_text("# data\n*.csv\n!keep.csv\nsecret/\n")
    for name in ("keep.csv", "secret/key.txt", "__pycache__/x.pyc", ".hidden"):
        (root / "pkg" / name).parent.mkdir(exist_ok=True)
        (root / "pkg" / name).write_text("")

    package = packer.chosen([str(root / "pkg")])
    assert sorted(package) == ["pkg/__init__.py", "pkg/deep.py", "pkg/keep.csv", "pkg/sub.py", "pkg/unused.py"]
    assert "helper.py" in packer.chosen([str(root)])
    assert sorted(packer.chosen([str(root / "helper.py")])) == ["helper.py"]
    with pytest.raises(InvalidParams, match="ship names 'missing', and there is no such file or folder in"):
        packer.chosen(["missing"])


def test_too_much_code_is_refused_with_the_largest_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobkit.features.shipping.pack.MAX_BYTES", 100)
    (root / "pkg" / "data.csv").write_text("1" * 200)

    with pytest.raises(InvalidParams, match=r"the largest is pkg/data.csv \(200 B\).*\.jobkitignore"):
        packer.packer("f", [str(root / "pkg")], "", [])([], {})[1]()


def test_a_walk_ends_with_the_first_file_too_many(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pack", "packer"):
        monkeypatch.setattr(f"jobkit.features.shipping.{module}.MAX_FILES", 3)
    for n in range(10):
        (root / f"data{n}.csv").touch()

    assert len(packer.chosen([str(root)])) == 4
    with pytest.raises(InvalidParams, match="has more than 3 files"):
        packed(packer.chosen([str(root)]), "f")


def test_a_folder_without_init_is_a_package_too(root: Path) -> None:
    (root / "steps" / "inner").mkdir(parents=True)
    (root / "steps" / "inner" / "fit.py").write_text("from steps import clean")
    (root / "steps" / "clean.py").touch()
    (root / "data").mkdir()

    assert packer.names_in([pickle.dumps(["steps.inner.fit", "data"], 5)], [str(root)]) == {"steps.inner.fit", "data"}
    assert sorted(packer.closure(["steps.inner.fit", "data"], [str(root)])) == ["steps/clean.py", "steps/inner/fit.py"]


def test_a_link_that_cannot_be_followed_hides_no_module(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name in ("first", "second", "third"):
        (tmp_path / f"{name}.py").touch()

    names = ["first.f", "second.f", "third.f"]
    assert packer.names_in([pickle.dumps(names, 5)], [str(tmp_path)]) == set(names)


def test_a_link_to_a_package_travels_under_its_own_name_and_links_in_it_are_not_followed(root: Path) -> None:
    (root / "link").symlink_to(root / "pkg")
    (root / "pkg" / "everything").symlink_to("/")

    found = packer.chosen([str(root / "link")])

    assert sorted(found) == [f"link/{name}" for name in ("__init__.py", "data.csv", "deep.py", "sub.py", "unused.py")]


def test_a_file_that_goes_while_it_is_read_is_named(root: Path) -> None:
    files = packer.chosen([str(root)])
    (root / "pkg" / "data.csv").unlink()

    with pytest.raises(InvalidParams, match=r"travels with f cannot be read: .*data\.csv: No such file"):
        packed(files, "f")


@pytest.mark.parametrize(
    "path", ["../evil.py", "/etc/evil.py", "a/../../evil.py", "a\\b.py", ".ssh/x", "a//b", "a/./b", ""]
)
def test_a_path_that_leaves_the_folder_is_refused_before_anything_is_written(tmp_path: Path, path: str) -> None:
    content = msgspec.msgpack.encode([("fine.py", b""), (path, b"boom")])

    with pytest.raises(SignatureError, match="leads out of its folder"):
        unpacked(content, digest(content), tmp_path / "code")
    assert not list(tmp_path.rglob("*.py"))


def test_a_pack_is_unpacked_once_into_a_private_folder(root: Path, tmp_path: Path) -> None:
    content = packer.packer("f", True, "helper:f", [str(root)])([], {})[1]()
    folder = unpacked(content, digest(content), tmp_path / "code")

    assert (folder / "pkg" / "sub.py").read_text() == "from . import deep\nimport json"
    assert (tmp_path / "code").stat().st_mode & 0o777 == 0o700
    assert unpacked(b"not read again", digest(content), tmp_path / "code") == folder


def test_a_folder_that_others_may_write_to_is_left_for_another_one(root: Path, tmp_path: Path) -> None:
    content = packer.packer("f", True, "helper:f", [str(root)])([], {})[1]()
    (tmp_path / "code").mkdir()
    (tmp_path / "code").chmod(0o777)
    (tmp_path / "code-taken").symlink_to(tmp_path)

    folder = unpacked(content, digest(content), tmp_path / "code")

    assert list((tmp_path / "code").iterdir()) == []
    assert (folder / "pkg" / "sub.py").exists()
    assert folder.parent.name.startswith("code-")
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert unpacked(b"not read again", digest(content), tmp_path / "code") == folder


def test_the_same_files_on_this_machine_are_used_until_one_changes(root: Path, tmp_path: Path) -> None:
    content = packer.packer("f", True, "helper:f", [str(root)])([], {})[1]()
    roots = [str(tmp_path / "missing"), str(root)]

    assert is_here(content, roots)
    assert not is_here(content, [])
    (root / "pkg" / "deep.py").write_text("K = 1")
    assert not is_here(content, roots)


def test_modules_of_the_same_name_from_elsewhere_are_imported_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("old", "new"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "travelling_module.py").write_text(f"PLACE = {place!r}")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "old"), *sys.path])
    import travelling_module  # type: ignore[import-not-found]

    assert travelling_module.PLACE == "old"
    use(tmp_path / "new")
    import travelling_module as again  # type: ignore[import-not-found]

    assert again.PLACE == "new"
    del sys.modules["travelling_module"]
