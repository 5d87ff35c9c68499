# Two commands: `make demo` shows the main job on phantoms, `make test` checks everything. Both set themselves up.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

# Python keeps what it compiles: without that, every process that a test starts would compile PyTorch and MONAI anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test torture fuzz wheel-test lint bundles docs clean

demo: .venv/installed
	$(BIN)/python -m monai.bundle run --config_file bundles/jsrt_pe.json

# Coverage is counted on the tests of the parts; whole networks, whole runs and attacks run without it, because tracing
# slows them by half.
WHOLE := tests/bundles tests/explain/test_fields.py tests/explain/test_natural_networks.py tests/export tests/networks \
	tests/reliability tests/study/test_every_study.py tests/test_notebooks.py

# Two processes with a thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: lint
	rm -f .coverage .coverage.*
	$(PYTEST) --cov --cov-report=term $(addprefix --ignore ,$(WHOLE))
	$(PYTEST) $(WHOLE)

torture: .venv/installed
	$(PYTEST) -m "torture or not torture" \
		--junitxml=build/torture.xml tests/reliability
	$(BIN)/python docs/src/attacks.py build/torture.xml
	$(PYTEST) -m torture --ignore tests/reliability

fuzz: .venv/installed
	$(BIN)/python -m tests.reliability.fuzz --minutes $(or $(MINUTES),30) --seed $(or $(SEED),0) --keep build/fuzz

wheel-test:
	$(PYTHON) tests/wheel.py

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint Dockerfile; else echo "no hadolint for this machine: Dockerfile not checked"; fi

bundles: .venv/installed
	$(BIN)/python -m medpos.bundle.build

docs: .venv/installed
	$(BIN)/python docs/src/site.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file build/mkdocs.yml
	@echo "site: build/site/index.html"

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@# Not all 23,000 files are compiled: Python does that for those that it imports.
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev]'
	@# Its sources are compiled; everything else comes ready.
	$(BIN)/python -m pip install --quiet --editable '.[crf]' || echo "no C++ compiler: the tests of the CRF are skipped"
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache
