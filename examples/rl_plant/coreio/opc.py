"""The plant behind its interface: what an OPC server would be. It keeps the state of the tank in a file."""

import os
from pathlib import Path

from pydantic import BaseModel, ValidationError

from plant import Action, Observation, State, Tank

STEP = 30.0  # seconds of the plant's own time that one control step takes
BEGINNING = (0.2, 15.0)  # the level, m, and the temperature, °C: nearly empty and cold


class _Stored(BaseModel):
    """The content of the file."""

    step: int
    state: State


class Opc:
    """Reads the sensors of the plant, and moves its actuators.

    The plant outlives its readers, as hardware does: its state is in the file at all times, so that a service that was
    killed goes on where the plant is. Its time passes with control steps only. One process at a time may use a file; it is
    for one thread.

    Args:
        path: the file. Where there is none, a new plant begins.

    Raises:
        ValueError: the file holds no plant.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tank = Tank()
        try:
            self._stored = _Stored.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            self._stored = _Stored(step=0, state=self._tank.at(*BEGINNING))
        except ValidationError:
            raise ValueError(f"{path} holds no plant: delete it, and a new one begins") from None

    def read(self) -> Observation:
        """The readings of the sensors."""
        return self._tank.observe(self._stored.state, self._stored.step)

    def write(self, step: int, action: Action) -> bool:
        """Do one control step with this action, and return whether it was done.

        It is not if this is not the next step: an action that comes a second time, because the sender was not sure that the
        first had come, changes nothing.

        Raises:
            OSError: the file cannot be written; nothing was done then.
        """
        if step != self._stored.step:
            return False
        stored = _Stored(step=step + 1, state=self._tank.advance(self._stored.state, action, STEP))
        # Write beside it first: a process that is killed while it writes leaves the old state, not half of the new one.
        beside = self._path.with_name(f"{self._path.name}.new")
        beside.write_text(stored.model_dump_json())
        os.replace(beside, self._path)
        self._stored = stored
        return True
