"""How well encoded states tell classes apart: Table 2 and Figures 3 and 4."""

import time
from typing import get_args

import torch
from torch import Tensor

from redqubit.experiments.base import Setting
from redqubit.experiments.quid.config import QUIDStudy, Task
from redqubit.experiments.quid.material import SAMPLES, Samples, samples, stream
from redqubit.experiments.record import Record
from redqubit.quantum.circuit import Circuit
from redqubit.quantum.encodings import amplitude, amplitude_angles, amplitude_rotations, angle
from redqubit.quantum.ess import LabelAgreement, label_agreement, nearest_class
from redqubit.quantum.noise import NoiseModel, named, quid_noise
from redqubit.quantum.similarity import Metric
from redqubit.result import Result

METRICS: tuple[Metric, ...] = get_args(Metric)
CONTROL = "latents, Euclidean"  # the metric that needs no circuit
USUAL, NO_H, ONE_RADIAN = "H, RZ, RX", "RZ, RX without H", "H, RZ, RX up to 1 radian"


def run_metrics(config: QUIDStudy, task: Task, setting: Setting) -> list[Result]:
    """Let one half of the samples suggest the labels of the other half, by each metric, with and without noise."""
    record = Record("quid", f"metrics-{task.name}", {"task": task.name})
    for seed in config.seeds:
        part = samples(config, task, config.d, seed, setting)
        y = torch.cat([part.train.y, part.test.y])
        unit = torch.cat([part.train.x, part.test.x])
        for noise in ("", config.noise):
            model = named(noise) if noise else None
            for metric in METRICS:
                where = {"distance": metric, "noise": noise, "encoder": USUAL}
                start = time.perf_counter()
                found = _agreement(part.encoder, unit, y, seed, model, metric)
                record.value("agreement_seconds", time.perf_counter() - start, seed, **where)
                record.share("label_agreement", found.suggested == y[found.judged], seed, **where)
            for name, circuit in _variants(part).items():
                found = _agreement(circuit, unit, y, seed, model)
                where = {"distance": "frobenius", "noise": noise, "encoder": name}
                record.share("label_agreement", found.suggested == y[found.judged], seed, **where)
        hits = _nearest_by_latents(part.raw, y, found.judged) == y[found.judged]
        record.share("label_agreement", hits, seed, distance=CONTROL, noise="", encoder="none")
    return record.results


def run_encodings(config: QUIDStudy, p: float, setting: Setting) -> list[Result]:
    """Compare angle encoding, four features a qubit, with amplitude encoding at one strength of noise."""
    task, d = config.large, config.d_large
    assert task is not None  # as the plan asks for no figure then
    record = Record("quid", f"encodings-{p:g}", {"task": task.name, "p": p})
    n_amplitude = (d - 1).bit_length()
    noise = quid_noise(p) if p else None
    for seed in config.seeds:
        part = samples(config, task, d, seed, setting)
        y = torch.cat([part.train.y, part.test.y])
        unit = torch.cat([part.train.x, part.test.x])
        angles = angle(d // 4, ("RZ", "RX") * 2, scale=part.slope, offset=part.offset, hadamard=True)
        ways = {
            "angle": (angles, unit),
            "amplitude, one gate": (amplitude(n_amplitude, d), part.raw),
            "amplitude, decomposed": (amplitude_rotations(n_amplitude), amplitude_angles(part.raw, n_amplitude)),
        }
        for name, (circuit, x) in ways.items():
            found = _agreement(circuit, x, y, seed, noise)
            record.share("label_agreement", found.suggested == y[found.judged], seed, encoder=name)
        hits = _nearest_by_latents(part.raw, y, found.judged) == y[found.judged]
        record.share("label_agreement", hits, seed, encoder=CONTROL)
    return record.results


def _variants(part: Samples) -> dict[str, Circuit]:
    """Return the encoder without H, and with angles of one radian at most."""
    n_qubits, turns = part.train.x.shape[1] // 2, ("RZ", "RX")
    one = {"scale": 2.0, "offset": -1.0}
    return {
        NO_H: angle(n_qubits, turns, scale=part.slope, offset=part.offset),
        ONE_RADIAN: angle(n_qubits, turns, hadamard=True, **one),
    }


def _agreement(
    circuit: Circuit, x: Tensor, y: Tensor, seed: int, noise: NoiseModel | None, metric: Metric = "frobenius"
) -> LabelAgreement:
    """Return what one half of a seed's samples says of the other, the same halves each time."""
    return label_agreement(circuit, x, y, metric=metric, noise=noise, generator=stream(seed, SAMPLES))


def _nearest_by_latents(z: Tensor, y: Tensor, judged: Tensor) -> Tensor:
    """Return the classes at the least mean Euclidean distance from the samples that are judged."""
    known = torch.ones(len(y), dtype=torch.bool)
    known[judged] = False
    distances = torch.cdist(z[judged], z[known])
    means = [distances[:, y[known] == c].mean(1) for c in range(int(y.max()) + 1)]
    return nearest_class(torch.stack(means, 1))
