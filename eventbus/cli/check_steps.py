"""The steps of ``eventbus check`` and their results, as lines for people or as one JSON object. Pure."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from eventbus._base.printable import printable
from eventbus.cli.terminal import Paint, Style
from eventbus.transports.zeromq.reachability import CheckFailed


class StepStatus(StrEnum):
    """The result of a step."""

    OK = "ok"
    FAILED = "failed"
    NOT_TRIED = "not_tried"
    """A step before it has failed."""


_MARKS = {
    StepStatus.OK: ("ok", Style.GREEN),
    StepStatus.FAILED: ("FAIL", Style.RED),
    StepStatus.NOT_TRIED: ("-", Style.DIM),
}
_NAME_COLUMNS = 13
_MAX_TEXT_CHARACTERS = 2_000


class Step(NamedTuple):
    """One step and its result.

    Attributes:
        name: the part of the bus that it checks.
        status: its result.
        detail: what it found.
        remedy: what to do, if it has failed.
    """

    name: str
    status: StepStatus
    detail: str = ""
    remedy: str = ""


def run_steps(steps: Mapping[str, Callable[[], str]]) -> Iterator[Step]:
    """Run the functions in order, each of which returns what it found, until one raises `CheckFailed`."""
    failed = False
    for name, run in steps.items():
        if failed:
            yield Step(name, StepStatus.NOT_TRIED)
            continue
        try:
            yield Step(name, StepStatus.OK, run())
        except CheckFailed as failure:
            failed = True
            yield Step(name, StepStatus.FAILED, failure.detail, failure.remedy)


def text_line(step: Step, paint: Paint) -> str:
    """The step as one line for people."""
    mark, style = _MARKS[step.status]
    text = {
        StepStatus.OK: step.detail,
        StepStatus.FAILED: f"{step.detail}: {step.remedy}",
        StepStatus.NOT_TRIED: "not tried",
    }[step.status]
    line = f"{step.name:<{_NAME_COLUMNS}}{printable(text, _MAX_TEXT_CHARACTERS)}"
    return f"{paint(f'{mark:<6}', style)}{paint(line, style) if step.status is StepStatus.NOT_TRIED else line}"


def json_object(steps: Sequence[Step], round_trip: float | None) -> str:
    """All steps as one JSON object: ``ok``, ``steps`` and ``round_trip_ms``.

    Args:
        steps: in order.
        round_trip: seconds; None if it was not measured.
    """
    return json.dumps(
        {
            "ok": all(step.status is StepStatus.OK for step in steps),
            "steps": [step._asdict() for step in steps],
            "round_trip_ms": None if round_trip is None else round(1000 * round_trip, 3),
        }
    )
