"""The course of a run, and the report on it."""

from coreio.events import IOEvent, IOEventType
from corerl.events import RLEvent, RLEventType
from plant import Action, Observation
from scenario.course import Course
from scenario.report import Report, lines_of, report_on

ACTION = Action(valve=0.5, heater=0.5)


def reading(step: int, level: float = 1.0) -> IOEvent:
    return IOEvent(type=IOEventType.reading, observation=Observation(step, level, 35.0))


def heard(course: Course, steps: int) -> None:
    """Report the course of an uneventful run of this number of steps."""
    for step in range(steps):
        course.add_io(IOEvent(type=IOEventType.read_from_opc))
        course.add_io(reading(step))
        course.add_rl(RLEvent(type=RLEventType.step_agent_update, step=step, set_point=1.0, reward=0.0, gain=0.1))
        course.add_rl(RLEvent(type=RLEventType.step_emit_action, step=step, action=ACTION))
        course.add_io(IOEvent(type=IOEventType.write_to_opc, step=step, action=ACTION))
    course.add_io(IOEvent(type=IOEventType.read_from_opc))
    course.add_io(reading(steps))


def test_an_uneventful_run() -> None:
    """All was heard, nothing twice."""
    course = Course(5)
    heard(course, 5)
    report = report_on(course, {"corerl": 1}, {"emitted": 2}, 99, 1.5)
    assert (report.steps, report.actions, report.asked_again, report.written_again) == (5, 5, 0, 0)
    assert report.unheard == []
    assert (report.level, report.set_point, report.gain, report.messages) == (1.0, 1.0, 0.1, 99)
    assert report.services["observer"].emitted == 2


def test_what_was_not_heard_is_told() -> None:
    """Steps of which an observation or an action is missing are listed."""
    course = Course(5)
    heard(course, 5)
    del course.observations[3]
    course.acted.remove(4)
    assert course.unheard == [2, 4]


def test_what_was_said_twice_is_told() -> None:
    """Questions and actions beyond one for each step."""
    course = Course(5)
    heard(course, 3)
    course.add_io(IOEvent(type=IOEventType.read_from_opc))
    course.add_io(IOEvent(type=IOEventType.write_to_opc, step=2, action=ACTION))
    twice = IOEvent(type=IOEventType.write_to_opc, step=2, action=ACTION)
    course.add_io(twice)
    course.add_io(twice)  # the same event again is no other action
    report = report_on(course, {}, {}, None, 1.0)
    assert (report.asked_again, report.written_again) == (1, 2)


def test_what_comes_after_the_last_step_does_not_count() -> None:
    """Until the agent has heard that it is to end, it may do another step."""
    course = Course(3)
    heard(course, 5)
    report = report_on(course, {}, {}, None, 1.0)
    assert (report.steps, report.actions, report.asked_again) == (3, 3, 0)


def test_violations_are_counted_by_step() -> None:
    """A step in a zone counts once, even if its event comes again."""
    course = Course(5)
    for _ in range(2):
        course.add_rl(RLEvent(type=RLEventType.red_zone_violation, step=0))
    for step in (1, 2):
        course.add_rl(RLEvent(type=RLEventType.yellow_zone_violation, step=step))
    assert (course.red, course.yellow) == ({0}, {1, 2})


def test_all_processes_of_a_service_count() -> None:
    """The last counts of each process are added up; those of the same process replace each other."""
    course = Course(5)
    for pid, emitted in ((1, 10), (1, 20), (2, 5)):
        course.add_rl(RLEvent(type=RLEventType.agent_heartbeat, pid=pid, counts={"emitted": emitted, "lost": 1}))
        course.add_io(IOEvent(type=IOEventType.heartbeat, pid=pid, counts={"emitted": emitted}))
    report = report_on(course, {"corerl": 2, "coreio": 2}, {}, None, 1.0)
    assert (report.services["corerl"].starts, report.services["corerl"].emitted, report.services["corerl"].lost) == (
        2,
        25,
        2,
    )
    assert report.services["coreio"].emitted == 25


def test_who_was_heard_of() -> None:
    """An event addressed to a service does not count as the service's own."""
    course = Course(5)
    course.add_io(IOEvent(type=IOEventType.exit))
    course.add_rl(RLEvent(type=RLEventType.exit))
    course.add_io(IOEvent(type=IOEventType.read_from_opc))
    assert course.heard == set()
    course.add_io(reading(0))
    course.add_rl(RLEvent(type=RLEventType.service_started))
    assert course.heard == {"coreio", "corerl"}
    assert course.ended == set()
    course.add_io(IOEvent(type=IOEventType.service_stopped))
    course.add_rl(RLEvent(type=RLEventType.service_stopped))
    assert course.ended == {"coreio", "corerl"}


def test_the_report_for_people() -> None:
    """Each fact has a line, after the curves; coredinator, which has no client, has no counts."""
    course = Course(5)
    heard(course, 5)
    report = report_on(course, {"coredinator": 2, "corerl": 1}, {}, None, 1.0)
    lines = lines_of(report, course)
    assert "    1.00 |*****" in lines
    assert "steps       5 of 5, in 1.0 s" in lines
    assert "not heard   nothing" in lines
    assert "proxy       passed on ? messages since its last start" in lines
    assert [line.split() for line in lines[-3:]] == [
        ["coredinator", "2"],
        ["corerl", "1", "0", "0", "0", "0", "0"],
        ["observer", "1", "0", "0", "0", "0", "0"],
    ]


def test_the_report_for_programs() -> None:
    """JSON that holds the same."""
    report = report_on(Course(5), {"corerl": 1}, {}, None, 1.0)
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert (report.level, report.set_point) == (None, None)
