# What people call. The steps are in scripts/; each looks first and does nothing where there is nothing to do.

# Where `make up` serves, where its data are, and where the offline model listens when there is no API key.
LISTEN ?= 127.0.0.1:8080
DATA ?= .atelier
SCRIPTED_LISTEN ?= 127.0.0.1:8089
export LISTEN DATA SCRIPTED_LISTEN SHARE

.PHONY: help up down test soak check fmt bench image setup clean try-compose

help:
	@echo "make up      install what is missing, build, start the server in the background, run a first task"
	@echo "make down    stop it and remove its containers; the data in $(DATA) stay"
	@echo "make test    every test, with real Postgres, real containers and the official Python SDK"
	@echo "make soak    what tries one thing many times (kills, cuts, cancels, lost streams), many more times; SHARE=10 for a tenth"
	@echo "make check   format, clippy, rustdoc, licences and advisories of dependencies"
	@echo "make bench   measure, beside a baseline in the same call (release build)"
	@echo "make fmt     format the code"
	@echo "make image   the workspace image only"
	@echo "make try-compose   try docker/compose.yaml in a project of its own: up, a task, a crash, down"
	@echo "make setup   only install what is missing, also for check and test"
	@echo "make clean   remove everything that was built; the data in $(DATA) stay"

up:
	@scripts/up.sh

down:
	@scripts/down.sh

test:
	@scripts/test.sh

soak:
	@scripts/soak.sh

check:
	@scripts/check.sh

fmt:
	cargo fmt --all

bench:
	@scripts/bench.sh

image:
	@scripts/setup.sh
	@scripts/image.sh

try-compose:
	@scripts/try-compose.sh

setup:
	@scripts/setup.sh --dev

clean:
	@if [ -e "$(DATA)/atelier.pid" ]; then scripts/down.sh; fi
	cargo clean
