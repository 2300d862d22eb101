"""The documentation site: it builds without broken links, loads nothing from other hosts, and its files are usable."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.docs.commands import check_command, commands_in
from tests.support import ROOT

TEAM = ROOT / "docs" / "team"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sphinx")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(ROOT / "docs"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=220, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.nightly
def test_the_site_builds_and_holds_every_page(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    index = (site / "index.html").read_text("utf-8")

    for page in pages:
        target = page.with_suffix(".html").as_posix()
        assert (site / target).is_file()
        assert f'href="{target}"' in index or page.stem == "index", f"no link leads to {page}"


def test_every_public_name_is_in_the_reference() -> None:
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "docs" / "reference").glob("*.md"))
    described = {name.rpartition(".")[2] for name in re.findall(r"(?m)^\.\. auto\w+:: ([\w.]+)$", pages)}

    for module in ("jobkit", "jobkit.ui", "jobkit.http", "jobkit.testing"):
        names = importlib.import_module(module).__all__
        assert not {name for name in names if name.removesuffix("_") not in described}, f"names of {module}"


def test_the_tables_of_settings_and_options_are_made_from_the_code() -> None:
    spec = importlib.util.spec_from_file_location("reference_tables", ROOT / "docs" / "reference_tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)

    settings, options = list(tables.settings_rows()), list(tables.option_rows())

    assert all(row[-1].endswith(".") for row in (*settings, *options))
    assert ("`lease`", "`JOBKIT_LEASE`", "`15.0`") in [row[:3] for row in settings]
    assert ("`memory_limit`", "an integer, text", "", "") in [row[:4] for row in options]
    assert ("`isolation`", '"process", "thread", "async"', "", "") in [row[:4] for row in options]
    assert ("`fresh`", "true or false", "`False`", "`options`") in [row[:4] for row in options]


@pytest.mark.nightly
def test_the_reference_is_made_from_the_docstrings(site: Path) -> None:
    pages = "".join(path.read_text("utf-8") for path in (site / "reference").glob("*.html"))
    reference = re.sub(r"<[^>]+>", "", pages)

    assert "jobkit worker [OPTIONS]" in reference
    assert "/api/jobs/{id}/events" in reference
    assert "JOBKIT_STREAM_HEARTBEAT" in reference


@pytest.mark.nightly
def test_the_site_loads_nothing_from_other_hosts(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]*)"', text)
        loaded += re.findall(r'<link(?![^>]*rel="(?:canonical|next|prev|search|index)")[^>]* href="([^"]*)"', text)
        assert not [url for url in loaded if url.startswith(("http:", "https:", "//"))], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", style.read_text("utf-8")), style


@functools.cache
def known_tests() -> frozenset[str]:
    """Return the names of all test functions."""
    sources = (path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    return frozenset(name for source in sources for name in re.findall(r"(?m)^ *(?:async )?def (test_\w+)", source))


def missing_tests(tests: str) -> list[str]:
    """Return the tests that a cell of SECURITY.md names and that do not exist; a name may end in `…`."""
    names = known_tests()
    missing = []
    for named in re.findall(r"`([^`]*)`", tests):
        if named.startswith("tests/"):
            exists = (ROOT / named).is_file()
        elif named.endswith("…"):
            exists = any(name.startswith(named[:-1]) for name in names)
        else:
            exists = named in names
        if not exists:
            missing.append(named)
    return missing


def test_every_threat_of_security_md_names_tests_that_exist() -> None:
    rows = re.findall(
        r"(?m)^\| (.+?) \| (.+) \| (.+) \|$", (ROOT / "SECURITY.md").read_text("utf-8").split("## Threats and tests")[1]
    )
    threats = [(threat, tests) for threat, _, tests in rows if threat != "threat"]

    assert len(threats) > 50
    for threat, tests in threats:
        assert "`test" in tests, f"no test is named for: {threat}"
        assert not missing_tests(tests), threat
    assert missing_tests("`test_of_no_threat_…`, `tests/test_none.py`, `test_every_threat`") == [
        "test_of_no_threat_…",
        "tests/test_none.py",
        "test_every_threat",
    ]


def test_systemd_accepts_the_service_files(tmp_path: Path) -> None:
    for unit in (ROOT / "docs").rglob("*.service"):
        for words in commands_in(unit.read_text()):
            check_command(words)
        if shutil.which("systemd-analyze") is None:
            continue
        # The program and user of the example do not exist here.
        text = re.sub(r"[^\s=]+/bin/jobkit", "/bin/true", unit.read_text()).replace("User=jobkit", "User=root")
        copy = tmp_path / unit.name.replace("@", "@default")
        copy.write_text(re.sub(r"(?m)^(WorkingDirectory|EnvironmentFile|ReadWritePaths)=.*\n", "", text))
        done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
        assert unit.name.partition("@")[0] not in done.stderr, done.stderr


def test_the_files_for_monitoring_ask_for_metrics_that_exist() -> None:
    texts = {name: (TEAM / name).read_text() for name in ("grafana.json", "alerts.yaml", "keda.yaml")}
    source = (ROOT / "jobkit" / "features" / "prometheus" / "routes.py").read_text("utf-8")
    known = dict(re.findall(r'\(\s*"(\w+)",\s*"(gauge|counter|histogram)"', source))
    panels = json.loads(texts["grafana.json"])["panels"]

    asked = set(re.findall(r"jobkit_(\w+)(?=[\[{ ),:>]|$)", " ".join(texts.values())))
    assert {name.removesuffix("_bucket") if known.get(name) is None else name for name in asked} <= set(known)
    assert len({panel["id"] for panel in panels}) == len(panels) == 9
    assert all(rule["expr"] for rule in yaml.safe_load(texts["alerts.yaml"])["groups"][0]["rules"])
    scaled = yaml.safe_load(texts["keda.yaml"])["spec"]["scaleTargetRef"]["name"]
    deployed = [each["metadata"]["name"] for each in yaml.safe_load_all((TEAM / "kubernetes.yaml").read_text())]
    assert scaled in deployed


def test_compose_and_kubernetes_are_well_formed_and_start_what_exists() -> None:
    compose = yaml.safe_load((TEAM / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        assert "image" in service or "build" in service, name
        assert set(service.get("depends_on", ())) <= set(compose["services"])
        mounted = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert mounted <= set(compose["volumes"])
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
        assert {config["source"] for config in service.get("configs", ())} <= set(compose["configs"])
        assert "PASSWORD" not in str(service.get("command"))
    for name in ("worker", "dashboard"):
        check_command(compose["services"][name]["command"])
        for volume in compose["services"][name]["volumes"]:  # else it belongs to root
            for file in ("Dockerfile", "Dockerfile.worker"):
                folder = volume.partition(":")[2]
                assert f"mkdir {folder} && chown jobkit {folder}\n" in (TEAM / file).read_text()
    check_command(compose["services"]["worker"]["healthcheck"]["test"][2:])

    objects = list(yaml.safe_load_all((TEAM / "kubernetes.yaml").read_text()))
    assert [each["kind"] for each in objects] == ["Deployment", "Deployment", "Service"]
    for each in objects[:2]:
        template = each["spec"]["template"]
        assert each["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
        (container,) = template["spec"]["containers"]
        volumes = {volume["name"] for volume in template["spec"].get("volumes", ())}
        assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
        check_command(container["args"])
    probe = objects[0]["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    check_command(probe["exec"]["command"][1:])
    assert objects[2]["spec"]["selector"] == objects[1]["spec"]["selector"]["matchLabels"]
