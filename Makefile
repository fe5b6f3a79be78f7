# Every task of the book. `make reproduce-all` and `make test` set up by themselves.
# Settings that pass through: PROFILE= SEEDS="0 1 2" JOBS= DEVICE= EPOCHS= DATA= RESULTS= FRESH=1
# Pages in another language, beside the English ones: make reproduce-all BOOK_LANGUAGE=zh_CN
# Several processes for each run: DEVICES=0,1 or NPROC=2, over machines NNODES=2 MASTER=host:port

SHELL := /bin/bash
.DEFAULT_GOAL := help

# Settings are taken from make's own command line: an environment may have such names for other
# purposes.
$(foreach name,PROFILE SEEDS JOBS DEVICE EPOCHS DATA RESULTS FRESH DEVICES NPROC NNODES MASTER GPU \
	PEER RETRAIN,$(if $(filter environment,$(origin $(name))),$(eval $(name) :=)))

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PADDLE_VERSION = $(shell sed -n 's/^paddlepaddle==//p' constraints.txt)
# The build of Paddle: cpu, or a GPU build such as cu126. An environment keeps the one that it has;
# a new one gets what fits the machine's GPU and driver.
PADDLE_READY := $(patsubst $(VENV)/.ready-%,%,$(wildcard $(VENV)/.ready-*))
PADDLE_BEGUN := $(patsubst $(VENV)/.begun-%,%,$(wildcard $(VENV)/.begun-*))
ifndef PADDLE
PADDLE := $(firstword $(filter cpu cu%,$(PADDLE_READY)))
ifeq ($(PADDLE),)
PADDLE_CHOSEN := $(shell $(PYTHON) -I src/attn_blocks/gpu.py 2>/dev/null)
PADDLE := $(or $(firstword $(PADDLE_CHOSEN)),cpu)
PADDLE_REASON := $(wordlist 2,99,$(PADDLE_CHOSEN))
endif
endif
ifeq ($(filter cpu cu%,$(PADDLE)),)
$(error PADDLE is $(PADDLE); choose cpu, cu118, cu126 or cu129)
endif
GPU_INDEX ?= https://www.paddlepaddle.org.cn/packages/stable/$(PADDLE)/
STAMP := $(VENV)/.ready-$(PADDLE)
# What is installed names its own folder, so that an environment cannot be moved or copied.
MADE_IN := $(shell cat $(STAMP) 2>/dev/null)
ifneq ($(MADE_IN),)
ifneq ($(MADE_IN),$(CURDIR))
$(error $(VENV) was made in $(MADE_IN) and works only there; here: rm -rf $(VENV), and give the same command again)
endif
endif
# Where serve, lab and visualdl listen: this machine alone, unless `make serve HOST=0.0.0.0` says
# otherwise. Not from the environment either: some shells put the machine's own name there.
PORT := 8000
HOST := 127.0.0.1

# An interpreter with torch and timm for `make bench PEER=torch`; without one it is set up.
ifeq ($(PEER),torch)
ifndef PEER_PYTHON
PEER_PYTHON := .venv-torch/bin/python
PEER_READY := .venv-torch/.ready
endif
else ifneq ($(PEER),)
$(error PEER can only be torch, not $(PEER))
endif

OPTIONS := $(if $(PROFILE),--profile $(PROFILE)) $(if $(SEEDS),--seeds "$(SEEDS)") \
	$(if $(JOBS),--jobs $(JOBS)) $(if $(DEVICE),--device $(DEVICE)) \
	$(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(DATA),--data-dir "$(DATA)") \
	$(if $(RESULTS),--results-dir "$(RESULTS)") $(if $(filter-out 0,$(FRESH)),--fresh)
PAGE_LANGUAGE := $(if $(BOOK_LANGUAGE),--language $(BOOK_LANGUAGE))
BOOK := $(BIN)/python -m attn_book

# $(call venv,FOLDER) makes FOLDER a virtual environment, unless a working one is there already.
# Debian and Ubuntu ship Python without ensurepip, which venv needs.
define venv
@$(1)/bin/python -m pip --version >/dev/null 2>&1 || { \
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null || { \
		echo "Python 3.10 to 3.13 is needed, but $(PYTHON) is $$($(PYTHON) -V 2>/dev/null || echo missing): install one" \
			"(apt install python3 python3-venv on Debian 12 and 13 and Ubuntu 22.04 and 24.04," \
			"brew install python@3.12 on macOS, uv python install 3.12 anywhere)" \
			"and name it, as in make PYTHON=/path/to/python3.12"; exit 1; }; \
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments yet: apt install python3-venv"; exit 1; }; \
	$(PYTHON) -m venv $(1); }
endef

# As variables, so that they reach the notebooks too.
$(foreach name,DEVICES NPROC NNODES MASTER,$(if $($(name)),\
	$(eval export ATTN_BLOCKS_$(name) := $($(name)))))

.PHONY: help setup doctor lock check-lock test test-long test-gpu-wheel lint translations data models train reproduce-all estimate \
	publish verify-published book serve bench lab visualdl clean

help: ## list the targets
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

# Of all that pip says, show the large files that it fetches, and its errors.
LARGE_FILES = | { grep --line-buffered -oE '[^ ]+\.whl \([0-9.]+ [MG]B\)' || true; }

setup: $(STAMP) ## make .venv and install everything (the other targets do it when needed)

$(STAMP): pyproject.toml constraints.txt
	$(call venv,$(VENV))
	@echo "Installing everything into $(VENV), with Paddle's $(PADDLE) build$(if $(PADDLE_REASON), because $(PADDLE_REASON)):" \
		"$(if $(filter cpu,$(PADDLE)),400 MB,several GB) to download, once ..."
ifneq ($(PADDLE),cpu)
# Asked first, because an install would try an index that is out of reach for minutes.
	@$(BIN)/python -m pip index versions --retries 1 --timeout 20 --index-url $(GPU_INDEX) paddlepaddle-gpu >/dev/null 2>&1 || { \
		echo "Paddle's package index $(GPU_INDEX) cannot be reached from here: take the CPU build with" \
			"make setup PADDLE=cpu, or name a mirror with GPU_INDEX=https://..."; exit 1; }
endif
# The builds are two packages that write into one folder, so that one has to go before another comes.
# Until it is gone, a file names it: .begun-, since an environment without Paddle is not ready.
	@$(if $(filter-out $(PADDLE),$(PADDLE_READY) $(PADDLE_BEGUN)),$(foreach build,$(PADDLE_READY),\
		mv $(VENV)/.ready-$(build) $(VENV)/.begun-$(build) &&) \
		$(BIN)/python -m pip uninstall --quiet --yes paddlepaddle paddlepaddle-gpu && rm -f $(VENV)/.begun-*)
	@touch $(VENV)/.begun-$(PADDLE)
ifneq ($(PADDLE),cpu)
	@$(BIN)/python -m pip install --constraint constraints.txt --extra-index-url $(GPU_INDEX) \
		paddlepaddle-gpu==$(PADDLE_VERSION)
endif
	@set -o pipefail; $(BIN)/python -m pip install --constraint constraints.txt \
		--editable '.[$(if $(filter cpu,$(PADDLE)),cpu,gpu),book,dev]' $(LARGE_FILES)
ifeq ($(PADDLE),cpu)
# Headers only, so not in the lock: the package's own dependencies are a compiler of several
# gigabytes.
	@[ "$$(uname -sm)" != "Linux x86_64" ] || $(BIN)/python -m pip install --quiet --no-deps onednn-devel==2025.0.1 || \
		echo "oneDNN's headers could not be fetched: training on the processor is slower without; make doctor says how to get them"
	@echo "Compiling operators for the processor, where there is a compiler; this takes a minute once ..."
# Of what is printed only the outcome, which names what went wrong: Paddle warns of itself meanwhile.
	@GLOG_minloglevel=2 $(BIN)/python -W ignore -c 'from attn_blocks import native; print(native.build())'
endif
	@echo "$(CURDIR)" > $@ && rm -f $(VENV)/.begun-*

doctor: $(STAMP) ## say what this machine has, what is wrong with it, and the line that fixes it
	@$(BOOK) doctor $(if $(DATA),--data-dir "$(DATA)") $(if $(RESULTS),--results-dir "$(RESULTS)")

# The lock: one version of every package, direct or not, for each Python. Versions that still fit
# are kept; delete constraints.txt first to have the newest of everything. The GPU build that PyPI
# serves is an older one and wants older packages, so it has its own lock, as close to the first as
# can be.
LOCK = .venv-lock/bin/uv pip compile --quiet --no-annotate pyproject.toml --extra book --extra dev
WRITE_LOCK = $(LOCK) --universal --python-version 3.10 --custom-compile-command "make lock"

.venv-lock/bin/uv:
	$(call venv,.venv-lock)
	@.venv-lock/bin/python -m pip install --quiet uv==0.13.9

lock: .venv-lock/bin/uv ## write constraints*.txt anew from pyproject.toml
	@$(WRITE_LOCK) --extra cpu --output-file constraints.txt >/dev/null
	@cp constraints.txt constraints-gpu-wheel.txt.new
	@$(WRITE_LOCK) --extra gpu-wheel --output-file constraints-gpu-wheel.txt.new >/dev/null
	@mv constraints-gpu-wheel.txt.new constraints-gpu-wheel.txt

# Debian 12 has 3.11.2, which some packages no longer take. A Mac is one with Apple silicon.
check-lock: $(addprefix check-lock-,3.10 3.11.2 3.11.9 3.12 3.13) ## check that the lock fits each Python

check-lock-%: .venv-lock/bin/uv
	@for platform in linux macos; do \
		needed=$$($(LOCK) --no-header --extra cpu --constraint constraints.txt --only-binary :all: \
			--python-version $* --python-platform $$platform) \
		&& ! grep -vxFf <(sed 's/ ;.*//' constraints.txt) <<<"$$needed" || { \
			echo "constraints.txt does not fit Python $* on $$platform: make lock"; exit 1; }; done

# A file is one process's, in the order of tests/conftest.py: those that take long go first.
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder

# Under a name of its own: of a line with the usual one, `make --dry-run` would run all the rest too.
LINT = $(MAKE) --no-print-directory lint

# Style and types are checked beside the tests; what that found follows what the tests found.
test: $(STAMP) ## run lint and the tests (about 10 minutes on 2 cores)
	@$(LINT) >$(VENV)/lint.log 2>&1 & \
		$(BIN)/python -m pytest $(PARALLEL) -m "not long"; tests=$$?; \
		wait $$!; lint=$$?; cat $(VENV)/lint.log; exit $$((tests | lint))

# By uv, since pip takes minutes more for so much. It does not read pip's variable for a mirror.
.venv-gpu/.ready: pyproject.toml constraints-gpu-wheel.txt | .venv-lock/bin/uv
	$(call venv,$(@D))
	@echo "Installing PyPI's GPU build of Paddle, the old 2.6.2, into $(@D): 4 GB, Python 3.10 to 3.12; this takes a few minutes once ..."
	@.venv-lock/bin/uv pip install --python $(@D) $(if $(PIP_INDEX_URL),--default-index $(PIP_INDEX_URL)) \
		--constraint constraints-gpu-wheel.txt --editable '.[gpu-wheel,book,dev]'
	@touch $@

# What Paddle computes, and how it is imported and asked for devices; the other tests do not depend
# on its version. Nor does it that a change of numbers is found.
test-gpu-wheel: .venv-gpu/.ready ## run the tests of what computes on PyPI's old GPU build, 2.6.2; needs no GPU
	@.venv-gpu/bin/python -m pytest $(PARALLEL) -m "not long" --disable-warnings \
		--deselect tests/golden/test_golden.py::test_a_change_of_numbers_is_found \
		tests/golden tests/layers tests/models tests/native tests/training tests/test_device.py \
		tests/test_import.py tests/test_adding_a_block.py::test_its_page_trains_and_draws

test-long: $(STAMP) ## run the tests that take long
	@$(BIN)/python -m pytest -m long

lint: $(STAMP) ## check style and types, that no notebook carries outputs, and the translations
	@$(BIN)/ruff format --check src tests benchmarks book
	@$(BIN)/ruff check src tests benchmarks book
	@$(BIN)/mypy
	@$(BIN)/nbstripout --verify notebooks/*.ipynb
	@$(BIN)/python book/translations.py check
	@$(BIN)/python book/messages.py check

translations: $(STAMP) ## put new and changed prose and messages into the catalogues
	@$(BIN)/python book/translations.py update
	@$(BIN)/python book/messages.py update

data: $(STAMP) ## show which data sets are found and how to get the others
	@$(BOOK) data $(if $(DATA),--data-dir "$(DATA)")

models: $(STAMP) ## list all models with parameters and MACs
	@$(BOOK) models

train: $(STAMP) ## train all runs without executing the notebooks
	@$(BOOK) train $(OPTIONS)

reproduce-all: $(STAMP) ## train what is missing, execute all notebooks, print the results
	@$(BOOK) reproduce $(OPTIONS) $(PAGE_LANGUAGE)

reproduce-%: $(STAMP) ## the same for one page, such as reproduce-04_sge
	@$(BOOK) reproduce $* $(OPTIONS) $(PAGE_LANGUAGE)

estimate: $(STAMP) ## say what PROFILE=paper will cost on a GPU=V100
	@$(BOOK) estimate $(if $(PROFILE),--profile $(PROFILE)) $(if $(SEEDS),--seeds "$(SEEDS)") \
		$(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(GPU),--gpu "$(GPU)")

publish: $(STAMP) ## copy finished runs and executed notebooks to book/published
	@$(BOOK) publish $(if $(PROFILE),--profile $(PROFILE)) $(if $(DATA),--data-dir "$(DATA)") \
		$(if $(RESULTS),--results-dir "$(RESULTS)")

verify-published: $(STAMP) ## check what is published and train one short run again (RETRAIN=0: do not)
	@$(BOOK) verify-published $(if $(filter 0,$(RETRAIN)),,--retrain $(RETRAIN)) $(if $(DATA),--data-dir "$(DATA)")

book: $(STAMP) ## build the site from what is published, without network (RESULTS=results: yours too)
	@$(BIN)/python book/build.py $(if $(RESULTS),--results "$(RESULTS)",--readmes .)

serve: $(STAMP) ## serve the site on 127.0.0.1:8000 (HOST= PORT=)
	@test -f book/_build/html/index.html || $(BIN)/python book/build.py
	@echo "http://$(HOST):$(PORT)/"
	@$(BIN)/python -m http.server $(PORT) --bind $(HOST) --directory book/_build/html

bench: $(STAMP) $(PEER_READY) ## measure speed, as ratios; PEER=torch: every model beside PyTorch
ifeq ($(PEER),torch)
	@$(BIN)/python benchmarks/full_size/check.py --peer "$(PEER_PYTHON)"
	@$(BIN)/python benchmarks/models.py --peer "$(PEER_PYTHON)"
	@$(BIN)/python benchmarks/blocks.py --peer "$(PEER_PYTHON)"
else
	@$(BIN)/python benchmarks/operators.py
	@$(BIN)/python benchmarks/pipeline.py
endif

.venv-torch/.ready:
	@echo "Setting up .venv-torch with PyTorch; this takes a while once ..."
	$(call venv,$(@D))
	@.venv-torch/bin/python -m pip install --quiet torch timm
	@touch $@

lab: $(STAMP) ## open JupyterLab on the notebooks
	@$(BIN)/jupyter lab --ip $(HOST) --notebook-dir notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

visualdl: $(STAMP) ## show the training logs of all runs on 127.0.0.1:8040
	@cd "$(or $(RESULTS),$${ATTN_BLOCKS_RESULTS:-results})" 2>/dev/null || { \
		echo "there are no results yet: make reproduce-all, or name their folder with RESULTS="; exit 1; }; \
		"$(abspath $(BIN))/python" "$(abspath $(BIN))/visualdl" --logdir . --host $(HOST) --port 8040

clean: ## remove builds and caches; results, data and .venv stay
	rm -rf build book/_build .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
