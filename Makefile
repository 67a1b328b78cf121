# The two commands of the README: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
TORCH_INDEX ?=

.PHONY: help demo test setup lint types layers unit contract dags docs system services cluster images deployment bench fix lock clean

help: ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

demo: $(READY) ## take the model digits from code to traffic on a real Airflow (ARGS=--exit ends after the summary)
	@exec $(BIN)/modelway demo $(ARGS)

test: $(READY) services ## everything that CI runs
	@$(BIN)/python -m tests.run_all $(ARGS)

setup: $(READY) ## make the virtual environment (TORCH_INDEX=... to take torch from another index)

$(READY): requirements.txt include/install/requirements-hashed.txt pyproject.toml
	@PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" sh include/install/venv.sh

services: ## install what the system tests drive: a registry and a browser (Debian, as root)
	@sh tests/system/install_services.sh

cluster: ## start the Kubernetes and the Docker engine that tests use, where none answers
	@sh tests/system/start_cluster.sh

images: $(READY) ## build the images of jobs, of the model server and of gateways (ARGS=job; TORCH_INDEX=... for torch on GPUs)
	@for image in $(or $(ARGS),job server gateway); do \
		PYTHON=$(BIN)/python TORCH_INDEX="$(TORCH_INDEX)" sh include/images/build.sh $$image || exit 1; done

lint: $(READY) ## ruff, format included
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy, strict, on the library
	$(BIN)/mypy

layers: $(READY) ## the floors and rooms
	$(BIN)/lint-imports --no-logo

unit contract dags docs system: $(READY) ## one kind of tests
	$(BIN)/python -m pytest tests/$@ $(ARGS)

deployment: $(READY) ## start docker-compose.yaml for real, kill each of its parts under load, save and restore it
	MODELWAY_DEPLOYMENT=whole $(BIN)/python -m pytest -x -s tests/system/compose $(ARGS)

bench: $(READY) ## all benchmarks, and docs/benchmarks.md with their figures (ARGS="--only parse")
	$(BIN)/python bench/run_all.py $(ARGS)

fix: $(READY) ## rewrite what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The build of torch for CPUs keeps CUDA's packages out of the lock.
LOCK = $(BIN)/uv pip compile --quiet --python-version 3.11 --no-emit-index-url --no-emit-find-links $(TORCH_LOCK) \
	--custom-compile-command "make lock" --extra torch --extra postgres --extra celery --extra parquet --extra dev
TORCH_LOCK ?= --torch-backend cpu

lock: $(READY) ## make requirements.txt from pyproject.toml, and of it include/install/requirements-hashed.txt
	@# uv reads the versions of the last lock and keeps them; the CPU build calls itself 2.13.0+cpu.
	@sed -i 's/^torch==2.13.0$$/torch==2.13.0+cpu/' requirements.txt
	$(LOCK) --extra google-provider --output-file requirements.txt pyproject.toml
	$(LOCK) --constraint requirements.txt --no-emit-package torch --generate-hashes --no-annotate --no-header \
		--output-file include/install/requirements-hashed.txt pyproject.toml
	@sed -i 's/^torch==2.13.0+cpu/torch==2.13.0/' requirements.txt

clean: ## remove the virtual environment and everything the demo made
	rm -rf $(VENV) .modelway
