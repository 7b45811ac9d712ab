# make demo: a fresh machine to a finished report.  make test: environment and tests.  make check: ruff.  make torture: the long fault run.
# make gpu: on a machine with a GPU all parts of benchmarks/gpu.py, or PART=1 ... PART=6, each under ten minutes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check torture gpu results
.DELETE_ON_ERROR:

.venv/ready: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: .venv/ready
	$(BIN)/python extract.py demo
	$(BIN)/python train_head.py --recipe 1C3 1C4 3C4 3C4-big --lr-scale 30
	$(BIN)/python train_head.py --sweep
	$(BIN)/python finetune.py demo --recipe B4C3 B4C4 B4 --lr-scale 100
	@echo "report: runs/report.html"

test: .venv/ready
	$(BIN)/python -m pytest

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

torture: .venv/ready
	$(BIN)/python -m tests.faults

# PyPI's torch for Linux is the CUDA build; where the environment has another, INDEX names the index to take it from
gpu: .venv/ready
	$(BIN)/python -c "import sys, torch; sys.exit(torch.version.cuda is None)" || $(BIN)/python -m pip install --quiet --force-reinstall torch $(if $(INDEX),--index-url $(INDEX))
	$(BIN)/python -m pip install --quiet '.[bench]'
	for part in $(or $(PART),1 2 3 4 5 6); do $(BIN)/python benchmarks/gpu.py --part $$part || exit 1; done

results: .venv/ready
	@test -n "$(TITLES)" || { echo "make results TITLES=DIR: name the folder of the titles (see benchmarks/results.py)"; exit 2; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[baseline]'
	$(BIN)/python benchmarks/results.py "$(TITLES)"
