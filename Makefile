# Two environments, because vLLM's pins and Prefect's exclude each other. Each comes from a lock file; a stamp makes
# the second set-up instant. GPU=1 takes the CUDA builds, PYTHON=python3.12 another Python.
#
#   make demo     set up, then run the product's story on the embedded default
#   make clients  set up the client libraries that the gateway is tried with (make test does)
#   make images   build the gateway's and vLLM's images; IMAGES=gateway builds one, BASE=... on another root
#   make test     set up, then lint, types, import rules, fast tests, live tests

PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .venv-uv/bin/uv
CUDA := $(filter-out 0,$(strip $(GPU)))
BUILD := $(if $(CUDA),cuda,cpu)

# A folder of wheels that pip is told about holds for uv too. Without one, uv finds PyTorch's CPU builds by itself.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
TORCH_BACKEND := $(if $(CUDA),,$(if $(UV_FIND_LINKS),,--torch-backend cpu))
# A folder may hold CPU builds only, and 2.13.0+cpu would do for torch==2.13.0.
NO_CPU_TORCH := $(if $(CUDA),build/no-cpu-torch.txt)
SYNC = $(UV) pip sync $(TORCH_BACKEND) $(addprefix --constraints ,$(NO_CPU_TORCH))

# Debian's own client brings BuildKit where another one on the PATH may lack it.
DOCKER ?= DOCKER_BUILDKIT=1 $(firstword $(wildcard /usr/bin/docker) docker)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BUILD_ARGS = --build-arg BUILD=$(BUILD) $(if $(BASE),--build-arg BASE=$(BASE)) $(if $(INDEX),--build-arg INDEX=$(INDEX))

# Nothing that runs here reports home, nor looks for models that were not asked for.
export DO_NOT_TRACK := 1
export HF_HUB_OFFLINE ?= 1
export HF_HUB_DISABLE_TELEMETRY := 1
export VLLM_NO_USAGE_STATS := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export TOKENIZERS_PARALLELISM ?= false
export PYTHONUNBUFFERED := 1
# Without kept bytecode every start of Prefect, torch or vLLM takes several times as long.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup clients demo images version test lint test-fast test-live lock clean

setup: .venv/.$(BUILD) .venv-vllm/.$(BUILD)

# Client libraries that the gateway is tried with. Without npm, or its registry, those in JavaScript are left out.
clients: .venv-clients/.ready
	@if command -v npm > /dev/null; then $(MAKE) --no-print-directory tests/clients/node_modules/.ready \
		|| echo "set-up: no clients in JavaScript"; else echo "set-up: no npm, no clients in JavaScript"; fi

# A build sees uv, and the wheels and certificates that this machine is told to use, in a folder of its own.
IMAGES ?= gateway vllm
images: $(UV)
	mkdir -p build/image/wheels && cp -pu $(UV) build/image/uv
	[ -z "$(UV_FIND_LINKS)" ] || cp -pu $(UV_FIND_LINKS)/*.whl build/image/wheels/
	[ -z "$(SSL_CERT_FILE)" ] || cp -pu "$(SSL_CERT_FILE)" build/image/ca.pem
	for name in $(IMAGES); do $(DOCKER) build $(BUILD_ARGS) --file images/$$name/Dockerfile --tag slipway-$$name:$(VERSION) . || exit 1; done

version:
	@echo $(VERSION)

demo: setup
	.venv/bin/python -m demo

test: setup clients
	@$(MAKE) --no-print-directory lint test-fast
	@$(MAKE) --no-print-directory test-live

lint:
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

test-fast:
	.venv/bin/python -m pytest -q -m "not live" --durations=5

test-live:
	.venv/bin/python -m pytest -v -m live --timeout 1500 --durations=0

# As pyproject.toml says; asked before anything is set up.
define CHECK_PYTHON
@$(PYTHON) -c 'import sys; found = ".".join(map(str, sys.version_info[:3])); sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) \
	else "Python 3.11, 3.12 or 3.13 is needed, $(PYTHON) is " + found + ". Name another one: make PYTHON=python3.12 ...")'
endef

build/no-cpu-torch.txt: locks/pipeline-cuda.txt locks/vllm-cuda.txt
	@mkdir -p build
	sed -n 's/^torch==\([0-9.]*\).*/torch!=\1+cpu/p' $^ | sort -u > $@

$(UV):
	@echo "set-up: a bootstrap environment for uv $(UV_VERSION)"
	$(CHECK_PYTHON)
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet uv==$(UV_VERSION)

.venv/.$(BUILD): locks/pipeline-$(BUILD).txt pyproject.toml | $(UV) $(NO_CPU_TORCH)
	$(CHECK_PYTHON)
	@echo "set-up: .venv, for the pipeline ($(BUILD))"
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	$(SYNC) --python .venv $<
	$(UV) pip install --quiet --python .venv --no-deps --editable .
	rm -f .venv/.cpu .venv/.cuda && touch $@

.venv-vllm/.$(BUILD): locks/vllm-$(BUILD).txt | $(UV) $(NO_CPU_TORCH)
	$(CHECK_PYTHON)
	@echo "set-up: .venv-vllm, for vLLM ($(BUILD))"
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-vllm
	$(SYNC) --python .venv-vllm $<
	rm -f .venv-vllm/.cpu .venv-vllm/.cuda && touch $@

.venv-clients/.ready: locks/clients.txt | $(UV)
	@echo "set-up: .venv-clients, for the tests with client libraries"
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-clients
	$(UV) pip sync --quiet --python .venv-clients $<
	touch $@

tests/clients/node_modules/.ready: tests/clients/package-lock.json
	cd tests/clients && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

# The lock files name versions and nothing about where they were found.
COMPILE = $(UV) pip compile --quiet --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links
lock: $(UV)
	@mkdir -p build
	echo 'torch==2.13.0+cpu' > build/cpu.txt && echo 'torch==2.13.0' > build/cuda.txt
	@# torchvision and its like break transformers beside a CPU build of torch
	for name in vision audio codec; do echo "torch$$name; python_version < '3'"; done > build/without.txt
	$(COMPILE) pyproject.toml --group dev --constraint build/cpu.txt --override build/without.txt -o locks/pipeline-cpu.txt
	$(COMPILE) --group vllm --constraint build/cpu.txt --override build/without.txt -o locks/vllm-cpu.txt
	$(COMPILE) --group clients -o locks/clients.txt
	$(COMPILE) --group gateway --constraint locks/pipeline-cpu.txt -o locks/gateway.txt
	UV_FIND_LINKS= $(COMPILE) pyproject.toml --group dev --constraint build/cuda.txt -o locks/pipeline-cuda.txt
	UV_FIND_LINKS= $(COMPILE) --group vllm-gpu --python-platform x86_64-manylinux_2_28 -o locks/vllm-cuda.txt

clean:
	@# without its pid files nobody would find again what runs
	if [ -d .slipway ] && [ -x .venv/bin/slipway ]; then .venv/bin/slipway down --all --home .slipway; fi
	rm -rf .venv .venv-vllm .venv-clients .venv-uv .slipway tests/clients/node_modules
