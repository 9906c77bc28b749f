# Multifacet. `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
RUN    := $(BIN)/python -m

# Bytecode is kept inside the environment: each training's process would else spend 13 s on compiling what it imports.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(abspath $(VENV))/bytecode

# Torch is installed first, in the build that fits the machine: TORCH_INDEX is the address of an index with other builds than the
# configured one gives, such as PyTorch's own of builds without CUDA.
TORCH       ?= torch==2.13.0
TORCH_INDEX ?=
# Folder of a wheel of that torch without CUDA: `make lock` takes it, so that the lock files name none of CUDA's packages.
TORCH_WHEELS ?=

# Settings of the demo and of acceptance: a file of instructions, who writes the data (simulator, or provider/model), who judges.
INSTRUCTIONS ?=
TEACHER      ?= simulator
JUDGE        ?=
OUT          ?= out/demo
# Folder of a finished job, as `make demo` writes it.
COLLECTION   ?= out/demo

.PHONY: help
help: ## this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

# ---- environment ---------------------------------------------------------------------------------------------------
# The lock files hold hashes and no index address; pip takes them from wherever it is configured to look.
$(BIN)/.base: requirements/base.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the environment (once)"
	@$(RUN) pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements/base.txt
	@$(RUN) pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(BIN)/.train: requirements/train.txt $(BIN)/.base
	@echo "installing what training needs: $(TORCH) and the libraries on it (once)"
	@$(RUN) pip install --quiet --disable-pip-version-check --no-compile $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") "$(TORCH)"
	@$(RUN) pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements/train.txt
	@touch $@

$(BIN)/.dev: requirements/dev.txt $(BIN)/.train
	@echo "installing the development tools (once)"
	@$(RUN) pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

.PHONY: environment
environment: $(BIN)/.train vendor ## everything that running needs, training included

.PHONY: vendor
vendor: services/api/static/vendor/htmx.min.js services/api/static/vendor/plotly.min.js ## browser files, from packages

services/api/static/vendor/plotly.min.js: $(BIN)/.base
	@mkdir -p $(@D)
	@cp "$$($(BIN)/python -c 'import plotly, pathlib; print(pathlib.Path(plotly.__file__).parent / "package_data" / "plotly.min.js")')" $@

services/api/static/vendor/htmx.min.js: infra/browser/package.json $(BIN)/.base
	@mkdir -p $(@D)
	@bash infra/browser/vendor.sh $(BIN)/python $(@D)

# ---- use -----------------------------------------------------------------------------------------------------------
.PHONY: demo
demo: environment ## a collection from 100 bundled instructions (INSTRUCTIONS=file, TEACHER=openai)
	@$(BIN)/multifacet demo --teacher "$(TEACHER)" --out "$(OUT)" $(if $(INSTRUCTIONS),--instructions "$(INSTRUCTIONS)")

.PHONY: acceptance-real
acceptance-real: environment ## 200 instructions by a real teacher for 5 US dollars at most, and the audit (TEACHER=, JUDGE=, INSTRUCTIONS=)
	@$(BIN)/multifacet acceptance --teacher "$(if $(filter simulator,$(TEACHER)),openai,$(TEACHER))" --budget-usd 5 \
	  --out out/acceptance $(if $(JUDGE),--judge "$(JUDGE)") $(if $(INSTRUCTIONS),--instructions "$(INSTRUCTIONS)")

.PHONY: serve
serve: environment ## the whole system on this machine, until Ctrl-C
	@$(BIN)/multifacet serve

# ---- development ---------------------------------------------------------------------------------------------------
.PHONY: test
test: environment $(BIN)/.dev ## all tests but the long suites
	@$(RUN) pytest -n 2 --dist loadscope -m "not long"

.PHONY: test-long
test-long: environment $(BIN)/.dev ## the suites that take minutes each: trainings killed, stopped, chained, in two processes
	@$(RUN) pytest -m long

.PHONY: lint
lint: $(BIN)/.dev ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

.PHONY: format
format: $(BIN)/.dev ## rewrite the code in the project's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: bench
bench: environment $(BIN)/.dev ## the benchmark table of docs/benchmarks.md
	@$(RUN) benchmarks

.PHONY: bench-train
bench-train: environment $(BIN)/.dev ## training speed against trl's defaults, on one GPU (or a small model on a CPU)
	@$(RUN) benchmarks.training

.PHONY: bench-serve
bench-serve: environment $(BIN)/.dev ## serving: tokens/s beside `transformers serve`, what the api adds to a stream, memory over 10,000 requests
	@$(RUN) benchmarks.serving_engine
	@$(RUN) benchmarks.serving_engine --memory 10000
	@$(RUN) benchmarks.serving_gateway

.PHONY: bench-evaluate
bench-evaluate: environment $(BIN)/.dev ## statistics of evaluations: seconds and memory, and how often their intervals hold the truth
	@$(RUN) benchmarks.evaluation_statistics --coverage 1000

.PHONY: bench-judge
bench-judge: environment $(BIN)/.dev ## how much of a limited provider's rate a judging stage uses: 11,052 verdicts in about two minutes
	@$(RUN) benchmarks.judging_rate

# Sizes of the soaks: steps and faults, and instructions of the full pipeline (0 leaves it out).
SOAK_STEPS  ?= 10000
SOAK_FAULTS ?= 60
SOAK_ROWS   ?= 65666
SEED        ?= 1

.PHONY: soak
soak: environment $(BIN)/.dev ## 10,000 steps under faults, then the paper's size through the pipeline (SEED=, SOAK_STEPS=, SOAK_ROWS=); an hour
	@status=0; $(RUN) benchmarks.soak --steps $(SOAK_STEPS) --faults $(SOAK_FAULTS) --seed $(SEED) || status=1; \
	$(if $(filter-out 0,$(SOAK_ROWS)),$(RUN) benchmarks.soak_paper --rows $(SOAK_ROWS) || status=1;) exit $$status

.PHONY: bench-control
bench-control: environment $(BIN)/.dev ## the control plane: empty steps/s, free slots, the api under load, the idle system; goals and figures
	@status=0; for one in control_plane api_load idle; do $(RUN) benchmarks.$$one || status=1; done; exit $$status

.PHONY: gates
gates: environment $(BIN)/.dev ## what the quality gates find of slips whose truth is known, and what they turn away wrongly
	@$(RUN) gates

.PHONY: audit-planted
audit-planted: environment $(BIN)/.dev ## what the audit finds of defects planted in a finished job's exports (COLLECTION=out/demo)
	@$(RUN) gates.planted --alone "$(COLLECTION)/assemble/exports" "$(COLLECTION)/audit-planted"

.PHONY: secrets
secrets: ## files of random secrets for docker compose, in infra/compose/secrets; what is there stays
	@bash infra/compose/secrets.sh

.PHONY: compose-test
compose-test: $(BIN)/.dev ## docker compose up for real, one job by curl (needs a Docker engine)
	@bash tests/compose/run.sh

# Which point each fault strikes at, how often each is tried, and which (a regular expression on names, faults and families).
SEED  ?= 1
TRIES ?= 3
ONLY  ?=

.PHONY: chaos
chaos: environment $(BIN)/.dev ## every fault of tests/chaos, seeded, with a table (SEED=1 TRIES=3 ONLY=pattern)
	@$(RUN) tests.chaos --seed "$(SEED)" --tries "$(TRIES)" --only "$(ONLY)"

# Git reference of the earlier code; default: the commit before the newest migration was added.
FROM ?=
.PHONY: upgrade-test
upgrade-test: environment $(BIN)/.dev ## a rolling upgrade with a migration under a running job (FROM=git reference of the earlier code)
	@$(RUN) tests.upgrade $(if $(FROM),--from "$(FROM)")

.PHONY: lock
lock: ## resolve the lock files anew (needs uv, and TORCH_WHEELS=folder of a torch wheel without CUDA)
	@test -n "$(TORCH_WHEELS)" || { echo "set TORCH_WHEELS to the folder of a $(TORCH) wheel without CUDA"; exit 2; }
	uv pip compile --quiet --generate-hashes --no-emit-index-url --python-version 3.11 --extra embedded -o requirements/base.txt pyproject.toml
	echo "$(TORCH)+cpu" | uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 \
	  --find-links "$(TORCH_WHEELS)" --no-emit-package torch --extra train -c requirements/base.txt -c - -o requirements/train.txt pyproject.toml
	echo "$(TORCH)+cpu" | uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 \
	  --find-links "$(TORCH_WHEELS)" --no-emit-package torch --extra dev -c requirements/train.txt -c - -o requirements/dev.txt pyproject.toml

.PHONY: clean
clean: ## remove the environment and what the demo wrote
	rm -rf $(VENV) out services/api/static/vendor
