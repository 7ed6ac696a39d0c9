# Two commands are enough: `make demo` runs the product, `make test` proves it. Each makes the virtual
# environment first, if it is not there.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq

.PHONY: demo test test-unit test-ros test-gpu test-jazzy lint clean help

help: ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

demo: $(VENV)/.run ## a camera publishes a drive over ROS 2, the node segments it, an overlay video is written
	$(BIN)/deeplab_rt demo $(ARGS)

test: $(VENV)/.test ## every test
	$(BIN)/python -m pytest $(ARGS)

test-unit: $(VENV)/.test ## the tests that start no process
	$(BIN)/python -m pytest tests/unit $(ARGS)

test-ros: $(VENV)/.test ## the tests of the nodes, over ROS 2 Kilted
	$(BIN)/python -m pytest tests/ros $(ARGS)

test-gpu: ## the tests that need an NVIDIA GPU with TensorRT, in an environment of their own; PLATFORM=jetpack6|jetpack7|cuda12|cuda13|tensorrt-rtx
	$(PYTHON) tests/gpu/run.py $(if $(PLATFORM),--platform $(PLATFORM)) $(ARGS)

test-jazzy: .venv-jazzy/.test ## the tests of the node once more, over ROS 2 Jazzy
	.venv-jazzy/bin/python -m pytest tests/ros $(ARGS)

lint: $(VENV)/.test ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip

$(VENV)/.run: setup.py $(VENV)/bin/python
	@echo "installing into $(VENV) (some minutes the first time)"
	@$(PIP) install --editable '.[cpu,ros]'
	@touch $@

$(VENV)/.test: setup.py $(VENV)/bin/python
	@echo "installing into $(VENV) (some minutes the first time)"
	@$(PIP) install --editable '.[cpu,ros,train,dev]'
	@touch $@ $(VENV)/.run

# Jazzy's and Kilted's wheels cannot share an environment.
.venv-jazzy/.test: setup.py
	$(PYTHON) -m venv .venv-jazzy
	@echo "installing into .venv-jazzy (some minutes the first time)"
	@.venv-jazzy/bin/python -m pip -qq install --upgrade pip
	@.venv-jazzy/bin/python -m pip -qq install --editable '.[cpu,test,ros-jazzy]'
	@touch $@

clean: ## remove the virtual environment and what builds leave
	rm -rf $(VENV) .venv-gpu-* gpu-report.txt .venv-jazzy build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
