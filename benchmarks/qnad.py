"""Time of a LeNet-5 on noisy qubits over the plain one, and of an attack that averages over its noise.

    python benchmarks/qnad.py [--rounds 20] [--pictures 50] [--json FILE] [--markdown FILE]

LeNet-5, 28 x 28 pixels, as `quantum_mac` maps it: ibm_nairobi, 1024 shots, crosstalk on 5 % of the weights. Plain and
noisy network take turns; ratios are of processor time within a round, which bears company. Then PGD of 40 steps with 32
draws each (EOT) runs on a few pictures, in batches of 50, and its time is scaled to 1,000.

Exit code 1: the noise has another size than its formula says.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from command import arguments, positive, publish
from redqubit.evasion import PGD, input_gradient
from redqubit.models import MODELS, InjectedCrosstalk, quantum_mac
from tables import aligned, circumstances, cores, machine, number, say, spread, version

MARKER = "qnad"
BATCH, SHOTS, FRACTION, STEPS, DRAWS, EPS, ALL = 256, 1024, 0.05, 40, 32, 0.3, 1000
AIM, AIM_SECONDS = 3.0, 300.0  # times the plain network; of the attack, on 2 cores
Networks = dict[str, nn.Module]


def networks(shots: int = SHOTS) -> tuple[Networks, Tensor, Tensor]:
    """Return the plain and the noisy network, pictures and labels."""
    g = torch.Generator().manual_seed(0)
    plain = MODELS["lenet5"]((1, 28, 28), 10, generator=g).eval().requires_grad_(False)
    x, y = torch.rand(BATCH, 1, 28, 28, generator=g), torch.arange(BATCH) % 10
    noisy = quantum_mac(
        plain,
        x,
        calibration_y=y,
        shots=shots,
        crosstalk=InjectedCrosstalk(FRACTION),
        calibrate_offset=True,
        generator=g,
    )
    return {"plain": plain, "noisy": noisy}, x, y


def calls(nets: Networks, x: Tensor, y: Tensor) -> dict[tuple[str, str], Callable[[], Tensor]]:
    """Return what is timed, by task and network."""
    return {
        **{("forward", name): partial(torch.no_grad()(net), x) for name, net in nets.items()},
        **{("with gradient", name): partial(input_gradient, net, x, y) for name, net in nets.items()},
    }


def noise_fits() -> bool:
    """Tell whether four times the shots halve the scatter behind the first layer."""
    spreads = []
    for shots in (SHOTS, 4 * SHOTS):
        nets, x, _ = networks(shots)
        layer = nets["noisy"].get_submodule("conv1")
        spreads.append(float(torch.stack([layer(x[:8]) for _ in range(20)]).std(0).mean()))
    return abs(spreads[0] / spreads[1] - 2) < 0.05


def times(rounds: int) -> dict[tuple[str, str], list[float]]:
    """Return processor milliseconds of each round."""
    todo = calls(*networks())
    found: dict[tuple[str, str], list[float]] = {key: [] for key in todo}
    for call in todo.values():
        call()
    for _ in range(rounds):
        for key, call in todo.items():
            start = time.process_time()
            call()
            found[key].append(1e3 * (time.process_time() - start))
    return found


def attack(pictures: int) -> tuple[float, float]:
    """Return processor and wall seconds of the attack, scaled to 1,000 pictures."""
    nets, x, y = networks()
    x, y = x[:pictures], y[:pictures]
    start, wall = time.process_time(), time.perf_counter()
    method = PGD(EPS, steps=STEPS, draws=DRAWS)
    method(nets["noisy"], x, y, generator=torch.Generator().manual_seed(1), batch_size=50)
    scale = ALL / len(x)
    return scale * (time.process_time() - start), scale * (time.perf_counter() - wall)


def ratios(found: dict[tuple[str, str], list[float]], task: str) -> list[float]:
    """Return the noisy network's time over the plain one's, round by round."""
    return [a / b for a, b in zip(found[task, "noisy"], found[task, "plain"], strict=True)]


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description="Time of a LeNet-5 on noisy qubits.")
    parser.add_argument("--rounds", type=positive, default=20, help="measurements of each call (20)")
    parser.add_argument("--pictures", type=positive, default=50, help=f"pictures to attack, at most {BATCH} (50)")
    options = arguments(parser, MARKER)
    torch.set_num_threads(cores())
    facts: dict[str, Any] = {**machine(), "versions": {p: version(p) for p in ("redqubit", "torch")}}
    if not noise_fits():
        say("Four times the shots do not halve the noise.")
        return 1
    found = times(options.rounds)
    processor, wall = attack(min(options.pictures, BATCH))
    tasks = ("forward", "with gradient")
    rows = [["", "plain, ms", "noisy, ms", "noisy over plain"]]
    rows += [[t, spread(found[t, "plain"]), spread(found[t, "noisy"]), spread(ratios(found, t))] for t in tasks]
    ratio = median(ratios(found, "forward"))
    lines = [
        *aligned(rows),
        "",
        f"LeNet-5, batch {BATCH}, {SHOTS} shots, crosstalk on {FRACTION:.0%} of the weights; processor time.",
        f"PGD of {STEPS} steps and {DRAWS} draws on {ALL} pictures: {number(processor)} s of processor time,",
        f"{number(wall)} s by the clock, from {min(options.pictures, BATCH)} pictures.",
        f"Aims: at most {AIM:g} times plain: {'met' if ratio <= AIM else 'missed'}, {number(ratio)}; the attack in "
        f"{AIM_SECONDS:g} s: {'met' if wall <= AIM_SECONDS else 'missed'}.",
        "",
        circumstances(facts),
    ]
    results = {"ms": {" ".join(key): ms for key, ms in found.items()}, "attack": {"processor": processor, "wall": wall}}
    return publish(options, MARKER, lines, {"facts": facts, **results})


if __name__ == "__main__":
    sys.exit(main())
