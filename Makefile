# Every verb does all of its own set-up in .venv. Settings: make VERB NAME=VALUE.
PYTHON ?= python3
PORT ?= 8501
ADDRESS ?= 127.0.0.1
# Where to look for PyTorch besides the ordinary index. auto: without an NVIDIA GPU in PyTorch's own index of CPU builds, if
# that answers, which saves gigabytes of CUDA libraries. `TORCH_INDEX=` with nothing behind it: nowhere else.
TORCH_INDEX ?= auto
CPU_INDEX ?= https://download.pytorch.org/whl/cpu

BIN := .venv/bin
# A pip that shows how far it is with unpacking, which takes longest: Debian's own does not. In a log it says nothing.
NEW_ENVIRONMENT = echo 'Making an environment in .venv'; $(PYTHON) -m venv --clear .venv && \
	$(BIN)/pip install --disable-pip-version-check --quiet --progress-bar off pip==26.3
PIP_INSTALL = if [ -t 1 ]; then shown=; else shown='--quiet --progress-bar off'; fi; \
	$(BIN)/pip install --disable-pip-version-check $$shown

.PHONY: install run test lint train bench up-test audit lock

install: .venv/installed

# A changed requirement makes the environment anew, so that nothing stays behind that no file names.
.venv/installed: requirements.txt requirements-dev.txt requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "$(PYTHON) is `$(PYTHON) -V 2>&1`: Python 3.11 to 3.13 is needed. Name one: make install PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments. Install that part: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(NEW_ENVIRONMENT)
	@index='$(TORCH_INDEX)'; \
	if [ "$$index" = auto ]; then index=`$(PYTHON) deploy/torch_index.py $(CPU_INDEX)` || exit 1; fi; \
	echo "Installing what requirements-dev.txt names into it; this takes some minutes"; \
	$(PIP_INSTALL) $${index:+--extra-index-url $$index} -r requirements-dev.txt -c requirements.lock
	@touch $@
	@echo 'The environment is ready'

run: install
	@echo "Starting on http://$(ADDRESS):$(PORT) (Ctrl-C stops it)"
	@$(BIN)/streamlit run serve.py --server.address $(ADDRESS) --server.port $(PORT) --server.headless true

# Three files at once, as two cores have time for (tests wait for browsers), each in one process: its tests share an app, a
# browser and a server. One thread each: with more of them than cores, PyTorch is slower with two.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

# Style, types, and the JavaScript; the linter of the CSS has a package for Linux on x86-64 alone.
lint: install
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/oxlint --deny-warnings page/static tests
	@if [ -x $(BIN)/biome ]; then echo '$(BIN)/biome lint'; $(BIN)/biome lint --error-on-warnings; fi

train: install
	$(BIN)/python train.py

# Prints the README's table, then that of docs/scale.md, in some eight minutes on two quiet cores.
bench: install
	@printf '%s, %s cores, load %s before the start\n\n' "$$(date +'%-d %B %Y')" "$$(nproc)" "$$(cut -d' ' -f1 /proc/loadavg)"
	@echo '| figure | median (5–95 %) | program |'; echo '|---|--:|---|'
	@for name in answering live look opening cost inference startup load writes scrolling; do \
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
	@echo 'Making an environment for the auditor in .venv/audit'
	@$(PYTHON) -m venv --clear .venv/audit
	@.venv/audit/bin/pip install --disable-pip-version-check --quiet pip-audit==2.10.1
	@.venv/audit/bin/pip-audit -r requirements.lock --no-deps --disable-pip 2> .venv/audit.log || { \
		grep -q 'Max retries exceeded\|Could not connect' .venv/audit.log || { cat .venv/audit.log >&2; exit 1; }; \
		echo "audit skipped: the advisories are out of reach"; }

# Writes the exact versions of everything, dependencies' dependencies included; run it after changing a requirement.
# The ordinary index alone: its builds of PyTorch name the most packages, and the lock serves both.
lock:
	@$(NEW_ENVIRONMENT)
	@echo 'Installing the newest versions that requirements-dev.txt allows; this takes some minutes'
	@$(PIP_INSTALL) -r requirements-dev.txt
	@{ echo "# Made by \`make lock\`: exact versions of all dependencies, for pip's -c. Those a platform does not need are not installed."; \
	  $(BIN)/pip freeze --exclude pip | grep -v '^-e'; } > requirements.lock
