# make score   set up, then score the sample clips with the bundled model, offline
# make test    set up, then run every gate: what CI runs
# make check   the same without the slow tests
# make coverage  run every test; fails if less than 94 % of mmmos ran in this process
# make lite    build the bundled model again from DATA (see docs/MODEL_CARD.md)
# make docs    write the generated parts of README, docs and dev
# make clean   remove what the others made

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin

.PHONY: score test check coverage lite docs clean

score: $(VENV)/score.stamp
	@HF_HUB_OFFLINE=1 $(BIN)/mmmos score samples

test: $(VENV)/test.stamp
	@scripts/check

check: $(VENV)/test.stamp
	@scripts/check --fast

coverage: $(VENV)/test.stamp
	@HF_HUB_OFFLINE=1 OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist worksteal --cov=mmmos --cov-report=term:skip-covered

lite: $(VENV)/test.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m recipes.lite.build --data $(DATA)
	$(BIN)/python -m recipes.lite.evaluate --data $(DATA)
	$(BIN)/python -m recipes.lite.checks --data $(DATA)
	$(BIN)/python scripts/docs.py

docs: $(VENV)/test.stamp
	$(BIN)/python scripts/docs.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

# torch comes from its own line, so that nothing else chooses its build. Where its index has CUDA builds only, name a
# CPU build: make score TORCH="torch==2.13.0+cpu --index-url ..."
$(VENV)/score.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

# References of tests. Their packages ask for torchaudio, which the tests do without.
$(VENV)/test.stamp: $(VENV)/score.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps distillmos==0.9.1 xls-r-sqa==0.1.0 \
		audiobox-aesthetics==0.0.4
	@touch $@
