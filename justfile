# Tasks of this project: `uv run --group lint just` lists them. Each is one command that works without it, too.

# What Python imports is compiled once, not by every process of every run: that is a quarter of the time of the fast tests.
export PYTHONDONTWRITEBYTECODE := ""

# list the tasks
default:
    @just --list

# everything that a contributor needs: tests, linters, documentation tools
setup:
    uv sync --all-groups

# the fast tests: no process of their own, under a minute on two cores
fast *arguments:
    uv run --no-sync pytest -n 4 -m "not slow" {{arguments}}

# all tests, two at a time
test *arguments:
    uv run --no-sync pytest -n 2 --dist worksteal {{arguments}}

# format the code
format:
    uv run --no-sync ruff format .
    uv run --no-sync ruff check --fix .

# what CI checks before the tests: format, lint, types
check:
    uv run --no-sync ruff format --check .
    uv run --no-sync ruff check .
    uv run --no-sync mypy

# branch coverage of the pure modules, which must be complete
coverage:
    uv run --no-sync coverage run -m pytest -q tests/eventbus/wire tests/eventbus/_base \
        tests/eventbus/proxy/test_allow_list.py tests/eventbus/proxy/test_request_rules.py \
        tests/eventbus/proxy/test_ledger.py tests/eventbus/proxy/test_publisher_ids.py \
        tests/eventbus/receive/test_stall_detector.py tests/eventbus/history \
        tests/eventbus/transports/nats/test_delivered.py tests/eventbus/transports/nats/test_first_frames.py tests/eventbus/transports/nats/test_packing.py \
        tests/eventbus/transports/nats/test_protocol.py tests/eventbus/transports/nats/test_streams.py \
        tests/eventbus/transports/nats/test_pings.py tests/eventbus/transports/nats/test_servers.py \
        tests/eventbus/transports/nats/test_subjects.py tests/eventbus/transports/nats/test_window.py \
        tests/eventbus/transports/zeromq/test_outbox.py tests/eventbus/transports/zeromq/test_policy.py
    uv run --no-sync coverage report

# read the documentation at http://127.0.0.1:8000
docs:
    uv run --no-sync python -m zensical serve

# measure side by side with other ways to do the same; alone on the machine
bench *arguments:
    uv run --no-sync python -m tests.benchmarks {{arguments}}

# all that decides whether a change lands
ci:
    bash .ci/run
