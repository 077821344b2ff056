# Everything that a developer does with this project. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-faults image-test lint-deploy soak fuzz check format schemas docs formats dashboards picture manifests bench lock clean

VENV_PYTHON := .venv/bin/python
STORE ?= local
ARGS ?=
SOAK ?= 10
FUZZ ?= 1
SEED ?= 7
# Tests of one file stay in one process, since they share servers and media.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile
UV_VERSION := 0.13.9

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with the command .venv/bin/frame-capture, and find or install RabbitMQ
	@scripts/setup

demo: setup ## Run the example tasks through a real RabbitMQ (STORE=s3: through a real S3 server too)
	@$(VENV_PYTHON) -m devkit.demo --store $(STORE)

test: setup ## Run the tests (ARGS="-k name" chooses)
	@scripts/setup test
	@$(VENV_PYTHON) -m pytest $(PARALLEL) $(ARGS)

test-all: setup ## Run the tests, the slow ones too
	@scripts/setup test
	@$(VENV_PYTHON) -m pytest -m "" $(PARALLEL) $(ARGS)

test-faults: setup ## Inject faults under load and account for every task
	@$(VENV_PYTHON) -m pytest -m "" $(PARALLEL) tests/faults $(ARGS)

image-test: setup ## Build the image with Debian's packages as its base, run it, and look into it (as root)
	@scripts/setup image
	@$(VENV_PYTHON) -m pytest -m "" tests/image $(ARGS)

lint-deploy: setup ## Look for weaknesses in the manifests and the Dockerfile with checkov and hadolint
	@scripts/setup lint
	@$(VENV_PYTHON) -m pytest -m "" tests/deploy/test_posture.py $(ARGS)

soak: setup ## Inject faults at random for SOAK minutes (SOAK_SEED=n repeats a mix)
	@SOAK=$(SOAK) $(VENV_PYTHON) -m pytest -m "" -s tests/faults/test_soak.py $(ARGS)

fuzz: setup ## Mutate media and messages for FUZZ minutes and judge all answers (SEED=n repeats a row of inputs)
	@$(VENV_PYTHON) -m tests.fuzz $(FUZZ) $(SEED)

check: setup ## Lint, formatting, types, import contracts
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@.venv/bin/lint-imports

format: setup ## Format the code
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

schemas: setup ## Write the JSON Schemas and examples in schemas/
	@.venv/bin/frame-capture schemas

docs: setup ## Write the generated tables in docs/
	@$(VENV_PYTHON) -m devkit.docs

PICTURES := $(addprefix tests/unit/test_,colour_files.py pixel_formats.py geometry_files.py orientation_files.py presentation.py transparency.py deinterlace.py cover.py real_covers.py)

formats: setup ## Write docs/formats.md from a run of the exactness tests, with the shared media (ARGS='-m ""': the slow ones too)
	@$(VENV_PYTHON) -m pytest --write-formats docs/formats.md tests/integration/test_real_media.py tests/integration/hls tests/unit/test_capture.py tests/unit/test_exactness.py tests/unit/test_layouts.py $(PICTURES) $(ARGS)

dashboards: setup ## Write the Grafana dashboard and the alerts for deploy/compose.yaml
	@$(VENV_PYTHON) -m devkit.dashboard
	@$(VENV_PYTHON) -m devkit.alert_rules

picture: setup ## Draw the dashboard into docs/dashboard.svg, from three minutes of a real worker's metrics
	@scripts/setup test
	@$(VENV_PYTHON) -m pytest --timeout 900 tests/e2e/test_prometheus.py --draw-dashboard docs/dashboard.svg

manifests: setup ## Write the resources for RabbitMQ's topology operator in deploy/k8s from the worker's topology
	@$(VENV_PYTHON) -m devkit.rabbitmq_resources

bench: setup ## Compare with ffmpeg and others, about 15 minutes (ARGS=--quick: 3)
	@scripts/setup bench
	@$(VENV_PYTHON) -m bench $(ARGS)

lock: ## Pin the dependencies of pyproject.toml anew (ARGS=--upgrade: in their newest versions)
	@set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; unset PIP_FIND_LINKS UV_FIND_LINKS; \
	python3 -m venv "$$tmp/venv"; "$$tmp/venv/bin/pip" install --quiet uv==$(UV_VERSION); \
	compile="$$tmp/venv/bin/uv pip compile --quiet --generate-hashes --no-header --python-version 3.11 $(ARGS)"; \
	$$compile pyproject.toml -o requirements.txt; \
	$$compile --extra dev pyproject.toml -o requirements-dev.txt; \
	$$compile bench/requirements.in -o bench/requirements.txt; \
	$$compile deploy/lint/requirements.in -o deploy/lint/requirements.txt

clean: ## Remove what the other targets made
	rm -rf .venv .venv-bench .venv-lint .image bench-media .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo-output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
