# One command each; `make` alone lists them.
.PHONY: help check format test touched nightly hub portable docs bench chaos soak

SECONDS = 60
SEED =
MINUTES = 30

help:
	@echo "make check   ruff (lint and format), mypy (of tests: that names exist), and the language of docstrings and pages"
	@echo "make format  format and fix with ruff"
	@echo "make test    the default tests (real Redis, workers, browser)"
	@echo "make touched the tests of what differs from main; the pre-push hook runs the same"
	@echo "make nightly all tests, also the slow ones: matrices, fuzzing with many examples, long runs of chaos"
	@echo "make hub     install JupyterHub and its proxy (npm), without which nightly tests of them are skipped"
	@echo "make portable the tests of processes, without what macOS lacks; part of make nightly"
	@echo "make docs    the site, in docs/_build; pip install -e .[docs]"
	@echo "make chaos   kill, freeze and cut everything at random and check every promise; SECONDS=600 SEED=1"
	@echo "make soak    work for MINUTES=30 with cut connections: no memory, files, threads or keys may grow"
	@echo "make bench   figures side by side with peers; results in benchmarks/results.md"

check:
	ruff check .
	ruff format --check .
	mypy
	python -m tests.test_language

format:
	ruff format .
	ruff check --fix .

test:
	pytest

touched:
	python -m tests.touched

nightly: portable
	NIGHTLY=1 pytest -m ""

hub:
	pip install -q -e ".[hub]"
	npm install --silent --no-save --prefix build/hub configurable-http-proxy

portable:
	PYTHONPATH=$(CURDIR)/tests/portable pytest tests/system tests/run tests/worker tests/embedded

chaos:
	python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

soak:
	python -m tests.chaos.soak --minutes $(MINUTES)

docs:
	python -m sphinx -q -W --keep-going -b html docs docs/_build
	@echo "docs/_build/index.html"

bench:
	python -m benchmarks
