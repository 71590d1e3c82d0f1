# make demo    compile a trained network, check its accuracy, print its per-layer profile
# make test    the whole quick test suite          make test-all   the slow tests as well
# make check   ruff and mypy                       make bench      the benchmarks, with their pass marks
# Each of them sets up .venv by itself; PIP_ARGS goes to pip (for example --index-url of a mirror).

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.lhcc-setup
# A process for each processor, of one thread: the tests compare numbers.  The tests of a file stay together, for they
# share models and what was built from them.
TEST := OMP_NUM_THREADS=1 $(PY) -m pytest -q -n logical --dist loadfile

.PHONY: setup demo test test-all check bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt .ci/setup
	PYTHON="$(PYTHON)" PIP_ARGS="$(PIP_ARGS)" sh .ci/setup $(VENV)
	@touch $@

demo: setup
	$(PY) -m examples.demo

test: setup
	$(TEST) -m "not slow and not gpu" $(PYTEST_ARGS)

test-all: setup
	$(TEST) $(PYTEST_ARGS)

check: setup
	$(PY) -m ruff check .
	$(PY) -m mypy

bench: setup
	$(PY) -m benchmarks.cpu_dense --check

clean:
	rm -rf $(VENV) build dist *.egg-info out
