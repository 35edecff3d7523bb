"""The simulated plant: a heated tank with a valve above and an open outlet below. Pure: no clock, no file, no bus.

Units are SI; temperatures are in °C, and heat counts from 0 °C.
"""

from dataclasses import dataclass
from math import pi, sin, sqrt
from typing import NamedTuple

GRAVITY = 9.81  # m/s²
HEAT_CAPACITY = 4.186e6  # of water, J/(m³ K)
SUBSTEPS = 10  # of one control step; the test of convergence shows what they leave


@dataclass(frozen=True, slots=True)
class Action:
    """The opening of the valve and the power of the heater, each from 0 to 1; a value beyond counts as the nearer end."""

    valve: float
    heater: float


@dataclass(frozen=True, slots=True)
class Observation:
    """The readings of the sensors.

    Attributes:
        step: the number of control steps that the plant has done.
        level: of the water, in m above the bottom.
        temperature: of the water, in °C.
    """

    step: int
    level: float
    temperature: float


class State(NamedTuple):
    """All there is to know of the tank at one moment, and what has passed since its beginning.

    Attributes:
        time: seconds since the beginning.
        volume: water in the tank, m³.
        heat: in that water, J.
        water_in: through the valve until now, m³.
        water_out: through the outlet and over the rim, m³.
        heat_in: with the water, and from the heater, J.
        heat_out: with the water, and through the wall, J; less than nothing where the surroundings are warmer.
    """

    time: float
    volume: float
    heat: float
    water_in: float = 0.0
    water_out: float = 0.0
    heat_in: float = 0.0
    heat_out: float = 0.0

    def after(self, rates: "State", seconds: float) -> "State":
        """The state after some seconds at constant rates."""
        return State(*(value + rate * seconds for value, rate in zip(self, rates, strict=True)))


@dataclass(frozen=True, slots=True)
class Tank:
    """The parameters of the plant; every method is a function of these and its arguments.

    Attributes:
        area: of the water's surface, m².
        rim: height of the rim, over which what is too much runs, m.
        rim_width: along which it runs, m.
        outlet: height of the outlet, m; the water below stays in the tank.
        outlet_area: the effective one, discharge coefficient included, m².
        demand: by what share of its area the outlet opens and closes in the course of `demand_period` seconds.
        inflow: through the open valve, m³/s.
        inflow_temperature: of that water.
        heater: the heater's power, W.
        loss: through the wall, W/K.
        surroundings: their temperature.
    """

    area: float = 0.5
    rim: float = 2.0
    rim_width: float = 0.5
    outlet: float = 0.05
    outlet_area: float = 2.3e-4
    demand: float = 0.2
    demand_period: float = 3_600.0
    inflow: float = 2e-3
    inflow_temperature: float = 15.0
    heater: float = 120e3
    loss: float = 200.0
    surroundings: float = 20.0

    def at(self, level: float, temperature: float) -> State:
        """The state at the beginning, with this level of water."""
        volume = self.area * level
        return State(0.0, volume, HEAT_CAPACITY * volume * temperature)

    def level(self, state: State) -> float:
        """The height of the water, m."""
        return state.volume / self.area

    def temperature(self, state: State) -> float:
        """The temperature of the water, which is stirred."""
        return state.heat / (HEAT_CAPACITY * state.volume)

    def observe(self, state: State, step: int) -> Observation:
        """The readings of the sensors after this many steps."""
        return Observation(step, self.level(state), self.temperature(state))

    def advance(self, state: State, action: Action, seconds: float, substeps: int = SUBSTEPS) -> State:
        """The state after this many seconds under this action: Runge and Kutta's fourth-order method, in equal substeps."""
        length = seconds / substeps
        for _ in range(substeps):
            first = self._rates(state, action)
            second = self._rates(state.after(first, length / 2), action)
            third = self._rates(state.after(second, length / 2), action)
            fourth = self._rates(state.after(third, length), action)
            state = state.after(
                State(*((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(first, second, third, fourth, strict=True))),
                length,
            )
        return state

    def _rates(self, state: State, action: Action) -> State:
        """The rate of change of each part of the state: a balance of water, and one of heat."""
        level, temperature = self.level(state), self.temperature(state)
        opening = self.outlet_area * (1 + self.demand * sin(2 * pi * state.time / self.demand_period))
        through_outlet = opening * sqrt(2 * GRAVITY * max(0.0, level - self.outlet))  # Torricelli
        over_rim = 1.84 * self.rim_width * max(0.0, level - self.rim) ** 1.5  # Francis' formula for a weir
        water_in = self.inflow * _share(action.valve)
        water_out = through_outlet + over_rim
        heat_in = HEAT_CAPACITY * water_in * self.inflow_temperature + self.heater * _share(action.heater)
        heat_out = HEAT_CAPACITY * water_out * temperature + self.loss * (temperature - self.surroundings)
        return State(1.0, water_in - water_out, heat_in - heat_out, water_in, water_out, heat_in, heat_out)


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))
