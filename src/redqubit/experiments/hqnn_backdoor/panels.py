"""What the report of the backdoor experiment shows."""

from collections.abc import Callable, Sequence

from redqubit.defending import panels as defense_panels
from redqubit.experiments.hqnn_backdoor import figures, gradients, tables
from redqubit.experiments.hqnn_backdoor.config import HQNNBackdoor
from redqubit.experiments.hqnn_backdoor.table import Table
from redqubit.result import Panel, Result


def panels(config: HQNNBackdoor, table: Table, results: Sequence[Result]) -> list[Panel]:
    """Return what there is to show of the parts that were made."""
    made: list[Callable[[HQNNBackdoor, Table], list[Panel]]] = [
        tables.table1,
        gradients.gradients,
        tables.table4,
        tables.table5,
        figures.search,
        tables.table6,
        tables.table7,
        tables.table8,
        figures.sweeps,
        figures.cams,
    ]
    out = [panel for make in made for panel in make(config, table)]
    return [*out, *defense_panels(results)]
