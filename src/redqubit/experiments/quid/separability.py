"""What the results say about the paper's claims on distances and encodings, which need no training."""

from collections.abc import Sequence
from typing import Literal

from redqubit.experiments.quid import published
from redqubit.experiments.quid.config import QUIDStudy
from redqubit.experiments.quid.encoders import CONTROL, NO_H, USUAL
from redqubit.experiments.quid.table import Table, over_tasks
from redqubit.experiments.seeds import difference, points, sign
from redqubit.result import Finding

Status = Literal["holds", "fails", "unclear", "info"]
LESS: dict[int, Status] = {-1: "holds", 0: "unclear", 1: "fails"}  # of a claim that something is less
MORE: dict[int, Status] = {1: "holds", 0: "unclear", -1: "fails"}


def agreed(signs: Sequence[int], verdicts: dict[int, Status]) -> Status:
    """Return the verdict on which all agree, or unclear."""
    return verdicts[signs[0]] if len(set(signs)) == 1 else "unclear"


def distances(config: QUIDStudy, table: Table) -> list[Finding]:
    def over(distance: str, noise: str, encoder: str = USUAL) -> dict[int, float]:
        found = [table.agreement(task=t.name, distance=distance, noise=noise, encoder=encoder) for t in config.tasks]
        return over_tasks(found)

    if not over("frobenius", config.noise):
        return []
    best = {m: difference(over("frobenius", config.noise), over(m, config.noise)) for m in ("hilbert-schmidt", "trace")}
    latents = difference(over("frobenius", ""), over(CONTROL, "", "none"))
    seconds = {
        m: sum(
            r.value
            for r in table.results
            if r.metric == "agreement_seconds" and r.config.get("distance") == m and r.config["noise"]
        )
        for m in published.SECONDS
    }
    without = difference(over("frobenius", "", NO_H), over("frobenius", ""))
    return [
        Finding(
            "The Frobenius distance suggests labels best.",
            agreed([sign(d) for d in best.values()], MORE),
            "Frobenius minus others, with noise, mean over "
            + f"{', '.join(t.name for t in config.tasks)}: "
            + "; ".join(f"{m} {points(d)}" for m, d in best.items())
            + ". Time in this run, Frobenius 1: "
            + ", ".join(f"{m} {seconds[m] / seconds['frobenius']:.1f}" for m in ("hilbert-schmidt", "trace")),
            "1.1 to 7.3 points over Hilbert-Schmidt, −0.3 to +1.0 over trace; times 3.4 and 4.5",
        ),
        Finding(
            "Encoded states suggest labels better than the latents that are encoded.",
            MORE[sign(latents)],
            f"Frobenius without noise minus Euclidean distance of latents: {points(latents)}. RZ and RX without H, "
            f"where half of the latents have no effect, minus with H: {points(without)}",
            "not tried",
        ),
    ]


def encodings(config: QUIDStudy, table: Table) -> list[Finding]:
    def at(p: float, encoder: str) -> dict[int, float]:
        return over_tasks([table.agreement(p=p, encoder=encoder)])

    out = []
    for name in ("amplitude, one gate", "amplitude, decomposed"):
        found = {p: difference(at(p, name), at(p, "angle")) for p in config.strengths}
        if any(d is None for d in found.values()):
            return []
        plain = [sign(d) for p, d in found.items() if p == 0]
        noisy = [sign(d) for p, d in found.items() if p > 0]
        holds = bool(plain) and plain[0] < 0 and all(s > 0 for s in noisy)
        fails = bool(plain and plain[0] > 0) or any(s < 0 for s in noisy)
        out.append(
            Finding(
                "Amplitude encoding suggests labels worse than angle encoding without noise and better with it "
                f"({name}).",
                "holds" if holds else "fails" if fails else "unclear",
                "amplitude minus angle: " + "; ".join(f"p = {p:g} {points(d)}" for p, d in found.items()),
                "holds",
            )
        )
    return out
