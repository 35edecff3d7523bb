"""The report of `check`: what stands in it, and how it is written."""

import json

from eventbus.cli.check_steps import Step, StepStatus, json_object, run_steps, text_line
from eventbus.cli.terminal import Paint
from eventbus.errors import EncryptionRequired
from eventbus.transports.zeromq.reachability import CheckFailed

OK = Step("host", StepStatus.OK, "localhost is 127.0.0.1")
FAILED = Step("publishers", StepStatus.FAILED, "nothing listens", "start a proxy")
NOT_TRIED = Step("subscribers", StepStatus.NOT_TRIED)


def fails() -> str:
    raise CheckFailed("nothing listens", "start a proxy")


def test_steps_end_with_the_first_trouble() -> None:
    """Looks are taken in order; after one that has failed, the others are listed and not taken."""
    steps = run_steps({"host": lambda: "localhost is 127.0.0.1", "publishers": fails, "subscribers": fails})
    assert list(steps) == [OK, FAILED, NOT_TRIED]


def test_each_step_is_told_before_the_next_is_taken() -> None:
    """A person who waits for a step sees the results before it."""
    taken: list[str] = []

    def look() -> str:
        taken.append("look")
        return "seen"

    steps = run_steps({"first": look, "second": look})
    next(steps)
    assert taken == ["look"]


def test_an_error_of_ours_is_trouble() -> None:
    """The finding and the remedy of a failed step stand apart, and nothing is lost."""
    error = EncryptionRequired("tcp://localhost:5559")
    trouble = CheckFailed.of(error)
    assert trouble.remedy.startswith("set EVENTBUS_SECURITY__SERVER_PUBLIC_KEY")
    assert str(trouble) == str(error)


def test_lines_for_people() -> None:
    """A mark, the name, and what was seen; what failed has its remedy on the same line."""
    paint = Paint(False)
    assert text_line(OK, paint) == "ok    host         localhost is 127.0.0.1"
    assert text_line(FAILED, paint) == "FAIL  publishers   nothing listens: start a proxy"
    assert text_line(NOT_TRIED, paint) == "-     subscribers  not tried"


def test_colours_are_in_the_marks() -> None:
    """A good step is green, a failed one is red."""
    paint = Paint(True)
    assert text_line(OK, paint).startswith("\x1b[32mok    \x1b[0mhost ")
    assert text_line(FAILED, paint).startswith("\x1b[1;31mFAIL  \x1b[0mpublishers ")


def test_what_a_stranger_says_is_escaped() -> None:
    """A line is a line."""
    assert text_line(Step("protocol", StepStatus.FAILED, "it says \x1b[2J\n", "x"), Paint(False)).isprintable()


def test_json_for_programs() -> None:
    """One object with all steps; the round trip is in milliseconds."""
    assert json.loads(json_object([OK], 0.0012345)) == {
        "ok": True,
        "steps": [{"name": "host", "status": "ok", "detail": "localhost is 127.0.0.1", "remedy": ""}],
        "round_trip_ms": 1.234,
    }
    failed = json.loads(json_object([OK, FAILED, NOT_TRIED], None))
    assert (failed["ok"], failed["round_trip_ms"]) == (False, None)
    assert [step["status"] for step in failed["steps"]] == ["ok", "failed", "not_tried"]
    assert failed["steps"][1]["remedy"] == "start a proxy"
