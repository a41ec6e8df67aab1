# Each target sets up what it needs, from a fresh clone: a virtual environment in .venv from constraints.txt.
PYTHON ?= python3
VENV ?= .venv
PEERS ?= .venv-bench
BIN = $(VENV)/bin
OUT ?= demo
IMAGE ?=

.PHONY: help demo test test-slow test-prepare parity bench bench-gpu lint types package notebooks reference docs clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/ -/'

$(VENV)/.base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .[dev,export]
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps jax2onnx
	@touch $@

demo: $(VENV)/.base  ## the whole method on drawn data, on a CPU: a table and a picture in demo/
	$(BIN)/python -m genseg.demo --out=$(OUT)

test: $(VENV)/.dev  ## the fast tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-slow: $(VENV)/.dev  ## tests that take minutes (those beside torch skip until `make parity` has installed it)
	$(BIN)/python -m pytest -q -m slow

$(VENV)/.prepare: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .[prepare]
	@touch $@

test-prepare: $(VENV)/.prepare  ## ImageNet from small archives through TFDS's builder to a resumed run (installs TensorFlow)
	$(BIN)/python -m pytest -q -m prepare

$(VENV)/.parity: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .[parity]
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps jax2onnx timm
	@touch $@

parity: $(VENV)/.parity  ## the networks and exports beside torch, transformers, timm, onnxruntime: a line each (installs torch)
	$(BIN)/python tests/parity/live.py
	$(BIN)/python tests/parity/outside.py $(if $(IMAGE),--image=$(IMAGE))

$(PEERS)/.ready: benchmarks/peers.txt constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	-$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check nvidia-dali-cuda120==2.4.0
	@touch $@

bench: $(PEERS)/.ready  ## genseg beside its peers on this CPU, turn by turn; one row: ROW=jpeg (installs torch, timm, DALI ...)
	$(PEERS)/bin/python benchmarks/run.py $(ROW)

$(VENV)/.cuda: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .[cuda]
	@touch $@

bench-gpu: $(VENV)/.cuda $(PEERS)/.ready  ## images/s and share of a GPU's peak beside timm eager and torch.compile, bfloat16; ARGS=
	$(BIN)/python benchmarks/gpu.py --peers $(PEERS)/bin/python $(ARGS)

lint: $(VENV)/.dev  ## style and format
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: $(VENV)/.dev  ## types of public functions, by mypy
	$(BIN)/python -m mypy

package: $(VENV)/.dev  ## wheel and source archive built, installed and run from another folder
	$(BIN)/python -m pytest -q -m slow tests/test_package.py

notebooks: $(VENV)/.dev  ## runs the notebooks from top to bottom and writes their executed copies for the site
	$(BIN)/python notebooks/execute.py

reference: $(VENV)/.dev  ## the tables of docs/config.md, from the keys' definitions
	$(BIN)/python docs/hooks.py

docs: $(VENV)/.dev  ## the site of docs/ in site/; refuses warnings and dead links
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir site

clean:  ## removes the environment and the demo's output
	rm -rf $(VENV) $(PEERS) $(OUT) site
