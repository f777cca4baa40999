# Every verb does all of its own set-up in .venv. Settings: make VERB NAME=VALUE.
PYTHON ?= python3
PORT ?= 8501
ADDRESS ?= 127.0.0.1
# Where to look for PyTorch besides the default index. The CPU build alone saves gigabytes of CUDA libraries:
#   make install TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

BIN := .venv/bin

.PHONY: install run test lint train bench up-test audit lock

install: .venv/installed

# A changed requirement makes the environment anew, so that nothing stays behind that no file names.
.venv/installed: requirements.txt requirements-dev.txt requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "$(PYTHON) is `$(PYTHON) -V 2>&1`: Python 3.11 to 3.13 is needed. Name one: make install PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments. Install that part: sudo apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --disable-pip-version-check --quiet --progress-bar off \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r requirements-dev.txt -c requirements.lock
	@touch $@

run: install
	@echo "Starting on http://$(ADDRESS):$(PORT) (Ctrl-C stops it)"
	@$(BIN)/streamlit run app.py --server.address $(ADDRESS) --server.port $(PORT) --server.headless true

# Two files at once, each file in one process: its tests share an app, a browser and a server.
test: lint
	$(BIN)/pytest --numprocesses 2 --dist loadfile

lint: install
	$(BIN)/ruff check

train: install
	$(BIN)/python train.py

# Prints the README's table, then that of docs/scale.md, in some eight minutes on two quiet cores.
bench: install
	@printf '%s, %s cores, load %s before the start\n\n' "$$(date +'%-d %B %Y')" "$$(nproc)" "$$(cut -d' ' -f1 /proc/loadavg)"
	@echo '| figure | median (5–95 %) | program |'; echo '|---|--:|---|'
	@for name in answer inference startup load writes history; do \
		$(BIN)/python benchmarks/$$name.py > .venv/bench.log 2>&1 || { cat .venv/bench.log; exit 1; }; \
		grep '^|' .venv/bench.log; \
	done
	@$(BIN)/python benchmarks/queries.py 100000 > .venv/bench.log 2>&1 || { cat .venv/bench.log; exit 1; }
	@echo; sed -n '/^| query/,$$p' .venv/bench.log

# Builds the image, brings Compose up beside whatever runs, draws and labels through the page, takes it down and up again.
up-test: install
	$(BIN)/pytest tests/up_test.py

# Known vulnerabilities in the locked dependencies. The auditor has an environment of its own: it brings many packages.
audit: install
	$(PYTHON) -m venv --clear .venv/audit
	.venv/audit/bin/pip install --disable-pip-version-check --quiet pip-audit==2.10.1
	@.venv/audit/bin/pip-audit -r requirements.lock --no-deps --disable-pip 2> .venv/audit.log || { \
		grep -q 'Max retries exceeded\|Could not connect' .venv/audit.log || { cat .venv/audit.log >&2; exit 1; }; \
		echo "audit skipped: the advisories are out of reach"; }

# Writes the exact versions of everything, dependencies' dependencies included; run it after changing a requirement.
lock:
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --disable-pip-version-check --quiet --progress-bar off -r requirements-dev.txt
	{ echo "# Made by \`make lock\`: exact versions of all dependencies, for pip's -c. Those a platform does not need are not installed."; \
	  $(BIN)/pip freeze --exclude pip | grep -v '^-e'; } > requirements.lock
