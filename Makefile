# edgeclip: `make run` sees, `make test` proves. Both set themselves up in .venv and are safe to repeat.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.10 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
MODEL ?= nano
CALIBRATION ?= demo
TARGET ?= tflite,onnx
OUT ?= build-work/$(MODEL)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run engine test lint format bench bench-alarms wheel clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.runtime ## the runtime and the demo, in .venv

setup-dev: $(VENV)/.dev ## what building, training and testing need too (2.5 GB, torch included)

run: $(VENV)/.runtime ## live table of what the demo camera shows; ARGS="--camera 0 --labels labels.txt" to pass options
	@$(BIN)/edgeclip run $(if $(findstring --source,$(ARGS))$(findstring --camera,$(ARGS)),,--source demo) $(ARGS)

engine: $(VENV)/.dev ## build MODEL (default nano) to INT8 engines: CALIBRATION=frames/ TARGET=tflite,onnx OUT=dir
	$(BIN)/edgeclip build engines/$(MODEL).yaml --calibration $(CALIBRATION) --target $(TARGET) --out $(OUT) $(ARGS)

test: $(VENV)/.dev ## every test
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## engines side by side with their peers, as ratios
	$(BIN)/python benchmarks/image_tower.py $(ARGS)
	$(BIN)/edgeclip bench --source demo

bench-alarms: $(VENV)/.dev ## false alarms against the promised rate on held-out footage; DATA=dev.tar.gz ARGS="--clips a.mp4"
	$(BIN)/python benchmarks/false_alarms.py $(if $(DATA),--data $(DATA)) $(ARGS)

wheel: $(VENV)/.dev ## the runtime wheel, with engines/nano inside, into dist/
	$(BIN)/python -m build --wheel --outdir dist .

clean: ## remove .venv, build outputs and caches (bundles in engines/ stay)
	rm -rf $(VENV) build-work dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.10 to 3.13 found"; echo "  fix: install one, or name it: make PYTHON=/path/to/python3"; exit 78; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | $(VENV)/bin/python
	@echo "setting up .venv (runtime and demo)"
	@$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.runtime
	@echo "setting up .venv (build, train and test tools; torch is large)"
	@$(BIN)/python -m pip install --quiet --editable '.[all,dev]'
	@touch $@
