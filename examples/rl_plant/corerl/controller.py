"""The knowledge and the decisions of the agent: two self-tuning regulators, set-points and zones. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from math import sqrt

from plant import Action, Observation

TEMPERATURE = 35.0  # °C, the set-point of the temperature
LEVELS = (1.0, 1.4)  # m, the set-points of the level, in turn
TURN = 100  # steps that each is in force
INFLOW_TEMPERATURE = 15.0  # °C; the agent has no sensor there
APPROACH = 0.4  # the share of the way to the set-point that it wants to go in one step


class Zone(StrEnum):
    """The zone of the level; beyond yellow, and worse, beyond red."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"


@dataclass
class Regulator:
    """Learns what an input does to a quantity, and chooses the input that moves it as wished.

    Its model is ``change = gain * input - drain * load``, with two coefficients that it corrects after each step in
    proportion to how wrong it was (the normalised least mean squares method).

    Attributes:
        gain: what the whole input adds in one step.
        drain: what is lost in one step per unit of the load, which the caller computes.
        rate: which share of the error one step corrects.
    """

    gain: float
    drain: float
    rate: float = 0.5

    def predict(self, value: float, load: float) -> float:
        """The change that this input is expected to make in one step."""
        return self.gain * value - self.drain * load

    def choose(self, change: float, load: float) -> float:
        """The input, from 0 to 1, that is expected to make this change, or the nearest to it."""
        return min(1.0, max(0.0, (change + self.drain * load) / self.gain))

    def learn(self, value: float, load: float, change: float) -> float:
        """Correct both coefficients by what this input has done; returns how wrong the prediction was."""
        error = change - self.predict(value, load)
        step = self.rate * error / (value**2 + load**2 + 1e-6)
        # A gain of nothing could choose no input: that the valve fills and the heater warms is known beforehand.
        self.gain = max(0.01, self.gain + step * value)
        self.drain -= step * load
        return error


class Controller:
    """Keeps the level and the temperature at their set-points, and learns meanwhile how the plant answers.

    It begins with coefficients that are wrong by half, and needs no memory of a former life: what it learns, it has learnt
    again after some ten steps.
    """

    def __init__(self) -> None:
        self.level = Regulator(gain=0.06, drain=0.1)
        self.heat = Regulator(gain=3.0, drain=0.06)
        self._last: tuple[Observation, Action] | None = None

    def decide(self, observation: Observation) -> Action:
        """Learn from what the last action has done, if this is the step after it, and choose the next one."""
        if self._last is not None and self._last[0].step + 1 == observation.step:
            self._learn(*self._last, observation)
        wanted = set_point(observation.step) - observation.level
        valve = self.level.choose(APPROACH * wanted, sqrt(observation.level))
        warmer = (TEMPERATURE - observation.temperature) * observation.level
        heater = self.heat.choose(APPROACH * warmer, _mixing(observation, valve))
        action = Action(valve, heater)
        self._last = observation, action
        return action

    def _learn(self, before: Observation, action: Action, after: Observation) -> None:
        self.level.learn(action.valve, sqrt(before.level), after.level - before.level)
        warmed = (after.temperature - before.temperature) * before.level
        self.heat.learn(action.heater, _mixing(before, action.valve), warmed)


def set_point(step: int) -> float:
    """The level that is wanted at this step, m."""
    return LEVELS[step // TURN % len(LEVELS)]


def reward(observation: Observation) -> float:
    """The reward of a state: 0 at the set-points, less the farther from them."""
    level_error = observation.level - set_point(observation.step)
    return -(level_error**2) - ((observation.temperature - TEMPERATURE) / 100) ** 2


def zone(level: float) -> Zone:
    """The zone of this level."""
    if not 0.3 <= level <= 1.8:
        return Zone.RED
    return Zone.GREEN if 0.5 <= level <= 1.6 else Zone.YELLOW


def _mixing(observation: Observation, valve: float) -> float:
    """The cooling by the inflow: the share of the open valve times by how much it is colder."""
    return valve * (observation.temperature - INFLOW_TEMPERATURE)
