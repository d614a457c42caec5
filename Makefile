# Two commands do all the set-up: `make book` and `make test`.
#   make book   create .venv, execute every chapter, build the site     _build/html/index.html
#   make test   the package's tests, the notebooks, the pages in a browser
# TORCH=cpu installs PyTorch's CPU-only build where the default one would bring CUDA.

PYTHON ?= python3
TORCH  ?= default
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed-$(TORCH)
SITE   := _build/html/index.html

# glibc hands large tensors back to the kernel after every operation; keeping them makes
# torch on CPU about 1.7 times faster here. Other C libraries ignore these.
export MALLOC_MMAP_MAX_ = 0
export MALLOC_TRIM_THRESHOLD_ = -1
export PYTHONHASHSEED = 0

SOURCES := $(shell find sal360 book data -type f \
	-not -path '*/__pycache__/*' -not -path '*/.ipynb_checkpoints/*' 2>/dev/null)

.PHONY: book test lab lint format bench times clean env address

book: $(SITE)

env: $(STAMP)

$(STAMP): pyproject.toml constraints.txt sal360/_version.py sal360/nn/_rim.c
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "$(PYTHON) is not Python 3.11 to 3.13; say make PYTHON=python3.12"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifeq ($(TORCH),cpu)
	$(BIN)/pip install -q -c constraints.txt uv
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q --torch-backend cpu -c constraints.txt torch
endif
	$(BIN)/pip install -q -c constraints.txt -e '.[book,test,dev]'
	rm -f $(VENV)/.installed-*
	touch $@

# Where the real files are, and how large to compute, decide what the pages show.
INPUTS := _build/inputs
$(shell mkdir -p _build; echo "$$SAL360_CACHE|$$SAL360_OFFLINE|$$SAL360_SCALE" | \
	cmp -s - $(INPUTS) || echo "$$SAL360_CACHE|$$SAL360_OFFLINE|$$SAL360_SCALE" > $(INPUTS))

$(SITE): $(STAMP) $(INPUTS) _config.yml _toc.yml README.md $(SOURCES)
	SAL360_BOOK=1 SAL360_SCALE=$${SAL360_SCALE:-fast} \
		$(BIN)/jupyter-book build . -W --keep-going -q
	@touch $@
	@echo "open $(SITE)"

# Two workers with one thread each: more threads than cores would wait for each other.
test: $(SITE)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} SAL360_SCALE=$${SAL360_SCALE:-fast} $(BIN)/python -m pytest tests book \
		--nbval-lax --nbval-current-env -n 2 --dist loadscope

lab: $(STAMP)
	$(BIN)/jupyter lab book

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check sal360 tests benchmarks book/_ext
	$(BIN)/mypy
	$(BIN)/nbstripout --verify book/*.ipynb

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format sal360 tests benchmarks book/_ext
	$(BIN)/nbstripout book/*.ipynb

# Measure everything again, beside the libraries we compare with, and write book/benchmarks.md.
bench: $(STAMP)
	$(BIN)/pip install -q -c constraints.txt -e '.[compare]'
	$(BIN)/python -m benchmarks $(ONLY)

# Run every chapter and write how long it took under its title.
times: $(STAMP)
	SAL360_SCALE=$${SAL360_SCALE:-fast} $(BIN)/python -m benchmarks.chapter_times

# Write the repository's address from pyproject.toml into badges, cells and pages.
address: $(STAMP)
	$(BIN)/python -m tests.address --write

clean:
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis
