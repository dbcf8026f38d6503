# clusteradm: two commands matter, `make demo` and `make test`; both install what they need.
SHELL := /bin/bash
# Every process that a test starts would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SUDO   := $(if $(filter 0,$(shell id -u)),,sudo)
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST := $(SUDO) env CLUSTERADM_TEST_DATA="$(CLUSTERADM_TEST_DATA)" CI="$(CI)" $(BIN)/python -m tests.suite
# Unit tests side by side: two a core, as many of them wait.
WORKERS := $(shell expr 2 '*' $$(nproc))
# The model of benchmarks/infer.py: a .tflite that takes 224x224 pixels, as MobileNet v2 does.
BENCH_MODEL ?= $(CLUSTERADM_TEST_DATA)/tf2_mobilenet_v2_1.0_224_ptq.tflite
# What this needs of the machine, and what `make test` needs besides: a browser that looks at the page of `health --html`,
# promtool, which tests the alerting rules, the shells whose completion is tested, the checker of Debian packages, and
# HAProxy, before boards of a test.
DEBS      := $(shell cat clusteradm/lab/PACKAGES) python3-venv
TEST_DEBS := chromium haproxy lintian prometheus zsh fish
# The servers that benchmarks/serve.py is measured beside.
SERVERS := mlserver kserve pytriton
# The Python of the release that `make deb` is for.
DEB_PYTHON ?= 3.11

define install_debs
	@missing=$$(for p in $(1); do dpkg-query -W -f='$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "installing:" $$missing; \
	  $(SUDO) apt-get update -qq && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
endef

.DEFAULT_GOAL := help
.PHONY: help install demo test lint unit fuzz docs docs-tables docs-site man deb bench down clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## the machine's packages and a virtual environment in .venv

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt clusteradm/lab/PACKAGES Makefile
	$(call install_debs,$(DEBS))
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "clusteradm needs Python 3.10 or newer")'
	rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[lab,convert]'
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(call install_debs,$(TEST_DEBS))
	$(PIP) -e '.[lab,convert,results,serve,dev,docs]'
	@touch $@

demo: install ## boot 4 virtual boards, make a cluster of them, deploy a model, infer; prints what it measured
	$(SUDO) $(BIN)/python -m clusteradm.lab.demo --nodes 4

test: $(VENV)/.tested lint docs-site ## the whole test suite, the lab's tests included (root)
	$(PYTEST) -n $(WORKERS) tests/unit
	$(PYTEST) -n 3 --durations=10 tests/test_wheel.py tests/test_convert.py tests/test_tensorflow_clients.py tests/test_split.py tests/lab

lint: $(VENV)/.tested ## formatting, lint, types, and Python 3.7 for what runs on a board
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/vermin --quiet --no-tips --violations --eval-annotations --backport typing -t=3.7- clusteradm/node clusteradm/__init__.py

unit: $(VENV)/.tested ## only the tests that need no root (seconds)
	$(BIN)/python -m pytest -n $(WORKERS) tests/unit

fuzz: $(VENV)/.tested ## mutated input for every reader of foreign bytes, for FUZZ_SECONDS (600); finds go to tests/fuzz/corpus
	$(BIN)/python -m tests.fuzz.run

docs: docs-tables ## write the generated tables and pictures of the documentation (boots a virtual cluster, root)
	$(SUDO) $(BIN)/python docs/pictures.py

docs-tables: $(VENV)/.tested ## write only the tables, from what the program itself goes by
	$(BIN)/python docs/generate.py

man: $(VENV)/.installed ## write the manual pages in build/man, from the command line's own parsers
	$(BIN)/python docs/man.py build/man

deb: $(VENV)/.installed ## build a Debian package in build/deb, for the Python of Debian 12 (DEB_PYTHON=3.13: of Debian 13)
	$(BIN)/python packaging/deb.py build/deb --python $(DEB_PYTHON)

docs-site: $(VENV)/.tested ## build the documentation as a site in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

bench: $(VENV)/.tested $(VENV)-peers/.installed $(SERVERS:%=$(VENV)-peers-%/.installed) ## clusteradm beside Ansible, Mitogen, pyinfra, plain ssh, infer beside joblib, Ray and others, serving beside MLServer, KServe and PyTriton (45 minutes)
	$(SUDO) $(BIN)/python benchmarks/bootstrap.py --peers $(VENV)-peers --json benchmarks/results/bootstrap.json
	$(SUDO) $(BIN)/python benchmarks/health.py --json benchmarks/results/health.json
	$(SUDO) $(BIN)/python benchmarks/serve.py --peers $(VENV)-peers --json benchmarks/results/serve.json
	@if [ -f "$(BENCH_MODEL)" ]; then $(VENV)-peers/bin/python benchmarks/infer.py --model "$(BENCH_MODEL)" --json benchmarks/results/infer.json; \
	else echo "benchmarks/infer.py is left out: BENCH_MODEL=FILE names no model"; fi
	$(SUDO) unshare -n sh -c 'ip link set lo up; $(BIN)/python benchmarks/scale.py --measure --json benchmarks/results/scale.json'
	$(BIN)/python docs/generate.py

$(VENV)-peers/.installed: benchmarks/requirements.txt
	rm -rf $(VENV)-peers && $(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@

# Each server that benchmarks/serve.py is measured beside has an environment of its own: they want different versions.
$(VENV)-peers-%/.installed: benchmarks/requirements-%.txt
	rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

down: install ## end the demo's virtual cluster
	$(SUDO) $(BIN)/clusteradm lab down

clean: ## remove what `make install` made here (the lab's images stay in the cache)
	rm -rf $(VENV) $(VENV)-peers* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
