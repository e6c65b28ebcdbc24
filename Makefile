# Every command below makes .venv from requirements.lock if it is missing.
RECIPE ?= demo
PROTOCOL ?= speaker
SEED ?= 0
VARIANT ?= stated
SET ?=
PLAYERS ?=
DATA_DIR ?=
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help report audit atlas voice tables model test lint format notebooks sample bench torture address lock clean

help: ## List these commands
	@grep -hE '^[a-z.]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z.]+):.*## (.*)/\1\t\2/' | awk -F '\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'
	@echo "  Options of report: RECIPE=$(RECIPE) PROTOCOL=$(PROTOCOL) SEED=$(SEED) VARIANT=$(VARIANT) SET=\"training.epochs=3 …\" PLAYERS=1 DATA_DIR=…"

# The stamp, not the folder, is the target: an installation that was interrupted starts again.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) scripts/install.py

# A variable as it was typed, for the shell: `$SER_WHISPER_BASE` in it reaches ser, written with one $ or with two.
as_typed = '$(subst ','\'',$(subst $$$$,$$,$(value $(1))))'

# README and docs hold tables between markers; `ser results --readme` writes them anew.
define write_tables
	@$(BIN)/ser results --readme $$(grep -l ': begin -->' README.md docs/*.md ser_lib/inference/speech_emotion/README.md)
endef

report: .venv/installed ## Run the notebooks for RECIPE under PROTOCOL and write reports/RECIPE/PROTOCOL/*.html
	@$(BIN)/ser report "$(RECIPE)" --protocol $(PROTOCOL) --seed $(SEED) --variant $(VARIANT) $(if $(SET),--set $(call as_typed,SET)) $(if $(PLAYERS),--players) $(if $(DATA_DIR),--data-dir "$(DATA_DIR)")

audit: .venv/installed ## Measure every published claim again without its leaks: reports/Claims_Audit.html (ENCODER=… BUNDLED=1)
	@$(BIN)/ser claims $(if $(ENCODER),--encoder $(call as_typed,ENCODER)) $(if $(BUNDLED),--bundled) $(if $(DATA_DIR),--data-dir "$(DATA_DIR)")
	$(write_tables)

atlas: .venv/installed ## Audit the train and test lists that benchmarks publish: reports/Atlas.html (ENCODER=…)
	@$(BIN)/ser atlas $(if $(ENCODER),--encoder '$(ENCODER)') $(if $(DATA_DIR),--data-dir "$(DATA_DIR)")

voice: .venv/installed ## Measure what a few clips of a voice are worth: reports/On_Your_Voice.html (ENCODER=…)
	@$(BIN)/ser voice $(if $(ENCODER),--encoder '$(ENCODER)') $(if $(DATA_DIR),--data-dir "$(DATA_DIR)")

tables: .venv/installed ## Make results.csv, the index, all tables of README and docs, and the pages of studies, without audio
	@$(BIN)/ser results --anew
	$(write_tables)
	@for study in claims atlas voice; do $(BIN)/ser $$study --page || exit; done

model: .venv/installed ## Make the model that comes with the package again, in 20 minutes (ARGS="--encoder DIR …")
	$(BIN)/python scripts/make_model.py $(ARGS)

test: .venv/installed ## Run all tests; those of a corpus that is not at hand are skipped, with the reason
	@# One thread and no helper processes for each test process: more would compete for the same cores. Files with few
	@# tests take longest: not last.
	OMP_NUM_THREADS=1 LOKY_MAX_CPU_COUNT=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -rs

lint: .venv/installed ## Check format, style, the order of the packages, types, and that both sides of each notebook agree
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python scripts/pair_notebooks.py --check

format: .venv/installed ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

notebooks: .venv/installed ## Write notebooks/*.ipynb from notebooks/*.py, the side to edit
	$(BIN)/python scripts/pair_notebooks.py

bench: .venv/installed ## Measure speed on the bundled corpus, and time and memory of 100,000 clips: reports/bench.html
	@$(BIN)/ser bench
	@$(BIN)/ser bench --scale 1000 10000 100000

torture: .venv/installed ## Kill, starve, damage and confuse everything, for hours: docs/reliability.md (ARGS="--kills 20 …")
	$(BIN)/python scripts/torture.py $(ARGS)

sample: .venv/installed ## Make the bundled corpus anew (needs espeak-ng)
	$(BIN)/python scripts/make_sample_corpus.py

address: ## Replace the repository's address in every file: URL=https://github.com/me/fork
	$(PYTHON) scripts/set_address.py "$(URL)"

lock: ## Make requirements.lock anew from the version ranges in pyproject.toml
	$(PYTHON) scripts/make_lock.py

clean: ## Remove .venv and the caches of tests and tools; runs, reports and corpora stay
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis _site *.egg-info
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
