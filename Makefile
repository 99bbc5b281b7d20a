# Every target can be run first, on a bare clone: each builds what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
# The environment is its own. What a sourced ROS, another environment or a shell's start-up file say
# of Python's and pytest's modules and ways of working does not get in.
unexport PYTHONPATH PYTHONHOME PYTHONUSERBASE PYTHONPLATLIBDIR PYTHONEXECUTABLE __PYVENV_LAUNCHER__
unexport PYTHONSAFEPATH PYTHONSTARTUP PYTHONINSPECT PYTHONOPTIMIZE PYTHONWARNINGS
unexport PYTEST_ADDOPTS PYTEST_PLUGINS PYTEST_DISABLE_PLUGIN_AUTOLOAD
unexport VIRTUAL_ENV MYPYPATH SETUPTOOLS_USE_DISTUTILS
# pip's settings are obeyed, in files and variables alike: a company's index, proxies, certificates,
# constraints. (Where an index lacks a package, the error is pip's.) All but where to install to and
# with which Python, of which an argument has the last word.
INSTALL := $(RUN) -m pip --python= --disable-pip-version-check install --quiet \
  --no-user --target= --root=/ "--prefix=$(abspath $(VENV))"
# Large pages for large arrays: a tenth faster on Linux, without effect elsewhere.
export GLIBC_TUNABLES := glibc.malloc.hugetlb=1
CPP_SOURCES := $(wildcard csrc/*/*.cpp csrc/*/*.h csrc/cuda/*.cu csrc/cuda/emulation/*.h)
FORMATTED := $(CPP_SOURCES) $(wildcard csrc/cuda/emulation/*.cpp tests/cuda/*.cu tests/cuda/*.h tests/sanitize/*)
ENGINE_SOURCES := setup.py pyproject.toml $(wildcard csrc/cuda/nvcc.py) $(CPP_SOURCES)

.PHONY: help env build simulate simulate-long train train-long demo demo-seeds simulate-rooms demo-indoor demo-indoor-seeds bench test test-slow chaos compilers fuzz lint format clean

help:
	@echo "make train       simulate a drive, pre-train the full network on it, score and draw it (a quarter of an hour on two cores)"
	@echo "                 FIELDS=--config.total_steps=10 changes fields of its recipe, as here for a try"
	@echo "make train-long  the same with more streets and steps, past the teacher's own score (an hour)"
	@echo "make demo        the whole method on the simulated drive, in one table (half an hour; what make train did is used)"
	@echo "make demo-seeds  the same with three seeds (an hour and a half)"
	@echo "make demo-indoor the whole of 3DSS-VLG on simulated rooms, in one table (half an hour on two cores)"
	@echo "make demo-indoor-seeds  the same with three seeds, each with rooms of its own"
	@echo "make test        every test but the slow ones, from a bare clone"
	@echo "make test-slow   the slow ones: minutes and gigabytes each"
	@echo "make chaos       a short training killed 25 times, compared bit for bit (ten minutes)"
	@echo "make bench       the engine's speed beside dense products and, where installed, other libraries"
	@echo "make compilers   the engine with every C++ compiler that is installed, warnings being errors"
	@echo "make fuzz        10 minutes of coverage-guided fuzzing for each group of readers of files;"
	@echo "                 FUZZ_SECONDS=60 and FUZZ_TARGETS=\"dumps tables\" for less"
	@echo "make lint        ruff, mypy and clang-format; make format mends what they can"
	@echo "make build       the environment in $(VENV) and the compiled engine, nothing more"

# nuscenes-devkit pins numpy < 2 where JAX needs numpy >= 2; it works with numpy 2 (the tests use
# it), so it is installed without its dependency list and what it imports is pinned in its stead.
$(VENV)/installed: requirements/base.txt requirements/dev.txt requirements/nuscenes.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -r requirements/base.txt -r requirements/dev.txt
	$(INSTALL) --no-deps -r requirements/nuscenes.txt
	touch $@

$(VENV)/teachers: $(VENV)/installed requirements/teachers.txt
	$(INSTALL) -r requirements/teachers.txt
	touch $@

$(VENV)/clouds: $(VENV)/installed requirements/clouds.txt
	$(INSTALL) -r requirements/clouds.txt
	touch $@

# Kernels for GPUs take minutes to compile: here where there is one, `pip install .` wherever nvcc is.
UOV_CUDA ?= $(if $(shell command -v nvidia-smi),auto,0)
$(VENV)/built: $(VENV)/installed $(ENGINE_SOURCES)
	UOV_CUDA=$(UOV_CUDA) $(INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

env: $(VENV)/installed

build: $(VENV)/built

simulate: build
	$(RUN) scripts/simulate.py --output data/sim

# Fields of the recipe to change, such as FIELDS=--config.total_steps=10
FIELDS :=
train: simulate
	$(RUN) scripts/train.py --config configs/tmp_san.py:sim $(FIELDS)

simulate-long: build
	$(RUN) scripts/simulate.py --output data/sim-long --scenes 40

train-long: simulate-long
	$(RUN) scripts/train.py --config configs/tmp_san.py:sim-long $(FIELDS)

demo: simulate
	$(RUN) scripts/demo.py

demo-seeds: simulate
	$(RUN) scripts/demo.py --seeds 3

simulate-rooms: build
	$(RUN) scripts/simulate_rooms.py --output data/sim-rooms

demo-indoor: build
	$(RUN) scripts/demo_indoor.py

demo-indoor-seeds: build
	$(RUN) scripts/demo_indoor.py --seeds 3

bench: build $(VENV)/teachers
	$(RUN) -m benchmarks --json benchmarks/last.json

# A process for every core, files whole, as what they share is made once for each.
test: build $(VENV)/teachers $(VENV)/clouds
	$(RUN) -m pytest -p xdist -n auto --maxprocesses 8 --dist loadfile --durations 30

chaos: build
	$(RUN) -m pytest -m slow -s tests/training/test_chaos.py

test-slow: build $(VENV)/teachers $(VENV)/clouds
	$(RUN) -m pytest -m slow

# In copies of the tree: the extension in place stays as it is.
COMPILERS := c++ g++ g++-11 g++-12 g++-13 g++-14 g++-15 clang++ clang++-14 clang++-16 clang++-18 clang++-19 clang++-20
COMPILER_TESTS :=
compilers: $(VENV)/installed
	for cxx in $(COMPILERS); do \
	  if command -v $$cxx > /dev/null; then PYTHON=$(RUN) .ci/build-with $$cxx $(COMPILER_TESTS) || exit 1; \
	  else echo "== $$cxx: not installed"; fi; \
	done

# It has no wheels for some platforms that all else has. A planted mistake is looked for first.
$(VENV)/fuzz: $(VENV)/teachers $(VENV)/clouds requirements/fuzz.txt
	$(INSTALL) -r requirements/fuzz.txt
	touch $@

FUZZ_SECONDS := 600
FUZZ_TARGETS := dumps sweeps labels tables pickles checkpoints rooms features scans images texts clouds
fuzz: build $(VENV)/fuzz
	rm -rf build/fuzz/planted
	! $(RUN) -m tests.fuzz planted --seconds 120 2> /dev/null
	ls build/fuzz/planted/crash-* > /dev/null
	for target in $(FUZZ_TARGETS); do \
	  echo "== $$target"; $(RUN) -m tests.fuzz $$target --seconds $(FUZZ_SECONDS) || exit 1; \
	done

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(FORMATTED)

format: build
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(FORMATTED)

clean:
	rm -rf build uov_jax/*.so uov_jax/_engine_cuda.txt *.egg-info
	rm -f $(VENV)/built
