"""The simulated plant: what must be true of any tank, and of how it is integrated."""

from itertools import pairwise
from math import exp, isclose, sqrt

import pytest

from plant import GRAVITY, HEAT_CAPACITY, Action, State, Tank

SHUT = Action(valve=0.0, heater=0.0)


def run(tank: Tank, state: State, actions: list[Action], substeps: int = 10) -> State:
    """The state after one step of 30 seconds for each action."""
    for action in actions:
        state = tank.advance(state, action, 30.0, substeps)
    return state


def actions(count: int) -> list[Action]:
    """Actions that move everything."""
    return [Action(valve=number % 7 / 6, heater=number % 5 / 4) for number in range(count)]


@pytest.mark.parametrize("level", [0.05, 0.2, 1.0, 1.95])
def test_no_water_is_lost(level: float) -> None:
    """The water in the tank is that at the beginning, and the inflow, less the outflow; over the rim as well."""
    tank = Tank()
    begin = tank.at(level, 15.0)
    end = run(tank, begin, [*actions(100), *[Action(1.0, 0.0)] * 30])
    assert isclose(end.volume - begin.volume, end.water_in - end.water_out, abs_tol=1e-12)
    assert end.water_in > 1.0
    assert end.time == pytest.approx(130 * 30.0)


@pytest.mark.parametrize("level", [0.05, 0.2, 1.0, 1.95])
def test_no_heat_is_lost(level: float) -> None:
    """The same of heat: from the inflow and the heater, through the outlet and the wall."""
    tank = Tank()
    begin = tank.at(level, 15.0)
    end = run(tank, begin, actions(100))
    assert isclose(end.heat - begin.heat, end.heat_in - end.heat_out, rel_tol=1e-12)
    assert end.heat_in > 1e7


def test_the_flows_are_those_of_the_actions() -> None:
    """The open valve lets its inflow in, and the heater heats with its power; more than all is not possible."""
    tank = Tank()
    end = run(tank, tank.at(1.0, 20.0), [Action(valve=1.0, heater=0.0)] * 10)
    assert end.water_in == pytest.approx(tank.inflow * 300)
    assert end.heat_in == pytest.approx(HEAT_CAPACITY * tank.inflow * 300 * tank.inflow_temperature)
    heated = run(tank, tank.at(1.0, 20.0), [Action(valve=0.0, heater=1.0)] * 10)
    assert heated.heat_in == pytest.approx(tank.heater * 300)
    assert run(tank, tank.at(1.0, 20.0), [Action(valve=9.0, heater=-9.0)] * 10) == end


def test_it_empties_as_torricelli_found() -> None:
    """Without an inflow, the root of the height above the outlet falls in proportion to time."""
    tank = Tank(demand=0.0)
    end = run(tank, tank.at(1.0, 20.0), [SHUT] * 20)
    fall = tank.outlet_area * sqrt(GRAVITY / 2) / tank.area
    expected = tank.outlet + (sqrt(1.0 - tank.outlet) - fall * 600) ** 2
    assert tank.level(end) == pytest.approx(expected, abs=1e-9)


def test_it_cools_as_newton_found() -> None:
    """Without any flow, the difference to the surroundings falls exponentially."""
    tank = Tank(outlet_area=0.0)
    end = run(tank, tank.at(1.0, 60.0), [SHUT] * 100)
    constant = tank.loss / (HEAT_CAPACITY * tank.area)
    assert tank.temperature(end) == pytest.approx(20.0 + 40.0 * exp(-constant * 3_000), abs=1e-9)


def test_it_converges_with_the_step() -> None:
    """Half the substep leaves a sixteenth of the error, as the method promises; with ten of them it is no longer seen."""
    tank = Tank()
    begin = tank.at(1.0, 20.0)
    exact = run(tank, begin, actions(20), 320)
    errors = [
        abs(tank.temperature(run(tank, begin, actions(20), substeps)) - tank.temperature(exact)) for substeps in (1, 2, 4)
    ]
    for coarse, fine in pairwise(errors):
        assert 12 < coarse / fine < 20
    default = run(tank, begin, actions(20))
    assert tank.temperature(default) == pytest.approx(tank.temperature(exact), abs=1e-8)
    assert tank.level(default) == pytest.approx(tank.level(exact), abs=1e-8)


def test_what_is_below_the_outlet_stays() -> None:
    """A tank that runs empty keeps the water below its outlet, and so has a temperature."""
    tank = Tank()
    end = run(tank, tank.at(0.2, 40.0), [SHUT] * 200)
    assert tank.level(end) == pytest.approx(tank.outlet, abs=1e-3)
    assert 20.0 < tank.temperature(end) < 40.0


def test_a_full_tank_runs_over() -> None:
    """Above the rim the level comes to rest where as much runs over it as comes in."""
    tank = Tank(outlet_area=0.0)
    end = run(tank, tank.at(1.9, 15.0), [Action(1.0, 0.0)] * 100)
    assert tank.rim < tank.level(end) < tank.rim + 0.05
    more = tank.advance(end, Action(1.0, 0.0), 30.0)
    assert more.water_out - end.water_out == pytest.approx(tank.inflow * 30.0, rel=1e-6)


def test_the_sensors() -> None:
    """An observation has the step, the level and the temperature."""
    tank = Tank()
    seen = tank.observe(tank.at(0.7, 33.0), 5)
    assert (seen.level, seen.temperature) == pytest.approx((0.7, 33.0))
    assert seen.step == 5
