"""The knowledge and the decisions of the agent."""

from math import sqrt

import pytest

from coreio.opc import BEGINNING, STEP
from corerl.controller import TEMPERATURE, Controller, Regulator, Zone, reward, set_point, zone
from plant import Observation, Tank


def course(steps: int, *, forget_at: int | None = None) -> list[Observation]:
    """The observations of this number of steps; at one of them another controller may replace the first one."""
    plant = Tank()
    state, controller = plant.at(*BEGINNING), Controller()
    observations = []
    for step in range(steps):
        if step == forget_at:
            controller = Controller()
        observations.append(plant.observe(state, step))
        state = plant.advance(state, controller.decide(observations[-1]), STEP)
    return [*observations, plant.observe(state, steps)]


def test_it_keeps_the_set_points() -> None:
    """From an almost empty, cold tank both set-points are reached and kept, while the demand swings by a fifth."""
    observations = course(200)
    for before in (99, 199):
        seen = observations[before]
        assert seen.level == pytest.approx(set_point(before), abs=0.01)
        assert seen.temperature == pytest.approx(TEMPERATURE, abs=0.5)
    assert max(observation.level for observation in observations) < 1.5


@pytest.mark.parametrize("inflow", [1.5e-3, 2e-3, 3e-3])
def test_it_learns_how_the_plant_answers(inflow: float) -> None:
    """It begins with a gain that is too small, comes nearer to the truth at other plants too, and in the end knows to a few
    millimetres what its action will do."""
    tank = Tank(inflow=inflow)
    controller, state = Controller(), tank.at(*BEGINNING)
    expected = actual = 0.0
    for step in range(60):
        seen = tank.observe(state, step)
        action = controller.decide(seen)
        expected = controller.level.predict(action.valve, sqrt(seen.level))
        state = tank.advance(state, action, STEP)
        actual = tank.level(state) - seen.level
    assert expected == pytest.approx(actual, abs=3e-3)
    gain = inflow * STEP / tank.area
    assert abs(controller.level.gain - gain) < abs(Controller().level.gain - gain)


def test_what_was_forgotten_is_learnt_again() -> None:
    """An agent that begins anew in the middle is back at the set-point after twenty steps, and never far from it."""
    observations = course(90, forget_at=50)
    assert all(zone(observation.level) is Zone.GREEN for observation in observations[10:])
    assert all(observation.level == pytest.approx(1.0, abs=0.01) for observation in observations[70:])


def test_a_gap_is_not_learnt_from() -> None:
    """Between observations that do not follow each other other actions may have been at work."""
    controller = Controller()
    controller.decide(Observation(step=3, level=1.0, temperature=35.0))
    gain, drain = controller.level.gain, controller.level.drain
    controller.decide(Observation(step=5, level=1.7, temperature=20.0))
    assert (controller.level.gain, controller.level.drain) == (gain, drain)


def test_a_regulator_corrects_itself() -> None:
    """Half of the error is corrected at once; a prediction that was right changes nothing."""
    regulator = Regulator(gain=1.0, drain=1.0, rate=0.5)
    assert regulator.learn(value=1.0, load=1.0, change=1.0) == pytest.approx(1.0)
    assert 1.0 - regulator.predict(1.0, 1.0) == pytest.approx(0.5, abs=1e-5)
    gain = regulator.gain
    assert regulator.learn(1.0, 1.0, regulator.predict(1.0, 1.0)) == pytest.approx(0.0)
    assert regulator.gain == gain


def test_a_regulator_stays_within_what_is_possible() -> None:
    """It chooses from 0 to 1, and never believes that the input does nothing."""
    regulator = Regulator(gain=0.1, drain=0.0)
    assert (regulator.choose(5.0, 0.0), regulator.choose(-5.0, 0.0), regulator.choose(0.05, 0.0)) == (1.0, 0.0, 0.5)
    for _ in range(50):
        regulator.learn(1.0, 0.0, change=-1.0)
    assert regulator.gain > 0
    assert regulator.choose(-1.0, 0.0) == 0.0


def test_zones() -> None:
    """Green in the middle, then yellow, then red, at both ends; a bound belongs to the better zone."""
    assert [zone(level) for level in (0.29, 0.3, 0.49, 0.5, 1.6, 1.61, 1.8, 1.81)] == [
        Zone.RED,
        Zone.YELLOW,
        Zone.YELLOW,
        Zone.GREEN,
        Zone.GREEN,
        Zone.YELLOW,
        Zone.YELLOW,
        Zone.RED,
    ]


def test_the_reward_is_best_at_the_set_points() -> None:
    """It is 0 there, and less the farther away."""
    assert reward(Observation(0, 1.0, TEMPERATURE)) == 0.0
    assert 0.0 > reward(Observation(0, 1.1, TEMPERATURE)) > reward(Observation(0, 1.2, TEMPERATURE))
    assert reward(Observation(0, 1.0, 30.0)) < 0.0
    assert reward(Observation(100, 1.4, TEMPERATURE)) == 0.0
