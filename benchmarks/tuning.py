"""Successive halving on tuning seeds: how every baseline's setting was chosen."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Generic, TypeVar

S = TypeVar("S", bound=Any)  # a frozen dataclass of settings


@dataclass(frozen=True)
class Round(Generic[S]):
    """`candidates(survivors)` are tried by `evaluate(setting, seed)` on `seeds`; the best `keep` survive."""

    candidates: Callable[[Sequence[S]], Sequence[S]]
    evaluate: Callable[[S, int], dict[str, Any]]
    seeds: Sequence[int]
    keep: int


def search(rounds: Sequence[Round[S]], key: Callable[[dict[str, float]], Any]) -> Iterator[dict[str, Any]]:
    """Yield a row for each setting tried; the last row repeats the winner with `chosen` true.

    What `evaluate` returns is averaged over the seeds of a round; the averages with the least `key` win.
    """
    survivors: Sequence[S] = ()
    rows: list[tuple[dict[str, float], S]] = []
    for number, stage in enumerate(rounds, 1):
        rows = []
        for setting in dict.fromkeys(stage.candidates(survivors)):
            begun = time.process_time()
            results = [stage.evaluate(setting, seed) for seed in stage.seeds]
            means = {name: fmean(float(result[name]) for result in results) for name in results[0]}
            means["cpu_s"] = (time.process_time() - begun) / len(results)
            rows.append((means, setting))
            yield {"round": number, "seeds": len(stage.seeds), **asdict(setting), **means, "chosen": False}
        rows.sort(key=lambda row: key(row[0]))
        survivors = [setting for _, setting in rows[: stage.keep]]
    means, setting = rows[0]
    yield {"round": len(rounds), "seeds": len(rounds[-1].seeds), **asdict(setting), **means, "chosen": True}
