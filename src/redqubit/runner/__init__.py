"""Run the cells of an experiment so that a kill loses at most the cells in flight.

A cell is a pure function of its config and seed. Whole cells are appended to `results.jsonl` as they
end, by one process alone, and a run that starts again skips them. They run in this process, in several
on this machine, or on a Ray cluster.
"""

from redqubit.runner.cells import Cell
from redqubit.runner.cluster import Cluster, connected, spread
from redqubit.runner.folder import RunFolder, open_run, stored
from redqubit.runner.running import Progress, run_cells

__all__ = ["Cell", "Cluster", "Progress", "RunFolder", "connected", "open_run", "run_cells", "spread", "stored"]
