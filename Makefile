# `make` alone shows what there is.

PY := .venv/bin/python
SPEED ?=
SEED ?=
SEEDS ?= 0..2000

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint unit live simulate bench lock clean

help:  ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: .venv/.installed-run  ## watch real calls of a recorded Asterisk being followed: half a minute, needs Python 3.11+ alone
	@.venv/bin/arimonitor-run --demo $(if $(SPEED),--demo-speed $(SPEED))

test: packages .venv/.installed-dev  ## everything from nothing, as root: real Asterisk and RabbitMQ, all tests, all checks
	@tools/test.sh

lint: .venv/.installed-dev  ## style, types, import rules
	@tools/lint.sh

unit: .venv/.installed-dev  ## the quick tests, no root
	@$(PY) -m pytest -q -n auto -m "not live"

live: packages .venv/.installed-dev  ## the tests against a real Asterisk and a real RabbitMQ, as root
	@$(PY) -m pytest -m live

simulate: .venv/.installed-dev  ## let the daemon live in made-up worlds where everything fails (SEEDS=0..100000, or SEED=7 for one)
	@$(PY) -m tests.simulation $(if $(SEED),--seed $(SEED) -v,--seeds $(SEEDS) --jobs $(shell nproc))

bench: .venv/.installed-dev  ## benchmarks beside their floors, with the compiled core; needs a C compiler and RabbitMQ
	@tools/compiled.sh python -m pytest benchmarks

lock: .venv/.installed-dev  ## pin all dependencies anew (OPTIONS=--upgrade takes newer ones)
	@tools/lock.sh $(OPTIONS)

clean:  ## remove what make made in this directory, .venv too; the Asterisk chroots stay
	rm -rf .venv var build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: packages
packages:
	@tools/packages.sh

.venv/.installed-%: requirements/%.txt pyproject.toml tools/venv.sh
	@tools/venv.sh $*
