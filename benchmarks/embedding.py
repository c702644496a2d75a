"""What Ocean's own functions would take of a call to a quantum annealer: `python -m benchmarks.embedding`.

One problem of 64 variables, all coupled, on the graph of an Advantage, with 100 reads. CPU milliseconds, medians of 15:
chain strength, programming and reading by the seat's arrays and by Ocean's functions, and all that a call of the seat
takes outside of the sampler, which is to stay under 10 ms.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import qanneal_opt as qa
from benchmarks.rows import markdown
from qanneal_opt.demo.mock_machine import MockMachine
from qanneal_opt.samplers.remote.placement import Placement
from qanneal_opt.samplers.remote.tuning import Knobs

N, READS, TIMES, HEAT = 64, 100, 15, 16.0


def milliseconds(call: Callable[[], Any]) -> float:
    """The median of some calls."""
    taken = []
    for _ in range(TIMES):
        begun = time.process_time()
        call()
        taken.append(1e3 * (time.process_time() - begun))
    return statistics.median(taken)


def problem(seed: int) -> qa.Qubo:
    """All bits coupled, normal numbers."""
    rng = np.random.default_rng(seed)
    quadratic = rng.normal(size=(N, N))
    quadratic += quadratic.T
    np.fill_diagonal(quadratic, 0.0)
    return qa.Qubo(rng.normal(size=N), quadratic)


def outside(machine: MockMachine, seat: qa.samplers.QPU) -> float:
    """What a call takes beside the machine's own ``sample``."""
    inside, draw = [0.0], machine.sample

    def timed(bqm: Any, **parameters: Any) -> Any:
        begun = time.process_time()
        answer = draw(bqm, **parameters)
        inside.append(1e3 * (time.process_time() - begun))
        return answer

    machine.sample = timed  # type: ignore[method-assign]
    whole = milliseconds(lambda: seat.sample_arrays(problem(len(inside)), seed=0, temperature=HEAT))
    return whole - statistics.median(inside[1:])


def parts(machine: MockMachine, place: Placement) -> list[tuple[str, float, float]]:
    """Name, ours, Ocean's."""
    import dimod
    from dwave.embedding import embed_bqm, unembed_sampleset
    from dwave.embedding.chain_strength import uniform_torque_compensation

    qubo, rng = problem(0), np.random.default_rng(0)
    fields, couplings = qubo.quadratic.numpy().sum(1) / 4, qubo.quadratic.numpy() / 4
    model: Any = dimod.BinaryQuadraticModel(N, "SPIN")
    model.add_linear_from_array(fields)
    model.add_quadratic_from_dense(np.triu(couplings, 1))
    chains = {k: place.qubits[place.owner == k].tolist() for k in range(N)}
    graph = machine.to_networkx_graph().subgraph(place.qubits.tolist())
    neighbours = {qubit: set(graph.adj[qubit]) for qubit in graph}
    strength = Knobs().chain_strength(fields, couplings, None)
    target = embed_bqm(model, chains, neighbours, chain_strength=strength)
    spins = rng.choice(np.array([-1, 1], np.int8), size=(READS, len(place.qubits)))
    samples = dimod.SampleSet.from_samples_bqm((spins, place.qubits.tolist()), target)
    pairs: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
        (
            "chain strength",
            lambda: Knobs().chain_strength(fields, couplings, None),
            lambda: uniform_torque_compensation(model),
        ),
        (
            "programming",
            lambda: place.program(fields, couplings, strength),
            lambda: embed_bqm(model, chains, neighbours, chain_strength=strength),
        ),
        ("reading", lambda: place.read(spins, rng), lambda: unembed_sampleset(samples, chains, model)),
    ]
    return [(name, milliseconds(ours), milliseconds(theirs)) for name, ours, theirs in pairs]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    argparse.ArgumentParser(prog="python -m benchmarks.embedding", description=__doc__).parse_args(arguments)
    torch.set_num_threads(1)
    machine = MockMachine("pegasus", (16,))
    with tempfile.TemporaryDirectory() as cache:
        seat = qa.samplers.QPU(machine, cache=cache, on_failure="raise")
        seat.sample_arrays(problem(0), temperature=HEAT)  # embeds
        (place,) = seat.machine.placements(N, 1)
        lines = [[name, f"{ours:.2f}", f"{theirs:.2f}"] for name, ours, theirs in parts(machine, place)]
        lines.append(["all outside of the sampler", f"{outside(machine, seat):.2f}", ""])
    print(markdown(["CPU ms", "ours", "Ocean's"], lines))


if __name__ == "__main__":
    main()
