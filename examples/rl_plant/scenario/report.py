"""The result of a run, as one object for programs and as lines for people. Pure."""

from collections.abc import Mapping

from pydantic import BaseModel

from plot import plot
from scenario.course import Course


class ServiceReport(BaseModel):
    """One service, all its processes together, by their heartbeats; the last heartbeats themselves do not count.

    Attributes:
        starts: the number of processes.
        emitted: events.
        received: events.
        lost: events that never arrived at this service.
        repeated: messages that came again after their publisher had lost its connection, and were skipped.
        dropped: events that did not get to where they were going.
        handler_errors: calls of handlers that raised.
    """

    starts: int = 1
    emitted: int = 0
    received: int = 0
    lost: int = 0
    repeated: int = 0
    dropped: int = 0
    handler_errors: int = 0


class Report(BaseModel):
    """The result of a run.

    Attributes:
        steps: control steps that the plant has done, and that belong to the run.
        seconds: how long the run took.
        actions: steps in which the agent was heard to act.
        yellow: steps in the yellow zone.
        red: steps in the red zone.
        level: at the end, m.
        set_point: what the level should be then, m.
        temperature: at the end, °C.
        gain: what the agent has learnt; see `RLEvent.gain`.
        asked_again: questions of the agent beyond one for each observation.
        written_again: actions that it has written beyond one for each step.
        unheard: steps that were done, but whose observation or action the observer has not heard.
        messages: that the proxy has passed on since its last start; None: it did not tell.
        services: by name; the observer is this program itself.
    """

    steps: int
    seconds: float
    actions: int
    yellow: int
    red: int
    level: float | None
    set_point: float | None
    temperature: float | None
    gain: float | None
    asked_again: int
    written_again: int
    unheard: list[int]
    messages: int | None
    services: dict[str, ServiceReport]


def report_on(
    course: Course, starts: Mapping[str, int], observer: Mapping[str, int], messages: int | None, seconds: float
) -> Report:
    """Put together the course and this program's own figures.

    Args:
        course: what was heard.
        starts: how often each service was started.
        observer: the counts of this program's own clients.
        messages: what the proxy has told.
        seconds: how long the run took.
    """
    last = course.observations.get(course.done)
    services = {name: _service(count, course.counts_of(name)) for name, count in starts.items()}
    return Report(
        steps=course.done,
        seconds=round(seconds, 3),
        actions=len(course.acted),
        yellow=len(course.yellow),
        red=len(course.red),
        level=last.level if last else None,
        set_point=course.set_points.get(max(course.set_points, default=0)),
        temperature=last.temperature if last else None,
        gain=course.gain,
        asked_again=max(0, len(course.questions) - len(course.observations)),
        written_again=len(course.writes) - len(set(course.writes.values())),
        unheard=course.unheard,
        messages=messages,
        services=services | {"observer": _service(1, observer)},
    )


def lines_of(report: Report, course: Course) -> list[str]:
    """The report for people: the level over the set-point, then what happened."""
    steps = range(report.steps)
    drawn = plot(
        [observation.level if (observation := course.observations.get(step)) else None for step in steps],
        [course.set_points.get(step) for step in steps],
    )
    lines = ["level (*) and set-point (-) in m, by control step", *drawn, ""]
    lines.append(f"steps       {report.steps} of {course.steps}, in {report.seconds:.1f} s")
    lines.append(f"actions     {report.actions}; asked again {report.asked_again}, written again {report.written_again}")
    lines.append(f"violations  {report.yellow} of the yellow zone, {report.red} of the red zone")
    if report.level is not None and report.set_point is not None and report.temperature is not None:
        lines.append(
            f"at the end  level {report.level:.3f} m, set-point {report.set_point:.3f} m; {report.temperature:.1f} °C"
        )
    if report.gain is not None:
        lines.append(f"learnt      an open valve adds {report.gain:.3f} m in one step")
    lines.append(f"not heard   {', '.join(map(str, report.unheard)) or 'nothing'}")
    lines.append(
        f"proxy       passed on {'?' if report.messages is None else report.messages} messages since its last start"
    )
    lines += ["", f"{'':11} {'starts':>8} {'emitted':>8} {'received':>8} {'lost':>8} {'repeated':>8} {'dropped':>8}"]
    for name, service in report.services.items():
        counts = [service.starts]
        if name != "coredinator":  # which has no client
            counts += [service.emitted, service.received, service.lost, service.repeated, service.dropped]
        lines.append(f"{name:11} {' '.join(f'{count:>8}' for count in counts)}")
    return lines


def _service(starts: int, counts: Mapping[str, int]) -> ServiceReport:
    return ServiceReport(starts=starts, **{name: counts[name] for name in ServiceReport.model_fields if name in counts})
