"""Train binary networks on real digits, by gradients alone and in turn with annealing, side by side.

Prints a table, and writes a picture and a JSON file. Every row is a mean over seeds that chose no setting; CPU
seconds include annealing, and both sides run compiled code. Compilation (cached afterwards) is not counted.

With --sampler it trains the first of these networks through that sampler instead, and prints the optimizer's summary.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from pathlib import Path
from typing import Any

from qanneal_opt.cli.console import UsageError, need
from qanneal_opt.terminal import progress, table

TITLES = {
    "digits_binary": "digits, 64-6-10, binary weights",
    "digits_smooth": "digits, 64-12-10, binary weights, smoothed targets",
    "perceptron": "binary perceptron, N = 501, 0.6 patterns a weight",
    "perceptron_07": "binary perceptron, N = 501, 0.7 patterns a weight",
}
ACCURACY = "test accuracy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--seeds", type=int, help="seeds of the digits tasks, counted from 0 (5; 1 with --sampler)")
    parser.add_argument("--instances", type=int, default=20, help="instances of each perceptron task (20)")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes, one core each (2)")
    parser.add_argument("--sampler", help="train through this sampler alone, such as qpu, and print its summary")
    parser.add_argument("--mock", action="store_true", help="with --sampler qpu: no account, a machine that is made up")
    parser.add_argument("--qpu-budget", type=float, default=1.0, help="seconds of a real machine (1)")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder of demo.png and demo.json (demo)")


def run(options: argparse.Namespace) -> None:
    """Run every contender on every task, and show what came out."""
    if options.seeds is None:
        options.seeds = 1 if options.sampler else 5
    if options.mock and options.sampler != "qpu":
        raise UsageError("Invalid --mock: it stands in for the machine of --sampler qpu")
    for name in ("seeds", "instances", "jobs"):
        if getattr(options, name) < 1:
            raise UsageError(f"Invalid --{name}: {getattr(options, name)}; a positive number is needed")
    need("sklearn")
    if options.sampler:
        _through(options)
        return
    need("matplotlib")
    from qanneal_opt.demo.contenders import TASKS, warm_up

    start = time.perf_counter()
    warm_up()  # compiles to the disk, from where each worker loads it
    counts = {task: options.instances if "perceptron" in task else options.seeds for task in TASKS}
    jobs = [
        (task, name, seed) for task, contenders in TASKS.items() for seed in range(counts[task]) for name in contenders
    ]
    spawn = multiprocessing.get_context("spawn")  # a fork would inherit the threads of torch
    with spawn.Pool(min(options.jobs, len(jobs)), initializer=_start_worker) as pool:
        rows = list(progress(pool.imap(_timed, jobs), "demo", total=len(jobs), quiet=options.json))
    summary = summarize(rows)
    report: dict[str, Any] = {"rows": rows, "summary": summary, "wall_s": time.perf_counter() - start}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "demo.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    draw(rows, options.out / "demo.png")
    if options.json:
        print(json.dumps(report))
    else:
        print(_text(summary))
        print(f"\n{report['wall_s']:.0f} s; picture and numbers in {options.out}/demo.png and {options.out}/demo.json")


def _through(options: argparse.Namespace) -> None:
    """Train through one sampler, a seed after the other, and show what came out and what it cost."""
    from qanneal_opt.demo.through import seat, train

    sampler = seat(options.sampler, mock=options.mock, qpu_budget=options.qpu_budget)
    seeds = progress(range(options.seeds), options.sampler, total=options.seeds, quiet=options.json)
    rows = [train(sampler, seed) for seed in seeds]
    if options.json:
        print(json.dumps({"rows": rows}))
        return
    header = [TITLES["digits_binary"], "loss", ACCURACY, "CPU s"]
    lines = [
        [f"seed {row['seed']}", f"{row['loss']:.3f}", f"{100 * row['metric']:.1f}%", f"{row['cpu_s']:.2f}"]
        for row in rows
    ]
    print(f"{table(lines, header)}\n\n{rows[-1]['summary']}")


def summarize(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Give each task's and contender's means, and the standard errors of loss and metric."""
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        summary.setdefault(row["task"], {}).setdefault(row["contender"], {})
    for task, contenders in summary.items():
        for name in contenders:
            mine = [row for row in rows if (row["task"], row["contender"]) == (task, name)]
            numbers = {key: [float(row[key]) for row in mine] for key in ("solved", "loss", "metric", "ge", "cpu_s")}
            contenders[name] = {key: statistics.fmean(values) for key, values in numbers.items()}
            contenders[name]["seeds"] = len(mine)
            for key in ("loss", "metric"):
                spread = statistics.stdev(numbers[key]) if len(mine) > 1 else float("nan")
                contenders[name][f"{key}_se"] = spread / len(mine) ** 0.5
    return summary


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw what the digits contenders reached, seed by seed, and what share of perceptrons each solved."""
    matplotlib = need("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    summary = summarize(rows)
    digits = [task for task in summary if "perceptron" not in task]
    figure, axes = plt.subplots(1, len(digits) + 1, figsize=(5 * len(digits) + 4, 4), layout="constrained")
    for axis, task in zip(axes, digits):
        for k, name in enumerate(summary[task]):
            mine = [row for row in rows if (row["task"], row["contender"]) == (task, name)]
            axis.scatter(
                [row["loss"] for row in mine],
                [100 * row["metric"] for row in mine],
                s=18,
                color=f"C{k}",
                alpha=0.5,
            )
            mean = summary[task][name]
            axis.scatter(mean["loss"], 100 * mean["metric"], s=140, marker="*", color=f"C{k}", label=_words(name))
        axis.set(title=TITLES[task], xlabel="training loss", ylabel="test accuracy, %")
        axis.legend(fontsize=8)
    patterns = [task for task in summary if "perceptron" in task]
    names = list(dict.fromkeys(name for task in patterns for name in summary[task]))
    for k, name in enumerate(names):
        heights = [100 * summary[task][name]["solved"] for task in patterns]
        places = [p + 0.8 * (k + 0.5) / len(names) for p in range(len(patterns))]
        axes[-1].bar(places, heights, width=0.75 / len(names), label=_words(name))
    axes[-1].set_xticks([p + 0.4 for p in range(len(patterns))], ["0.6 patterns a weight", "0.7"][: len(patterns)])
    axes[-1].set(title="binary perceptrons, N = 501", ylabel="solved, %", ylim=(0, 130), yticks=range(0, 101, 20))
    axes[-1].legend(fontsize=8, ncols=2, loc="upper center")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _start_worker() -> None:
    """One thread a worker, so that CPU seconds compare; kernels loaded before any clock starts."""
    import torch

    from qanneal_opt.demo.contenders import warm_up

    torch.set_num_threads(1)
    warm_up()


def _timed(job: tuple[str, str, int]) -> dict[str, Any]:
    from qanneal_opt.demo.contenders import TASKS

    task, name, seed = job
    wall, cpu = time.perf_counter(), time.process_time()
    result = TASKS[task][name](seed)
    seconds = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
    return {"task": task, "contender": name, "seed": seed, **result, **seconds}


def _words(name: str) -> str:
    return name.replace("_", " ").replace("t0", "T = 0")


def _text(summary: dict[str, dict[str, dict[str, float]]]) -> str:
    parts = []
    for task, contenders in summary.items():
        first = next(iter(contenders.values()))
        perceptron = "perceptron" in task
        header = [
            TITLES[task],
            *(["solved", "errors"] if perceptron else ["loss", "x baseline", ACCURACY]),
            "ge",
            "CPU s",
        ]
        rows = []
        for name, mean in contenders.items():
            if perceptron:
                cells = [f"{100 * mean['solved']:.0f}%", f"{100 * (1 - mean['metric']):.2f}%"]
            else:
                cells = [
                    f"{mean['loss']:.3f} ± {mean['loss_se']:.3f}",
                    f"{mean['loss'] / first['loss']:.2f}",
                    f"{100 * mean['metric']:.1f} ± {100 * mean['metric_se']:.1f}%",
                ]
            rows.append([_words(name), *cells, f"{mean['ge']:.0f}", f"{mean['cpu_s']:.2f}"])
        parts.append(table(rows, header) + f"\n({first['seeds']:.0f} seeds; ± standard error)")
    return "\n\n".join(parts)
