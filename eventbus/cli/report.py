"""What `check` found, step by step: as lines for people, or as one JSON object. Pure."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from eventbus._base.printable import printable
from eventbus.cli.terminal import Paint, Style
from eventbus.errors import EventBusError


class StepStatus(StrEnum):
    """What came of a step."""

    OK = "ok"
    FAILED = "failed"
    NOT_TRIED = "not_tried"
    """One before it has failed."""


_MARKS = {
    StepStatus.OK: ("ok", Style.GREEN),
    StepStatus.FAILED: ("FAIL", Style.RED),
    StepStatus.NOT_TRIED: ("-", Style.DIM),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at, or was to be.

    Attributes:
        name: what it was.
        status: what came of it.
        detail: what was seen.
        remedy: what to do, if it has failed.
    """

    name: str
    status: StepStatus
    detail: str = ""
    remedy: str = ""


class Trouble(EventBusError):
    """A step has failed.

    Attributes:
        detail: what was seen.
        remedy: what to do.
    """

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__()
        self.args = detail, remedy
        self.detail = detail
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.detail}: {self.remedy}"

    @classmethod
    def of(cls, error: EventBusError) -> "Trouble":
        """The trouble that an error of ours tells of: in its text the remedy comes last, after a colon."""
        detail, _, remedy = str(error).rpartition(": ")
        return cls(detail, remedy)


def stepwise(looks: Mapping[str, Callable[[], str]]) -> Iterator[Step]:
    """Take one look after the other, each of which returns what it has seen, until one raises `Trouble`."""
    failed = False
    for name, look in looks.items():
        if failed:
            yield Step(name, StepStatus.NOT_TRIED)
            continue
        try:
            yield Step(name, StepStatus.OK, look())
        except Trouble as trouble:
            failed = True
            yield Step(name, StepStatus.FAILED, trouble.detail, trouble.remedy)


def text_line(step: Step, paint: Paint) -> str:
    """The step as one line for people."""
    mark, style = _MARKS[step.status]
    text = {
        StepStatus.OK: step.detail,
        StepStatus.FAILED: f"{step.detail}: {step.remedy}",
        StepStatus.NOT_TRIED: "not tried",
    }[step.status]
    line = f"{step.name:<13}{printable(text, 2_000)}"
    return f"{paint(f'{mark:<6}', style)}{paint(line, style) if step.status is StepStatus.NOT_TRIED else line}"


def json_object(steps: Sequence[Step], round_trip: float | None) -> str:
    """All steps as one JSON object: ``ok``, ``steps`` and ``round_trip_ms``.

    Args:
        steps: what was looked at.
        round_trip: seconds; None if it is not known.
    """
    return json.dumps(
        {
            "ok": all(step.status is StepStatus.OK for step in steps),
            "steps": [asdict(step) for step in steps],
            "round_trip_ms": None if round_trip is None else round(1000 * round_trip, 3),
        }
    )
