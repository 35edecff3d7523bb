"""The plant behind its interface, in a file."""

from pathlib import Path

import pytest

from coreio.opc import Opc
from plant import Action

OPEN = Action(valve=1.0, heater=1.0)


def test_a_new_plant(tmp_path: Path) -> None:
    """Without a file it begins nearly empty and cold, at step 0; reading does nothing to it."""
    opc = Opc(tmp_path / "plant.json")
    assert opc.read() == opc.read()
    seen = opc.read()
    assert (seen.level, seen.temperature) == pytest.approx((0.2, 15.0))
    assert seen.step == 0
    assert list(tmp_path.iterdir()) == []


def test_an_action_is_done_once(tmp_path: Path) -> None:
    """The action of the next step is done; that of another one, such as the same again, is not."""
    opc = Opc(tmp_path / "plant.json")
    assert opc.write(0, OPEN)
    after = opc.read()
    assert after.step == 1
    assert after.level > 0.2
    assert not opc.write(0, OPEN)
    assert not opc.write(7, OPEN)
    assert opc.read() == after


def test_the_plant_outlives_who_reads_it(tmp_path: Path) -> None:
    """Another one that opens the file sees exactly the same plant, and goes on there."""
    opc = Opc(tmp_path / "plant.json")
    for step in range(5):
        opc.write(step, OPEN)
    another = Opc(tmp_path / "plant.json")
    assert another.read() == opc.read()
    assert another.write(5, OPEN)
    opc.write(5, OPEN)
    assert another.read() == opc.read()
    assert [path.name for path in tmp_path.iterdir()] == ["plant.json"]


@pytest.mark.parametrize("content", ["", "{", '{"step": 1}', '{"step": 1, "state": [0, 0.5]}'])
def test_a_file_that_holds_no_plant(tmp_path: Path, content: str) -> None:
    """It is refused with its name and the remedy, not overwritten."""
    path = tmp_path / "plant.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"plant\.json holds no plant: delete it"):
        Opc(path)
    assert path.read_text() == content


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """The step counts as not done, so that it can be done later."""
    folder = tmp_path / "missing"
    opc = Opc(folder / "plant.json")
    with pytest.raises(OSError, match="missing"):
        opc.write(0, OPEN)
    assert opc.read().step == 0
    folder.mkdir()
    assert opc.write(0, OPEN)
