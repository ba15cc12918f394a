"""What a defense is worth over seeds."""

from redqubit.adaptive import decide
from redqubit.experiments.hcqnn.config import Task
from redqubit.experiments.hcqnn.networks import NONE
from redqubit.experiments.hcqnn.plan import GREY
from redqubit.experiments.hcqnn.table import Table, gain, mean_of
from redqubit.experiments.judged import Judged

FLOWERS = 3  # classes of Iris


def judged(table: Table, task: Task, defense: str, eps: float, network: str = "circuit") -> Judged | None:
    """Judge a defense of one task at one radius; None with fewer than two seeds."""
    clean = gain(table.accuracy(task.name, defense, network=network), table.accuracy(task.name, network=network))
    grey = gain(
        table.accuracy(task.name, defense, GREY, eps, network), table.accuracy(task.name, NONE, GREY, eps, network)
    )
    left = table.worst(task.name, defense, eps, network=network)
    adaptive = gain(left, table.worst(task.name, defense, eps, "without", network))
    if clean is None or grey is None or adaptive is None:
        return None
    above = mean_of(left).low > 1 / (len(task.classes) or FLOWERS)
    verdict = decide(clean=clean, unaware=[grey], adaptive=adaptive, above_chance=above)
    return Judged(clean, grey, adaptive, verdict)
