"""The ratios of an earlier measurement, kept in a file, and what has become worse since. Pure, but for the file."""

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

KEPT = Path(__file__).with_name("ratios.json")

_MIN_NOISE = 0.05  # of the median; less cannot be told apart on a machine with two cores


@dataclass(frozen=True, slots=True)
class Ratio:
    """The ratio of a contender to the hand-tuned loop, over the rounds of one measurement.

    Attributes:
        median: of the rounds.
        noise: half of the distance between the quartiles, as a part of the median.
        higher_is_better: False for latencies.
    """

    median: float
    noise: float
    higher_is_better: bool = True

    @classmethod
    def of(cls, values: Sequence[float], base: Sequence[float], *, higher_is_better: bool = True) -> "Ratio":
        """Return the ratio of two contenders that took turns; there are at least two rounds."""
        rounds = [value / other for value, other in zip(values, base, strict=True)]
        low, median, high = statistics.quantiles(rounds, n=4, method="inclusive")
        return cls(median, (high - low) / 2 / median, higher_is_better)

    def is_worse_than(self, kept: "Ratio") -> bool:
        """Whether this is worse by more than the noise of both."""
        noise = max(_MIN_NOISE, self.noise + kept.noise)
        if self.higher_is_better:
            return self.median < kept.median * (1 - noise)
        return self.median > kept.median * (1 + noise)


def regressions(now: dict[str, Ratio], kept: dict[str, Ratio]) -> Iterator[str]:
    """Yield a line for each ratio that has become worse, or is no longer measured."""
    for name, before in kept.items():
        found = now.get(name)
        if found is None:
            yield f"{name}: is not measured any more; it was {before.median:.2f}"
        elif found.is_worse_than(before):
            yield f"{name}: {found.median:.2f}, was {before.median:.2f} (noise {before.noise:.0%} and {found.noise:.0%})"


def keep(ratios: dict[str, Ratio], path: Path = KEPT) -> None:
    """Write the ratios of this measurement."""
    rounded = {
        name: asdict(ratio) | {"median": round(ratio.median, 3), "noise": round(ratio.noise, 3)}
        for name, ratio in ratios.items()
    }
    path.write_text(json.dumps(rounded, indent=2) + "\n")


def kept(path: Path = KEPT) -> dict[str, Ratio]:
    """Return the ratios that `keep` has written."""
    return {name: Ratio(**values) for name, values in json.loads(path.read_text()).items()}
