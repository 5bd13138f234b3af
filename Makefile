# Needs python3 (3.10 to 3.13) and make; everything else is installed into .venv, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CASES := 2000

.PHONY: help demo test test-slow test-backends test-hub evidence bench fuzz docs figure lint format wheel clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(INSTALLED)  ## the main job on real handwritten digits, from a saved model to an exported one
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python samples/digits.py

# CI runs test, test-slow and test-backends, which together are all tests but those of KerasHub.
test: lint  ## linters, type checker, and all tests but the slow ones
	$(BIN)/python -m pytest -m "not slow and not backends" --numprocesses 2 --dist loadfile

test-slow: $(INSTALLED)  ## the slow tests: samples, several devices, every pair of two tables, new processes
	$(BIN)/python -m pytest -m slow --numprocesses 2 --dist loadfile

# It has a place of its own, as TensorFlow and torch need not get along. torch is the release that the tests passed with;
# Keras is the one that came with TensorFlow.
TORCH := .venv-torch
TORCH_PYTHON := REWRITER_TORCH=$(CURDIR)/$(TORCH)/bin/python
$(TORCH)/.installed: $(INSTALLED)
	$(PYTHON) -m venv $(TORCH)
	$(TORCH)/bin/python -m pip install --quiet torch==2.13.0 $$($(BIN)/python -m pip freeze | grep '^keras==') \
		numpy h5py rich typer lazy-loader wrapt
	@touch $@

test-backends: $(TORCH)/.installed  ## Keras 3 on JAX, TensorFlow and PyTorch, which is installed into .venv-torch, once
	$(TORCH_PYTHON) $(BIN)/python -m pytest -m backends --numprocesses 2

# Without what it depends on, as TensorFlow Text would choose another TensorFlow. What else it imports is named here, and
# comes behind all that is installed already. KerasHub is the release that the test passed with.
HUB := .keras-hub
$(HUB)/.installed: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --no-deps --target $(HUB) keras-hub==0.32.0 kagglehub kagglesdk \
		huggingface_hub tokenizers sentencepiece regex tqdm packaging pyyaml filelock fsspec protobuf requests urllib3 \
		idna certifi charset-normalizer
	@touch $@

test-hub: $(HUB)/.installed $(TORCH)/.installed  ## backbones of KerasHub, which is installed into .keras-hub, once
	REWRITER_HUB=$(CURDIR)/$(HUB) $(TORCH_PYTHON) $(BIN)/python -m pytest tests/keras3/test_hub.py

evidence: $(INSTALLED)  ## what is not done of the runs in samples/evidence, and the page of the docs; hours from nothing
	$(BIN)/python samples/evidence/run.py
	$(BIN)/python samples/evidence/step_times.py
	$(BIN)/python samples/evidence/soap_settings.py
	$(BIN)/python samples/evidence/offsets.py
	$(BIN)/python samples/evidence/report.py

bench: $(INSTALLED)  ## training steps on the reference networks against the alternatives, and every other cost
	$(BIN)/python samples/alternatives.py
	$(BIN)/python samples/centered_costs.py
	$(BIN)/python samples/rule_costs.py
	KERAS_BACKEND=jax $(BIN)/python samples/backend_costs.py
	$(BIN)/python samples/reference_costs.py

fuzz: $(INSTALLED)  ## damage real model files in many ways and see what becomes of them: make fuzz CASES=2000
	$(BIN)/python tests/support/fuzzing.py $(CASES)

docs: $(INSTALLED)  ## build the reference from the docstrings into build/docs; a warning is an error
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/sphinx-build -q -W --keep-going docs build/docs

figure: $(INSTALLED)  ## draw the figure of the README anew
	$(BIN)/python docs/figure.py

lint: $(INSTALLED)  ## ruff and mypy, strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## let ruff put the code in its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: $(INSTALLED)  ## build dist/*.whl and dist/*.tar.gz, the wheel from the other
	$(BIN)/python -m build

clean:  ## remove everything that was made
	rm -rf $(VENV) $(TORCH) $(HUB) build dist demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

# Installed again only when what is installed may have changed.
$(INSTALLED): pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
