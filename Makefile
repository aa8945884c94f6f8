# `make` lists the targets. All they make goes to .build/, and that of `make quickstart` to .venv/.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DEFAULT_GOAL := help

# Two more than there are CPUs: on average a step keeps half a CPU busy, and waits for hosts and processes otherwise.
JOBS ?= $(shell expr $$(nproc) + 2)
BUILD := $(CURDIR)/.build
VENV := $(BUILD)/venv
COLLECTIONS := $(BUILD)/collections
COLLECTION := $(COLLECTIONS)/ansible_collections/changetracking/inventory

UNIT_PYTHONS := 3.6 3.8 3.9 3.11 3.13
CORES := 2.16 2.18 2.19 2.21
# `make cores` alone tests these. The newest is not released yet: pip takes a beta or a release candidate.
MORE_CORES := 2.17 2.20 2.22
core_requirement = ansible-core$(if $(filter 2.22,$1),>=2.22.0b1$(comma)<2.23,==$1.*)
comma := ,
SANITY_CORES := 2.16 2.21
# Which tests run on which version: pyproject.toml says what the markers mean. On 2.18, targets run as modules, with a Python of their own.
CONTROLLER_2.16 := -m "not no_core"
CONTROLLER_2.18 := -m "not no_core"
CONTROLLER_2.19 := -m "not no_core"
INTEGRATION_2.16 := -m "not no_core"
INTEGRATION_2.18 := -m "each_core or as_modules"
INTEGRATION_2.21 := tests/kinds
INTEGRATION_BRIEF := -m each_core
RELAY_3.6 := -m "not no_python"
UNIT_3.11 := -m "not no_python"
UNIT_FIPS := -m "not no_python"
# Modules are compiled and imported on each Python once: on the oldest by 2.16, which alone supports them. It tests what is in the
# archive, as Automation Hub does with it; the newest tests the tests too.
SANITY_2.16 := --archive 3.6 3.7 3.8
SANITY_2.21 := 3.9 3.10 3.11 3.12 3.13
core_python = $(if $(filter 2.20 2.21 2.22,$1),3.13,3.11)
IMAGES := bookworm bullseye trixie rpm
SCENARIOS := $(patsubst molecule/%/molecule.yml,%,$(wildcard molecule/*/molecule.yml))

# Where the root images of test hosts are kept, and what the tests find them by (see tests/hosts).
export CT_TEST_CACHE ?= $(BUILD)/roots
export CT_TESTHOST := $(CURDIR)/tests/hosts/testhost
export CT_NPM := $(BUILD)/azure/node_modules/.bin
export ANSIBLE_COLLECTIONS_PATH := $(COLLECTIONS)
export ANSIBLE_HOME := $(BUILD)/ansible
# Where Python stores what it compiles, which each of many processes would else do anew. Python 3.6 knows no such folder.
export PYTHONPYCACHEPREFIX := $(BUILD)/pycache
export PYTHONDONTWRITEBYTECODE :=
unit-3.6 agent-3.6 relay-3.6: export PYTHONDONTWRITEBYTECODE := 1
export NO_COLOR := 1
export HYPOTHESIS_STORAGE_DIRECTORY := $(BUILD)/hypothesis

# Root works in a clone of another user's as well, and leaves nothing in it that is root's (see tests/tools/give-back).
ifndef GIT_CONFIG_COUNT
export GIT_CONFIG_COUNT := 1
export GIT_CONFIG_KEY_0 := safe.directory
export GIT_CONFIG_VALUE_0 := *
endif

# What pytest is given besides, in a step of tests, whose output is then shown: make unit-3.13 ARGS="-k text"
ARGS ?=
STEP := tests/tools/step
PREPARE := $(STEP) --prepare
TESTS := $(STEP) $(if $(ARGS),--show)
pytest = python -m pytest -p no:cacheprovider $(or $(ARGS),-q) $(if $(filter tests/%,$(ARGS)),,$1) --junitxml=$(BUILD)/results/$@/pytest.xml

LINT := lint-ruff lint-mypy lint-imports lint-shell lint-reuse lint-yaml lint-ansible lint-changelog lint-docs lint-importer
SANITY := $(SANITY_CORES:%=sanity-%)
FIPS := fips-refuse fips-missing
# Two of the Pythons run in FIPS mode.
UNIT := $(filter-out unit-3.8 unit-3.9,$(UNIT_PYTHONS:%=unit-%)) $(FIPS) $(CORES:%=controller-%)
INTEGRATION := $(CORES:%=integration-%)
OTHER_CORES := $(MORE_CORES:%=controller-%) $(MORE_CORES:%=sanity-%) $(MORE_CORES:%=integration-%)
MOLECULE := $(SCENARIOS:%=molecule-%)
PROCESSES := agent-3.6 agent-3.13 relay-3.6 relay-3.13
WIRE := $(PROCESSES) interop

# What steps need; it comes first, so that steps start in this order: the longest first, which overlap with all the rest.
NEEDS := debian-packages unit-packages npm-packages build $(IMAGES:%=image-%) \
  $(patsubst %,$(VENV)/%/done,$(UNIT_PYTHONS:%=unit-%) $(CORES:%=core-%) tools importer interop report eda azure azcollection)
STEPS := docs integration-2.21 integration-2.16 $(MOLECULE) idle eda azure-deploy integration-2.18 $(SANITY) $(PROCESSES) integration-2.19 \
  lint-importer report azure quickstart-user $(UNIT) $(LINT) interop
# Audit rules are global to the machine, and slow down what the other steps do.
ALONE := actors
.PHONY: help test lint sanity unit wire integration molecule bench soak soak-events latency quickstart build programs clean debian-packages unit-packages npm-packages cores $(UNIT_PYTHONS:%=unit-%) $(STEPS) $(ALONE) $(IMAGES:%=image-%) report-pictures $(OTHER_CORES)

help: ## this list
	@sed -n 's/^\([a-z./]*\):.*## /  make \1\t/p' Makefile | expand -t 28

# Runs steps side by side, all of them even when one fails, and ends with the sum. $2: what is made before them. $3: steps that run
# alone, after the others.
define run
	@rm -rf $(BUILD)/results
	@mkdir -p $(BUILD)/results
	@run="$(MAKE) --jobs=$(JOBS) --keep-going --output-sync=target" status=0 made=; \
	  $(if $2,if $$run $2; then made="$(addprefix --assume-old=,$2)"; fi;) \
	  $$run $$made $1 || status=$$?; $(if $3,$$run $3 || status=$$?;) tests/tools/give-back; \
	  python3 tests/tools/summary.py $$status
endef

test: ## everything below down to actors; as root, since hosts are booted
	$(call run,$(STEPS),$(NEEDS),$(ALONE))
lint: ## ruff, mypy, import-linter, shellcheck, reuse, yamllint, ansible-lint, antsibull-changelog, antsibull-docs, galaxy-importer
	$(call run,$(LINT))
sanity: ## ansible-test sanity on several versions of ansible-core
	$(call run,$(SANITY))
unit: ## the library on every Python of a managed node, the plugins on every ansible-core
	$(call run,$(UNIT))
wire: ## agent and relay as processes, killed and lied to; and other implementations of the protocol, both ways; as root
	$(call run,$(WIRE))
integration: ## ansible as a user runs it, on every ansible-core; as root
	$(call run,$(INTEGRATION))
molecule: ## the scenarios on booted hosts; as root
	$(call run,$(MOLECULE))
cores: ## the ansible-cores that `make test` leaves out, a beta included: unit tests, sanity and integration; as root
	$(call run,$(OTHER_CORES))

idle: $(VENV)/core-2.19/done $(IMAGES:%=image-%) ## booted hosts that nobody changes report nothing; longer with RUNS=300; as root
	@TESTHOST_DIR=$(BUILD)/hosts/$@ $(STEP) $@ core-2.19 python tests/idle/idle.py $(RUNS)
	@tail -n 2 $(BUILD)/logs/$@.log

MINUTES ?= 60
IMAGE ?= bookworm
soak: debian-packages image-$(IMAGE) $(VENV)/core-2.19/done ## random changes and faults on a booted host for MINUTES (60), on IMAGE (bookworm); as root
	@$(VENV)/core-2.19/bin/python tests/soak/soak.py $(CT_TEST_CACHE)/$(IMAGE) $(MINUTES) $(SEED)

soak-events: debian-packages image-$(IMAGE) $(VENV)/core-2.19/done ## a storm of changes in a tracked tree, with faults, for MINUTES (60), on IMAGE (bookworm); as root
	@$(VENV)/core-2.19/bin/python tests/realtime/events.py $(CT_TEST_CACHE)/$(IMAGE) $(MINUTES) $(SEED)
COUNT ?= 100
latency: debian-packages image-$(IMAGE) $(VENV)/core-2.19/done ## from a change to its record on a booted host, COUNT (100) changes of each kind, on IMAGE (bookworm); as root
	@$(VENV)/core-2.19/bin/python tests/realtime/latency.py $(CT_TEST_CACHE)/$(IMAGE) $(COUNT)

bench: debian-packages image-bookworm $(VENV)/core-2.19/done $(VENV)/interop/done ## how fast we are, beside others; as root
	@CT_INTEROP_PYTHON=$(VENV)/interop/bin/python PATH=$(VENV)/core-2.19/bin:$$PATH tests/bench/run

ARCHIVE := $(BUILD)/dist/changetracking-inventory-$(shell sed -n 's/^version: //p' galaxy.yml).tar.gz
build: $(VENV)/build/done ## the collection's archive, in .build/dist
	@$(VENV)/build/bin/ansible-galaxy collection build --force --output-path $(BUILD)/dist
	@tests/tools/give-back

PROGRAMS := build/agent.pyz build/relay.pyz
$(PROGRAMS): build/%.pyz: $(shell find plugins/module_utils/_cti -name '*.py') plugins/plugin_utils/_zipapp.py
	@python3 plugins/plugin_utils/_zipapp.py $* $@
	@tests/tools/give-back
programs: $(PROGRAMS) ## the agent and the relay, each in one file: build/agent.pyz, build/relay.pyz

quickstart: ## inventory this machine twice, as an ordinary user, and show what changed, and what a relay received
	@tests/tools/quickstart

clean: ## stop the test hosts, and remove all that was made
	@for state in $(wildcard $(BUILD)/hosts/*/); do TESTHOST_DIR=$$state $(CT_TESTHOST) down --all; done
	@rm -rf --one-file-system $(BUILD) build .venv quickstart

# --- environments

$(VENV)/unit-%/done: tests/requirements/unit.txt tests/tools/venv | $(COLLECTION)
	@$(PREPARE) venv-unit-$* - tests/tools/venv $(@D) $* -r $<
$(VENV)/core-%/done: tests/requirements/core.txt requirements.txt tests/tools/venv | $(COLLECTION)
	@$(PREPARE) venv-core-$* - tests/tools/venv $(@D) $(call core_python,$*) -r $< "$(call core_requirement,$*)"
$(VENV)/interop/done: tests/requirements/interop.txt tests/tools/venv | $(COLLECTION)
	@$(PREPARE) venv-interop - tests/tools/venv $(@D) 3.11 -r $<
$(VENV)/report/done: tests/requirements/report.txt tests/tools/venv | $(COLLECTION)
	@$(PREPARE) venv-report - tests/tools/venv $(@D) 3.11 -r $<
$(VENV)/azure/done: tests/requirements/azure.txt tests/tools/venv | $(COLLECTION)
	@$(PREPARE) venv-azure - tests/tools/venv $(@D) 3.11 -r $<
$(VENV)/tools/done: tests/requirements/tools.txt requirements.txt tests/tools/venv | $(COLLECTION)
	@$(PREPARE) venv-tools - tests/tools/venv $(@D) $(call core_python,2.21) -r $<
# Python 3.12, for which there is a wheel of all that ansible-rulebook needs.
$(VENV)/eda/done: tests/requirements/eda.txt tests/tools/venv | $(COLLECTION)
	@$(PREPARE) venv-eda - tests/tools/venv $(@D) 3.12 -r $<
# Python 3.12, which the collection azure.azcollection asks for. Of the models of azure-mgmt, of which there are 90 MB, few are used:
# they are compiled when they are imported.
$(VENV)/azcollection/done: tests/requirements/azcollection.txt tests/tools/venv | $(COLLECTION)
	@PIP_NO_COMPILE=1 $(PREPARE) venv-azcollection - tests/tools/venv $(@D) 3.12 -r $<
$(VENV)/importer/done: tests/requirements/importer.txt tests/tools/venv
	@$(PREPARE) venv-importer - tests/tools/venv $(@D) 3.11 -r $<
$(VENV)/build/done: tests/tools/venv
	@$(PREPARE) venv-build - tests/tools/venv $(@D) "$$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')" "ansible-core>=2.16"
$(COLLECTION):
	@mkdir -p $(@D)
	@ln -sfn $(CURDIR) $@

debian-packages:
	@$(PREPARE) $@ - tests/tools/apt-need systemd-container mmdebstrap openssh-client iproute2 procps
# Some unit tests compare with rpm itself, or use a PostgreSQL server. Without root they are skipped where it is missing, except under CI.
unit-packages:
	@$(PREPARE) $@ - sh -c '{ [ "$$(id -u)" != 0 ] && [ -z "$$CI" ]; } || tests/tools/apt-need rpm postgresql'
npm-packages:
	@$(PREPARE) $@ - tests/tools/npm
$(IMAGES:%=image-%): image-%: debian-packages
	@$(PREPARE) $@ - tests/hosts/image $*

# --- steps

lint-ruff: $(VENV)/tools/done
	@$(STEP) $@ tools sh -c 'ruff check --no-cache . && ruff format --no-cache --check .'
lint-mypy: $(VENV)/tools/done
	@$(STEP) $@ tools mypy --cache-dir=$(BUILD)/mypy
lint-imports: $(VENV)/tools/done
	@$(STEP) $@ tools env PYTHONPATH=plugins/module_utils:$(COLLECTIONS) lint-imports --no-cache --no-logo
lint-shell:
	@$(STEP) $@ - sh -c 'tests/tools/apt-need shellcheck && shellcheck $$(git grep --untracked -lE "^#!.*[ /]bash$$" \
	  || true)'
lint-reuse: $(VENV)/tools/done
	@$(STEP) $@ tools reuse lint --lines
lint-yaml: $(VENV)/tools/done
	@$(STEP) $@ tools yamllint --strict .
lint-ansible: $(VENV)/tools/done
	@$(STEP) $@ tools ansible-lint --offline --strict
lint-changelog: $(VENV)/tools/done
	@$(STEP) $@ tools tests/tools/changelog
lint-docs: $(VENV)/tools/done
	@$(STEP) $@ tools antsibull-docs lint-collection-docs --plugin-docs .

lint-importer: $(VENV)/importer/done build
	@$(STEP) $@ importer tests/tools/importer $(ARCHIVE)

$(SANITY) $(MORE_CORES:%=sanity-%): sanity-%: $(VENV)/core-%/done
	@$(STEP) $@ core-$* tests/tools/sanity $(SANITY_$*)

$(UNIT_PYTHONS:%=unit-%): unit-%: $(VENV)/unit-%/done unit-packages
	@$(TESTS) $@ unit-$* $(call pytest,tests/unit --ignore=tests/unit/controller $(UNIT_$*))
# A Python in FIPS mode, in both forms: see tests/fips/sitecustomize.py. They have no pytest-ansible, which needs md5.
fips-refuse: FIPS_PYTHON := 3.8
fips-missing: FIPS_PYTHON := 3.9
$(FIPS): fips-%: $(VENV)/unit-3.8/done $(VENV)/unit-3.9/done unit-packages
	@$(TESTS) $@ unit-$(FIPS_PYTHON) env CT_FIPS=$* PYTHONPATH=$(CURDIR)/tests/fips \
	  $(call pytest,tests/unit --ignore=tests/unit/controller $(UNIT_FIPS))
$(CORES:%=controller-%) $(MORE_CORES:%=controller-%): controller-%: $(VENV)/core-%/done unit-packages
	@$(TESTS) $@ core-$* $(call pytest,tests/unit/controller $(CONTROLLER_$*))
$(filter agent-%,$(PROCESSES)): agent-%: $(VENV)/unit-%/done
	@$(TESTS) $@ unit-$* $(call pytest,tests/agent)
$(filter relay-%,$(PROCESSES)): relay-%: $(VENV)/unit-%/done
	@$(TESTS) $@ unit-$* $(call pytest,tests/relay $(RELAY_$*))
interop: $(VENV)/interop/done debian-packages
	@$(TESTS) $@ interop tests/tools/interop $(call pytest,tests/interop)
report: $(VENV)/report/done ## the fleet report in Chromium, also for screen readers, on paper and with hostile text; as root the first time
	@$(TESTS) $@ report tests/tools/report $(call pytest,tests/report)
azure: $(VENV)/azure/done npm-packages ## what we send to Azure, beside what Azure's own clients send, and to an Azurite; as root the first time
	@$(TESTS) $@ azure tests/tools/azure $(call pytest,tests/azure)
report-pictures: $(VENV)/report/done ## make the pictures of docs/report.md again
	@CT_PICTURES=$(CURDIR)/docs/pictures $(STEP) $@ report tests/tools/report $(call pytest,tests/report -k pictures)
quickstart-user: $(VENV)/core-2.19/done debian-packages
	@$(TESTS) $@ core-2.19 sh -c 'tests/tools/apt-need python3-venv git make && exec "$$@"' - $(call pytest,tests/quickstart)
eda: $(VENV)/eda/done image-bookworm ## the event source in ansible-rulebook, which restores what is changed by hand on a booted host; as root
	@TESTHOST_DIR=$(BUILD)/hosts/$@ $(TESTS) $@ eda sh -c 'tests/tools/apt-need openjdk-17-jre-headless && exec "$$@"' - $(call pytest,tests/eda)
azure-deploy: $(VENV)/azcollection/done ## the playbooks azure_deploy and azure_remove, with azure.azcollection against a double of Azure's ARM
	@$(TESTS) $@ azcollection tests/tools/azcollection $(call pytest,tests/azure_deploy)
actors: $(VENV)/unit-3.13/done $(VENV)/core-2.19/done image-bookworm image-rpm ## who made a change, by the kernel's audit of this machine, beside ausearch; longer with COUNT=5000; as root
	@TZ=UTC $(TESTS) $@ unit-3.13 tests/tools/actors $(call pytest,tests/actors)
docs: $(VENV)/core-2.19/done image-bookworm ## every command of README.md and docs/, on booted hosts; as root
	@TESTHOST_DIR=$(BUILD)/hosts/$@ $(TESTS) $@ core-2.19 $(call pytest,tests/docs)
$(INTEGRATION) $(MORE_CORES:%=integration-%): integration-%: $(VENV)/core-%/done $(IMAGES:%=image-%)
	@TESTHOST_DIR=$(BUILD)/hosts/$@ \
	  $(TESTS) $@ core-$* $(call pytest,tests/integration $(or $(INTEGRATION_$*),$(INTEGRATION_BRIEF)))

$(MOLECULE): molecule-%: $(VENV)/tools/done $(IMAGES:%=image-%)
	@TESTHOST_DIR=$(BUILD)/hosts/$@ $(STEP) $@ tools tests/tools/molecule $*
molecule-azure: npm-packages
