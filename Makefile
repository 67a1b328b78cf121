# The two commands of the README: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
TORCH_INDEX ?=

.PHONY: help demo test setup lint types layers unit contract dags docs system services cluster images bench fix lock clean

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

bench: $(READY) ## all benchmarks, and docs/benchmarks.md with their figures (ARGS="--only parse")
	$(BIN)/python bench/run_all.py $(ARGS)

fix: $(READY) ## rewrite what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY) ## make requirements.txt from pyproject.toml, and of it include/install/requirements-hashed.txt
	$(BIN)/pip-compile --quiet --strip-extras --no-emit-find-links --no-emit-index-url --no-emit-trusted-host \
		--allow-unsafe --extra torch --extra postgres --extra celery --extra dev --output-file requirements.txt pyproject.toml
	@# The CPU build calls itself 2.13.0+cpu, which only its own index knows.
	@sed -i 's/^torch==2.13.0+cpu/torch==2.13.0/' requirements.txt
	grep -v '^torch==' requirements.txt | $(BIN)/pip-compile --quiet --strip-extras --no-emit-find-links \
		--no-emit-index-url --no-emit-trusted-host --allow-unsafe --no-annotate --no-header --generate-hashes \
		--output-file include/install/requirements-hashed.txt -

clean: ## remove the virtual environment and everything the demo made
	rm -rf $(VENV) .modelway
