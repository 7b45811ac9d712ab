# make demo: a fresh machine to a finished report.  make test: environment and tests.  make check: ruff.  make torture: the cache's long fault run.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check torture
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
