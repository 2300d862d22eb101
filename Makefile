# One command each; `make` alone lists them.
.PHONY: help check format test bench

help:
	@echo "make check   ruff (lint and format) and mypy"
	@echo "make format  let ruff format and mend"
	@echo "make test    the whole suite (real Redis, workers, browser)"
	@echo "make bench   figures side by side with peers; results in benchmarks/results.md"

check:
	ruff check .
	ruff format --check .
	mypy

format:
	ruff format .
	ruff check --fix .

test:
	pytest

bench:
	python -m benchmarks
