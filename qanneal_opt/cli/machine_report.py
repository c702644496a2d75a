"""What `doctor` tells of a quantum annealer: topology, cliques by chain length, cached embeddings, cost of a step."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from qanneal_opt import QuboStep
from qanneal_opt.samplers import QPU
from qanneal_opt.samplers.deadline import guarded
from qanneal_opt.samplers.remote.machine import Machine
from qanneal_opt.samplers.tokens import scrubbed

__all__ = ["examine", "lines"]

DEADLINE = 30.0
"""Seconds for reaching a machine; nothing is submitted to it."""

SIZES = (16, 32, 64)


def examine(seat: QPU) -> dict[str, Any]:
    """Reach the machine of a seat, and tell what it is; plain data, without any token."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            machine = guarded("qpu", DEADLINE, lambda: seat.machine)
            return _told(seat, machine)
    except Exception as error:  # whatever it is, the rest of the report is of use
        return {"error": scrubbed(str(error))}


def _told(seat: QPU, machine: Machine) -> dict[str, Any]:
    cliques, step = machine.embeddings, QuboStep()
    costs = [_cost(seat, machine, n) for n in SIZES if cliques.cliques(n)]
    blocks = [len(part) for part in torch.arange(step.proposals).split(step.variables)]
    return {
        "solver": machine.name,
        "topology": machine.topology,
        "qubits": len(machine.sampler.nodelist),
        "couplers": len(machine.sampler.edgelist),
        "largest_clique_by_chain_length": {str(length): n for length, n in machine.embeddings.largest().items()},
        "cached_embeddings": {str(n): count for n, count in cliques.cached().items()},
        "cache": None if seat.cache is None else str(seat.cache),
        "reads": seat.reads,
        "block_cost": costs,
        "step_cost": sum(_cost(seat, machine, n)["seconds"] for n in blocks if cliques.cliques(n)),
        "step_blocks": blocks,
    }


def _cost(seat: QPU, machine: Machine, n: int) -> dict[str, Any]:
    """Of one submission with ``n`` variables."""
    (place,) = machine.placements(n, 1)
    return {
        "variables": n,
        "qubits": len(place.qubits),
        "chain_length": int(place.lengths.max()),
        "seconds": machine.seconds(len(place.qubits), {"num_reads": machine.reads(seat.reads)}),
    }


def lines(report: dict[str, Any]) -> list[str]:
    """The report as text."""
    if "error" in report:
        return [f"quantum annealer: {report['error']}"]
    largest = ", ".join(f"{n} ({length})" for length, n in report["largest_clique_by_chain_length"].items())
    cached = ", ".join(f"{count} of {n}" for n, count in report["cached_embeddings"].items())
    return [
        f"quantum annealer: {report['solver']}, {report['topology']}, {report['qubits']} qubits, "
        f"{report['couplers']} couplers",
        f"largest cliques (chain length): {largest}",
        f"cached embeddings: {cached or 'none'} in {report['cache'] or 'memory'}",
        *(
            f"a block of {cost['variables']} variables: {1e3 * cost['seconds']:.1f} ms of QPU for {report['reads']} "
            f"reads, {cost['qubits']} qubits, chains of up to {cost['chain_length']}"
            for cost in report["block_cost"]
        ),
        f"an annealing step of QuboStep(): {1e3 * report['step_cost']:.1f} ms of QPU, for blocks of "
        f"{' and '.join(map(str, report['step_blocks']))} variables",
    ]
