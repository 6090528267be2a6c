# edgeclip: `make run` sees, `make test` proves. Both set themselves up in .venv and are safe to repeat.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.10 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
DEB_ARCH ?= $(shell dpkg --print-architecture 2>/dev/null || echo amd64)
DEB_PYTHON ?= 3.11
MODEL ?= nano
CALIBRATION ?= demo
TARGET ?= tflite,onnx
OUT ?= build-work/$(MODEL)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run engine test test-systemd test-deb lint format bench soak soak-run faults fuzz soak-install hostile deb wheel clean bench-alarms

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

test-systemd: $(VENV)/.dev ## the service under the real systemd, in a namespace (as root); SYSTEMD=bullseye: under Debian 11's 247
	$(if $(SYSTEMD),tests/systemd/fetch.sh $(SYSTEMD) build-work/systemd-$(SYSTEMD))
	$(if $(SYSTEMD),EDGECLIP_TEST_SYSTEMD=$(CURDIR)/build-work/systemd-$(SYSTEMD)) $(BIN)/python -m pytest -m systemd tests/systemd -s -rs $(ARGS)

hostile: $(VENV)/.dev ## archives that must be refused, into build-work/hostile; and each is tried
	$(BIN)/python tests/hostile.py build-work/hostile
	EDGECLIP_STATE=build-work/hostile/state $(BIN)/edgeclip bundle install build-work/hostile/*.tar; test $$? -eq 65

soak-install: $(VENV)/.dev ## kill -9 during CYCLES (default 1000) installations; a whole bundle is always in force
	$(BIN)/python tests/soak_install.py $(or $(CYCLES),1000)

deb: $(VENV)/.dev ## the Debian package, into dist/: DEB_ARCH=amd64 or arm64, DEB_PYTHON=3.10 to 3.13 (3.11 is Debian 12's)
	BUILD_PYTHON=$(BIN)/python deploy/deb/build.sh $(DEB_ARCH) $(DEB_PYTHON) dist

test-deb: deb ## installed, run, upgraded and purged in a bare Debian (as root; debootstrap, and qemu for another DEB_ARCH)
	PHOTOGRAPHS=$$($(BIN)/python -c 'import importlib.util as util; print(util.find_spec("skimage").submodule_search_locations[0])') \
	deploy/deb/test.sh $$(ls -t dist/edgeclip_*+py$(DEB_PYTHON)_$(DEB_ARCH).deb | head -1)

lint: $(VENV)/.dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: $(VENV)/.dev ## kill -9 a run CYCLES times (default 200), restart its broker, and count what was lost
	$(BIN)/python benchmarks/soak_events.py --cycles $(or $(CYCLES),200) $(ARGS)

fuzz: $(VENV)/.fuzz ## N (default 100000) mutated inputs for every reader of files; ARGS="--target film --seed 7"; docs/proof.md
	PYTHONPATH=tests $(BIN)/python -m fuzz $(or $(N),100000) $(ARGS)

faults: $(VENV)/.dev ## what goes wrong with cameras, and how soon it is found and over: ARGS="--repetitions 5 --out DIR"
	$(BIN)/python benchmarks/faults.py $(ARGS)

soak-run: $(VENV)/.dev ## a real run with random faults for HOURS (default 0.5), and a report with plots
	$(BIN)/python benchmarks/soak_run.py --hours $(or $(HOURS),0.5) $(ARGS)

format: $(VENV)/.dev ## rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.bench ## engines side by side with their peers, as ratios; ARGS="--model nano --clip FILE ..." to choose
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
	@$(BIN)/python -m pip install --quiet --editable '.[demo,mqtt,metrics,sign]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.runtime
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: building and training need Python 3.11 to 3.13; .venv has 3.10, which is enough to run"; echo "  fix: make clean, then make $@ PYTHON=python3.11"; exit 78; }
	@echo "setting up .venv (build, train and test tools; torch is large)"
	@$(BIN)/python -m pip install --quiet --editable '.[all,dev]'
	@touch $@

$(VENV)/.bench: pyproject.toml $(VENV)/.dev
	@echo "setting up .venv (the peers that the benchmark measures: OpenVINO, NNCF)"
	@$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

$(VENV)/.fuzz: pyproject.toml $(VENV)/.dev
	@$(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	@touch $@
