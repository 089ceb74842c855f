# Every target sets itself up; the environment is made again only when its inputs change.
VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.made-from-pyproject
METHODS := grpo opsd sdpo rlsd cepo
APP := $(VENV)/bin/streamlit run app/main.py
DEMO_STEPS ?= 6
# make demo OPEN=0 trains and leaves the workbench closed
OPEN ?= 1
DEMO_RUNS := runs/demo-$(shell date +%Y%m%d-%H%M%S)

export HF_HUB_OFFLINE := 1
export OMP_NUM_THREADS := 1

.PHONY: setup chromium test app demo notebooks bench check format

setup: $(STAMP) chromium

$(STAMP): pyproject.toml
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --upgrade pip
	@echo "installing torch, then everything else (a few minutes the first time)"
	$(PYTHON) -m pip install --quiet torch==2.13.0
	$(PYTHON) -m pip install --quiet -e '.[dev,eval]'
	$(PYTHON) -m pip install --quiet --no-deps lmms-eval==0.7.3 latex2sympy2==1.9.1
	touch $@

# For the tests in a browser and for PDF; everything else works without it, so set-up never fails here.
chromium:
	@.ci/chromium

# Three on two cores: the one with the browser's tests mostly waits for the browser.
test: setup
	$(PYTHON) -m pytest -n 3

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports

format: setup
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# Their figures and tables go to notebooks/figures; the notebooks themselves stay as they are.
notebooks: setup
	cd notebooks && ../$(VENV)/bin/jupyter execute *.ipynb

# Beside TRL, which nothing else needs. One after another: they measure CPU seconds, but memory is shared.
bench: setup
	$(PYTHON) -m pip install --quiet -e '.[bench]'
	$(PYTHON) -m pytest tests/test_benchmarks_trainer.py
	@status=0; for name in trainer scoring recorder engine; do \
	  $(PYTHON) -m benchmarks.$$name || status=1; \
	done; exit $$status

app: setup
	$(APP)

demo: setup
	@for method in $(METHODS); do \
	  $(PYTHON) -m core.train --method $$method --steps $(DEMO_STEPS) --runs-dir $(DEMO_RUNS) --run-id $$method || exit $$?; \
	done
	@$(PYTHON) -m core.summary $(DEMO_RUNS)
ifneq ($(OPEN),0)
	@echo "The workbench opens on these runs; Ctrl-C closes it, 'make app' opens it again on all runs."
	@$(APP) -- --runs-dir $(DEMO_RUNS)
endif
