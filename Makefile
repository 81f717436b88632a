# What there is to do in this repository. Each target makes the virtual environment in .venv when it is missing and
# installs what it needs; `make help` lists them. Needs Python 3.11 or newer with its venv module, and make.
#
#   make test ARGS="-k settings -x"     arguments for the program behind the target
#   make test TESTS_AT_A_TIME=0         in this one process, with what they print
#   make demo PYTHON=/opt/python3.13    the Python to make .venv with

PYTHON ?=
ARGS ?=

# Most tests wait for processes of theirs, so there are more at a time than cores; each file's tests stay together.
TESTS_AT_A_TIME ?= 3
# Some tests race real processes against real clocks, and one of thousands loses for want of a processor. Such a test is
# tried again, twice at most, and the closing line counts it ("1 rerun"): what fails three times fails.
TRIES_MORE ?= 2

VENV := .venv
BIN := $(VENV)/bin
# pip's own configuration says where packages come from. --no-user: one that says `user` would fail in a venv.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-user --constraint constraints.txt
INSTALLED_FROM := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo dev test load chaos lint bench clean
# A stamp whose recipe was interrupted must not pass for an installation.
.DELETE_ON_ERROR:
# Targets share one virtual environment, and two pips must not write to it at a time.
.NOTPARALLEL:

help: ## Show this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F '|' '{ printf "%-14s %s\n", $$1, $$2 }'

demo: $(VENV)/.installed-demo ## Run one image job end to end, everything on this machine, and leave a PNG
	$(BIN)/ryla demo $(ARGS)

dev: $(VENV)/.installed-demo ## Run Redis, the simulator, a worker and Flower together until Ctrl-C
	$(BIN)/ryla dev $(ARGS)

test: $(VENV)/.installed-dev ## Run the tests
	$(BIN)/pytest --numprocesses $(TESTS_AT_A_TIME) --dist loadfile --reruns $(TRIES_MORE) $(ARGS)

load: $(VENV)/.installed-dev ## Run the load tests, which `make test` leaves out; they take some 15 minutes
	$(BIN)/pytest -m load $(ARGS)

chaos: $(VENV)/.installed-dev ## Kill, freeze and cut everything, and see what is lost (about 40 minutes)
	$(BIN)/python -m tests.chaos $(ARGS)

lint: $(VENV)/.installed-dev ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-dev ## Measure against plain Celery
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove the virtual environment, caches and built packages
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Everything that the demo needs is in what development needs.
$(VENV)/.installed-demo: $(INSTALLED_FROM) | $(BIN)/python
	@if [ -z "$$(find $(VENV)/.installed-dev -newer pyproject.toml -newer constraints.txt 2>/dev/null)" ]; then \
		echo "Installing what the demo needs into $(VENV)"; \
		$(INSTALL) --editable '.[simulator,embedded,flower]'; \
	fi
	@touch $@

$(VENV)/.installed-dev: $(INSTALLED_FROM) | $(BIN)/python
	@echo "Installing what development needs into $(VENV)"
	@$(INSTALL) --editable '.[dev]'
	@touch $@

# Each candidate is run, not only looked for: a version manager may have commands for Pythons that it does not serve.
$(BIN)/python:
	@for python in $(if $(PYTHON),"$(PYTHON)",python3.11 python3.12 python3.13 python3); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		"$$python" -c 'import ensurepip, venv' 2>/dev/null || { lacking="$$lacking $$python"; continue; }; \
		echo "Making $(VENV) with $$python"; \
		rm -rf $(VENV); \
		exec "$$python" -m venv $(VENV); \
	done; \
	if [ -n "$$lacking" ]; then \
		echo "No virtual environment can be made: venv or ensurepip is missing from:$$lacking." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv (or python3.11-venv, as your version is)." >&2; \
	else \
		echo "No Python 3.11 or newer was found. Install one, or name it: make PYTHON=/path/to/python3" >&2; \
	fi; \
	exit 1
