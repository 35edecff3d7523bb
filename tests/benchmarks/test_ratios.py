"""The comparison of benchmark results with kept ones."""

from pathlib import Path

from tests.benchmarks.ratios import KEPT, Ratio, keep, kept, regressions


def test_a_ratio_of_rounds() -> None:
    """The median and the spread of the rounds' ratios."""
    ratio = Ratio.of([90.0, 110.0, 100.0, 100.0, 100.0], [100.0] * 5)
    assert (ratio.median, ratio.noise) == (1.0, 0.0)
    assert round(Ratio.of([80.0, 100.0, 120.0], [100.0] * 3).noise, 9) == 0.1


def test_what_became_worse() -> None:
    """Less throughput and more latency are worse, beyond the noise of both; better is not told."""
    before = {
        "rate": Ratio(1.0, 0.02),
        "noisy": Ratio(1.0, 0.2),
        "p50": Ratio(1.1, 0.01, higher_is_better=False),
        "gone": Ratio(2.0, 0.0),
        "better": Ratio(1.0, 0.0),
    }
    now = {
        "rate": Ratio(0.9, 0.02),
        "noisy": Ratio(0.9, 0.02),
        "p50": Ratio(1.3, 0.01, higher_is_better=False),
        "better": Ratio(1.5, 0.0),
        "new": Ratio(0.1, 0.0),
    }
    assert [line.split(":")[0] for line in regressions(now, before)] == ["rate", "p50", "gone"]
    assert list(regressions(before, before)) == []


def test_ratios_are_kept(tmp_path: Path) -> None:
    """A file keeps them; the one of this project can be read."""
    ratios = {"rate": Ratio(1.234, 0.02), "p50": Ratio(1.1, 0.01, higher_is_better=False)}
    keep(ratios, tmp_path / "ratios.json")
    assert kept(tmp_path / "ratios.json") == ratios
    assert not KEPT.exists() or kept()
