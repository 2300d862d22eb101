"""The state of a git repository, also of odd ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from jobkit.features.provenance import git


def run(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")
    done = subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    run(root, "init", "-q", "-b", "main")
    (root / "train.py").write_text("lr = 0.1\n")
    run(root, "add", ".")
    run(root, "commit", "-qm", "first")
    return root


def test_a_clean_repository_has_commit_and_branch(repository: Path) -> None:
    (repository / "src").mkdir()
    facts, diff = git.state_of(git.root_of(str(repository / "src")))

    assert (facts.commit, facts.branch) == (run(repository, "rev-parse", "HEAD"), "main")
    assert (facts.is_dirty, facts.changed, diff, facts.problem) == (False, (), "", "")
    assert str(facts) == f"{facts.commit[:8]} on main, clean"


def test_changes_and_new_python_files_are_in_the_diff(repository: Path) -> None:
    (repository / "train.py").write_text("lr = 0.2\n")
    (repository / "helper.py").write_text("x = 1\n")
    (repository / "data.csv").write_text("1,2\n")

    facts, diff = git.state_of(str(repository))

    assert facts.changed == ("M train.py", "? data.csv", "? helper.py")
    assert "-lr = 0.1\n+lr = 0.2\n" in diff
    assert "+++ b/helper.py\n@@ -0,0 +1,1 @@\n+x = 1\n" in diff
    assert "1,2" not in diff
    run(repository, "checkout", "-q", ".")
    os.unlink(repository / "helper.py")
    subprocess.run(["git", "apply"], cwd=repository, input=diff, check=True, text=True)
    assert (repository / "helper.py").read_text() == "x = 1\n"


def test_secrets_are_masked_and_files_of_keys_left_out(repository: Path) -> None:
    (repository / "train.py").write_text('API_KEY = "sk-123"\nurl = "redis://me:hunter2@host"\n')
    (repository / "server.pem").write_text("pem-1")
    (repository / ".env").write_text("TOKEN=t1")
    (repository / "a.ipynb").write_text("{}")
    run(repository, "add", ".")

    facts, diff = git.state_of(str(repository))

    assert "+API_KEY = ***" in diff
    assert "redis://me:***@host" in diff
    assert not any(secret in diff for secret in ("sk-123", "hunter2", "pem-1", "t1", "ipynb"))
    assert facts.note == "left out: .env, a.ipynb, server.pem"


def test_private_keys_are_masked(repository: Path) -> None:
    (repository / "train.py").write_text(
        "key = '''-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----'''\n"
    )

    assert "MIIEow" not in git.state_of(str(repository))[1]


def test_large_files_are_left_out_of_the_diff(repository: Path) -> None:
    (repository / "big.txt").write_text("x\n" * 200_000)
    (repository / "train.py").write_text("lr = 0.3\n")
    run(repository, "add", ".")

    facts, diff = git.state_of(str(repository))

    assert "lr = 0.3" in diff
    assert len(diff) < 1_000
    assert facts.note.startswith("left out: big.txt (")


def test_a_detached_head_has_a_commit_and_no_branch(repository: Path) -> None:
    run(repository, "checkout", "-q", "--detach")

    facts, _ = git.state_of(str(repository))

    assert facts.commit == run(repository, "rev-parse", "HEAD")
    assert facts.branch == ""
    assert "(detached)" in str(facts)


def test_a_repository_without_commits_lists_its_files(tmp_path: Path) -> None:
    run(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "a.py").write_text("1\n")
    run(tmp_path, "add", ".")

    facts, _ = git.state_of(str(tmp_path))

    assert (facts.commit, facts.branch, facts.changed, facts.problem) == ("", "main", ("A a.py",), "")


def test_a_changed_submodule_is_a_changed_file(repository: Path, tmp_path: Path) -> None:
    run(repository, "submodule", "add", "-q", str(repository), "lib")
    run(repository, "commit", "-qm", "submodule")
    (repository / "lib" / "train.py").write_text("lr = 9\n")

    facts, _ = git.state_of(str(repository))
    inner, _ = git.state_of(git.root_of(str(repository / "lib")))

    assert facts.changed == ("M lib",)
    assert inner.changed == ("M train.py",)


@pytest.mark.parametrize("is_packed", [False, True])
def test_without_the_program_commit_and_branch_are_read_from_files(
    repository: Path, monkeypatch: pytest.MonkeyPatch, is_packed: bool
) -> None:
    commit = run(repository, "rev-parse", "HEAD")
    if is_packed:
        run(repository, "pack-refs", "--all")
    monkeypatch.setenv("PATH", "/nowhere")

    facts, diff = git.state_of(str(repository))

    assert (facts.commit, facts.branch, facts.is_dirty, diff) == (commit, "main", None, "")
    assert facts.problem == "git is not installed, so changes are not known"
    assert "changes unknown" in str(facts)


def test_a_repository_of_another_user_is_refused_with_the_command_that_allows_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")

    facts, _ = git.state_of(str(repository))

    assert f"`git config --global --add safe.directory {repository}`" in facts.problem
    assert facts.commit == "" or len(facts.commit) == 40


def test_no_program_runs_that_a_repository_names(repository: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    ran.mkdir()
    run(repository, "submodule", "add", "-q", str(repository), "lib")
    for root in (repository, repository / "lib"):
        (root / ".gitattributes").write_text("*.py filter=f.a diff=d\n")
        run(root, "add", ".")
        run(root, "commit", "-qm", "attributes")
    for root in (repository, repository / "lib"):
        for name in ("filter.f.a.clean", "diff.d.textconv", "diff.d.command", "diff.external", "core.fsmonitor"):
            run(root, "config", name, f"touch {ran}/{root.name}-{name}; cat")
        run(root, "config", "filter.f.a.required", "true")
        hooks = Path(run(root, "rev-parse", "--absolute-git-dir"), "hooks")
        for hook in ("post-index-change", "query-watchman"):
            (hooks / hook).write_text(f"#!/bin/sh\ntouch {ran}/{root.name}-{hook}\n")
            (hooks / hook).chmod(0o755)
        (root / "helper.py").write_text("x = 1\n")
        os.utime(root / "train.py", ns=(0, 0))
    run(repository / "lib", "config", "filter.f.a.process", f"touch {ran}/process")

    facts, diff = git.state_of(str(repository))

    assert os.listdir(ran) == []
    assert (facts.changed, facts.problem, facts.note) == (("M lib", "? helper.py"), "", "")
    assert "+x = 1" in diff


def test_what_a_partial_clone_lacks_is_not_fetched(repository: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    run(repository, "config", "uploadpack.allowFilter", "true")
    run(tmp_path, "clone", "-q", "--no-checkout", "--filter=blob:none", f"file://{repository}", "partial")
    clone = tmp_path / "partial"
    run(clone, "config", "remote.origin.uploadpack", f"touch {ran}; git-upload-pack")
    run(clone, "reset", "-q", "--mixed", "--no-refresh")
    (clone / "train.py").write_text("lr = 0.2\n")
    ran.unlink(missing_ok=True)

    facts, _ = git.state_of(str(clone))

    assert not ran.exists()
    assert facts.changed == ("M train.py",)
    assert facts.note.startswith("git said: ")


def test_links_are_not_followed(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "private").write_text("secret text")
    (repository / "x.py").symlink_to(tmp_path / "private")

    facts, diff = git.state_of(str(repository))

    assert facts.changed == ("? x.py",)
    assert "secret text" not in diff


@pytest.mark.parametrize("script", ["exec sleep 60", "sleep 60 & wait"])
def test_a_slow_git_is_stopped(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text(f"#!/bin/sh\n{script}\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(git, "LIMIT_S", 0.1)

    facts, _ = git.state_of(str(repository))

    assert facts.problem == "git took longer than 0.1 s, so changes are not known"
    assert facts.branch == "main"


def test_outside_of_a_repository_there_is_no_root(tmp_path: Path) -> None:
    assert git.root_of(str(tmp_path)) == ""
    assert git.root_of("/does/not/exist") == ""
