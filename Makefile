# Sets up, runs and checks the project on Linux; needs Python 3.11 to 3.13, a package index, and what NEEDS_<target> names.
# `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
UV_VERSION := 0.13.9

BIN := .venv/bin
LOCKS := images/locks
UV_READY := .venv/.uv-$(UV_VERSION)
SYNCED := .venv/.synced

# The environment is .venv and nothing else, whatever the shell has activated.
unexport VIRTUAL_ENV CONDA_PREFIX PYTHONHOME PYTHONPATH

# uv does not read pip's variables: on a machine that gives pip its index, nothing else has to be set.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
ifdef PIP_EXTRA_INDEX_URL
export UV_INDEX ?= $(PIP_EXTRA_INDEX_URL)
# Safe here: a package must have the hash that the lock names, whichever index it comes from.
export UV_INDEX_STRATEGY ?= unsafe-best-match
endif
ifdef PIP_CERT
export SSL_CERT_FILE ?= $(PIP_CERT)
endif
ifneq ($(wildcard $(PIP_FIND_LINKS)),)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif

# What some targets need from the system, as tests/needs.sh reads it. They look for it before they do anything else.
NEEDS_demo = $(if $(filter hf,$(ROLLOUT)),,libnuma.so.1=libnuma1)
NEEDS_test = libnuma.so.1=libnuma1
NEEDS_bare = root debootstrap git
NEEDS_package = git ssh-keygen=openssh-client $(HELM)=https://helm.sh/docs/intro/install
NEEDS_images-test = root buildah debootstrap git runc
NEEDS_node = libnuma.so.1=libnuma1 root go=https://go.dev/dl buildah conntrack containerd debootstrap git gpg=gnupg ip=iproute2 nft=nftables openssl \
	prometheus runc wget /usr/lib/cni/bridge=containernetworking-plugins
NEEDS_kind = go=https://go.dev/dl docker=docker.io kind=https://kind.sigs.k8s.io
NEEDS_cluster = $(if $(E2E_KUBECONFIG),,$(if $(KIND),$(NEEDS_kind),$(NEEDS_node)))
NEEDS_cluster-shell = $(NEEDS_node)
NEEDS_cluster-soak = $(NEEDS_node) iptables ipset
NEEDS_soak = libnuma.so.1=libnuma1 $(NEEDS_cluster-soak)
NEEDS_e2e = libnuma.so.1=libnuma1 chromium git prometheus promtool=prometheus ssh-keygen=openssh-client $(if $(ARGS),,$(NEEDS_cluster))

.needs-%:
	@tests/needs.sh 'make $*' $(NEEDS_$*)

.PHONY: help
help:
	@awk -F ':.*## ' '/^[.a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: .venv
.venv: $(SYNCED) ## install everything at its locked version into .venv; the other targets do it by themselves

$(UV_READY): $(LOCKS)/uv.txt
	@[ "$$(uname -s) $$(uname -m)" = "Linux x86_64" ] || { echo "the locked packages are for Linux on x86-64, this is $$(uname -s) on $$(uname -m)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { echo "$(PYTHON) is not Python 3.11, 3.12 or 3.13: install one, then name it: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "making .venv"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCKS)/uv.txt
	@touch $@

# Compiled here and once: otherwise each process of a run compiles vLLM and other packages again if PYTHONDONTWRITEBYTECODE is set.
$(SYNCED): $(UV_READY) $(LOCKS)/cpu.txt pyproject.toml
	$(BIN)/uv pip sync --compile-bytecode --python $(BIN)/python --require-hashes $(LOCKS)/cpu.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: .needs-demo $(SYNCED) ## the whole recipe with a tiny model [QUICK=1] [SEED=1] [VARIANT=ptst|zero|long|ci] [ROLLOUT=vllm|hf] [RUN=dir]
	@$(BIN)/visionr1 demo $(if $(filter-out 0,$(QUICK)),--quick) $(if $(SEED),--seed '$(SEED)') $(if $(VARIANT),--variant '$(VARIANT)') \
		$(if $(ROLLOUT),--rollout '$(ROLLOUT)') $(if $(RUN),--run '$(RUN)')

# Adds to .coverage what the tests run in their own processes. Only the report on all of them fails below the floor in pyproject.toml.
COVER = $(if $(COVERAGE),--cov --cov-append --cov-report= --cov-fail-under=0)

# Suites with commands of their own, and what takes minutes in one file.
APART := $(addprefix tests/,cluster e2e images rollout)
FIRST := tests/storage

.PHONY: test
test: .needs-test $(SYNCED) ## all tests but the long ones [ARGS="tests/reward -x"] [COVERAGE=1: and the lines that they run]
	$(if $(COVERAGE),@rm -f .coverage)
ifdef ARGS
	@$(BIN)/python -m pytest $(COVER) $(ARGS)
	$(if $(COVERAGE),@$(BIN)/coverage report --fail-under=0)
else
	@# Two files at a time, in their order: much of the long ones is waiting, and none of them is left for the end.
	@$(BIN)/python -m pytest $(COVER) -n 2 --dist loadfile --no-loadscope-reorder $(FIRST) $(filter-out $(FIRST) $(APART),$(patsubst %/,%,$(wildcard tests/*/))) tests/test_*.py
	@# vLLM changes the process that it starts in, so its tests have one of their own.
	@$(BIN)/python -m pytest $(COVER) tests/rollout
	$(if $(COVERAGE),@$(BIN)/coverage report)
	$(if $(COVERAGE),@echo "the tests run $$($(BIN)/coverage report --format=total) % of the lines in their own processes")
endif

.PHONY: bare
bare: .needs-bare ## demo QUICK=1 and test of the last commit on a Debian that has only what they need [COMMAND=...] [RUNS=folder]
	@RUNS='$(RUNS)' tests/bare/run.sh $(if $(COMMAND),'$(COMMAND)','make demo QUICK=1' 'make test')

.PHONY: e2e
e2e: .needs-e2e $(SYNCED) ## the long tests: the quick demo in a browser, a run on S3, one without vLLM, a Kubernetes cluster [ARGS=...]
ifdef ARGS
	@$(BIN)/python -m pytest tests/e2e $(ARGS)
else
	@$(BIN)/python -m pytest tests/e2e
	@$(MAKE) --no-print-directory cluster
endif

.PHONY: cluster
cluster: .needs-cluster $(SYNCED) ## the platform on a real Kubernetes with a real node, built once in 30 minutes [E2E_KUBECONFIG=file: on that one] [KIND=1: in kind]
ifdef E2E_KUBECONFIG
	@E2E_KUBECONFIG='$(E2E_KUBECONFIG)' $(BIN)/python -m pytest tests/cluster/test_cluster_definition.py \
		tests/cluster/test_cluster_watch.py tests/cluster/test_cluster_outside.py $(ARGS)
else ifdef KIND
	@tests/cluster/build.sh
	@$(MAKE) --no-print-directory wheel >/dev/null
	@# By its name and not by the variable, with which even a dry run would make a cluster.
	@tests/cluster/kind.sh make --no-print-directory cluster
else
	@tests/cluster/build.sh
	@$(MAKE) --no-print-directory wheel >/dev/null
	@tests/images/build.sh operator
	@# Two clusters side by side; conftest.py says which tests are in which.
	@$(BIN)/python -m pytest $(or $(filter tests/%,$(ARGS)),tests/cluster) -m "not soak" \
		--dist loadscope --tx '2*popen//python=tests/cluster/inside.sh $(BIN)/python' $(filter-out tests/%,$(ARGS))
endif

.PHONY: cluster-soak
cluster-soak: .needs-cluster-soak $(SYNCED) ## the long tests of the platform: every fault, 200 runs, every order of uninstalling; two hours [ARGS=...]
	@tests/cluster/build.sh soak
	@$(MAKE) --no-print-directory wheel >/dev/null
	@tests/images/build.sh operator trainer-cpu
	@tests/cluster/inside.sh $(BIN)/python -m pytest tests/cluster -m soak -s $(ARGS)

.PHONY: cluster-shell
cluster-shell: .needs-cluster-shell $(SYNCED) ## a shell on that cluster, with kubectl and helm; all is gone when it ends [COMMAND="kubectl get pods -A"]
	@tests/cluster/build.sh
	@$(MAKE) --no-print-directory wheel >/dev/null
	@tests/images/build.sh operator
	@tests/cluster/inside.sh $(BIN)/python tests/cluster/shell.py $(COMMAND)

.PHONY: cluster-down
cluster-down: ## remove what test clusters have left that were killed; those that run stay [KIND=1: and the one of kind]
	@tests/cluster/down.sh
	$(if $(KIND),@kind delete cluster --name visionr1-test)

.PHONY: generate
generate: $(SYNCED) ## write every generated file: definition, schema, dashboards, alert rules, reference pages
	@PYTHONPATH=charts $(BIN)/python -m generators

.PHONY: bench
bench: $(UV_READY) $(LOCKS)/bench.txt ## the training phase of one GRPO step, compared with TRL's, in its own environment [ARGS="--groups 8"]
	@[ -x .venv-bench/bin/python ] || $(PYTHON) -m venv --without-pip .venv-bench
	@$(BIN)/uv pip sync --quiet --python .venv-bench/bin/python --require-hashes $(LOCKS)/bench.txt
	@$(BIN)/uv pip install --quiet --python .venv-bench/bin/python --no-deps .
	@.venv-bench/bin/python benchmarks/grpo_step.py $(ARGS)

.PHONY: fuzz
fuzz: $(SYNCED) ## mutated rows, recipes and answers, until the time is over [SECONDS=60] [SEED=1]
	@$(BIN)/python -m tests.fuzz.fuzz_inputs --seconds '$(or $(SECONDS),60)' --seed '$(or $(SEED),1)'

.PHONY: soak
soak: .needs-soak $(SYNCED) ## a hundred kills of runs with vLLM and two workers, 30 to 50 minutes, then cluster-soak [KILLS=100] [SEED=1]
	@$(BIN)/python tests/kills/soak.py --kills $(or $(KILLS),100) --seed $(or $(SEED),1) $(if $(JSON),--json '$(JSON)')
	@$(MAKE) --no-print-directory cluster-soak

.PHONY: hooks
hooks: $(SYNCED) ## check what is committed, from now on, with the rules of lint that take a moment
	@$(BIN)/pre-commit install

SOURCES := visionr1 operators charts tests benchmarks docs/dashboards

.PHONY: format
format: $(SYNCED) ## write the sources in the house format, and repair what ruff can
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

.PHONY: lint
lint: $(SYNCED) ## style, format, types, who imports whom, the Dockerfiles, spelling and plain words
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	@for one in tests/fuzz/fuzz_inputs.py $(wildcard tests/*/conftest.py tests/*/*/conftest.py); do $(BIN)/mypy --no-error-summary "$$one" || exit 1; done
	$(BIN)/lint-imports
	$(BIN)/hadolint images/*/Dockerfile
	$(BIN)/codespell *.md .ci .github Makefile pyproject.toml benchmarks charts docs images operators tests visionr1

# Rooms without training or long waits; tests/charts checks the generated files.
FAST := $(addprefix tests/,charts cli metrics operators recipe report rundir watch)

.PHONY: check
check: lint ## run this before each commit: lint, generated files, the fast tests; at most two minutes
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile $(FAST)

COMPILE = $(BIN)/uv pip compile --quiet --custom-compile-command "make lock" --generate-hashes --no-emit-index-url \
	--no-emit-find-links --python-version 3.11 --python-platform x86_64-manylinux_2_28 $(if $(UPGRADE),--upgrade)

.PHONY: lock
lock: $(UV_READY) ## write the lock files from pyproject.toml [UPGRADE=1]
	$(COMPILE) pyproject.toml --extra operator --extra demo --extra rollout-cpu --extra dev \
		--override $(LOCKS)/cpu-overrides.txt --output-file $(LOCKS)/cpu.txt
	$(COMPILE) pyproject.toml --extra train --extra rollout-gpu --override $(LOCKS)/trainer-cuda-overrides.txt \
		--output-file $(LOCKS)/trainer-cuda.txt
	$(COMPILE) pyproject.toml --extra demo --extra rollout-cpu --override $(LOCKS)/cpu-overrides.txt \
		--override $(LOCKS)/trainer-cpu-overrides.txt --output-file $(LOCKS)/trainer-cpu.txt
	$(COMPILE) pyproject.toml --extra operator --output-file $(LOCKS)/operator.txt
	$(COMPILE) pyproject.toml --extra demo --extra rollout-cpu --extra bench --override $(LOCKS)/cpu-overrides.txt \
		--constraint $(LOCKS)/cpu.txt --output-file $(LOCKS)/bench.txt
	echo "uv==$(UV_VERSION)" | $(COMPILE) - --output-file $(LOCKS)/uv.txt

.PHONY: wheel
wheel: $(SYNCED) ## the Python package of the checkout as it is, into dist/; for tests
	@rm -f dist/*.whl
	@$(BIN)/python -m hatchling build --target wheel --directory dist

DIST ?= dist
HELM ?= $(shell command -v helm || echo "$${XDG_CACHE_HOME:-$$HOME/.cache}/visionr1-ptst/cluster/bin/helm")

.PHONY: package
package: .needs-package $(SYNCED) ## wheel, sdist and chart of the last commit with checksums and provenance, into dist/ [SIGN_KEY=file] [HELM_KEY=name HELM_KEYRING=file]
	@HELM='$(HELM)' HELM_KEY='$(HELM_KEY)' HELM_KEYRING='$(HELM_KEYRING)' SIGN_KEY='$(SIGN_KEY)' images/package.sh $(DIST) all

.PHONY: vulnerabilities
vulnerabilities: $(SYNCED) ## the locked packages against the list of known vulnerabilities [ADVISORIES=checkout of PyPA's database: renew the list]
	@$(BIN)/python images/vulnerabilities.py $(ADVISORIES)

.PHONY: .committed-wheel
.committed-wheel: $(SYNCED)
	@images/package.sh $(DIST) wheel

.PHONY: .builder
.builder:
	@images/build.sh # of nothing: looks for a builder

.PHONY: images
images: .builder .committed-wheel ## build the images of the last commit with docker, podman or buildah [IMAGES="operator trainer-cuda trainer-cpu"] [TAG=...] [BASE=image]
	@images/build.sh $(or $(IMAGES),operator trainer-cuda trainer-cpu)

.PHONY: images-test
images-test: .needs-images-test wheel ## build operator and CPU trainer, and run them as pods do; needs buildah, runc and root [ARGS=...]
	@tests/images/build.sh operator trainer-cpu
	@$(BIN)/python -m pytest tests/images $(ARGS)

.PHONY: clean
clean: ## remove .venv and everything that tools have left; runs stay
	rm -rf .venv .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
