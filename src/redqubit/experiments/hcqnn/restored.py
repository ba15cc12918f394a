"""What the autoencoder makes of changed samples: how near they come to the clean ones, and pictures of some."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from redqubit.defenses.denoising import Denoiser
from redqubit.experiments.hcqnn.config import Task
from redqubit.experiments.hcqnn.material import Samples
from redqubit.experiments.hcqnn.networks import NONE, Trained
from redqubit.experiments.hcqnn.plan import CLEAN
from redqubit.experiments.record import Record
from redqubit.metrics import cosine_similarity, squared_error
from redqubit.storage.arrays import save_arrays
from redqubit.training import logits

BEFORE, AFTER = "before", "after"  # the autoencoder
SHOWN = 8  # pictures of Figure 6
METRICS = ("mse", "cosine", "cosine_of_set")


def picture_file(task: Task) -> str:
    """Return the name of the file with the pictures of Figure 6."""
    return f"restored-{task.name.replace(', ', '-')}.npz"


@torch.no_grad()
def similarities(part: Samples, front: Denoiser, changed: Mapping[str, Tensor], seed: int, record: Record) -> None:
    """Keep how near test samples are to the clean ones, before and after the autoencoder.

    The cosine is the mean over samples, or that of the whole set as one vector.
    """
    clean = part.test_x
    for name, x in {CLEAN: clean, **changed}.items():
        for stage, found in ((BEFORE, x), (AFTER, front(x))):
            if name == CLEAN and stage == BEFORE:
                continue
            sets = clean.reshape(1, -1), found.reshape(1, -1)
            values = squared_error(clean, found), cosine_similarity(clean, found), cosine_similarity(*sets)
            for metric, value in zip(METRICS, values, strict=True):
                record.value(metric, float(value.mean()), seed, change=name, stage=stage)


@torch.no_grad()
def keep_pictures(
    part: Samples, found: Trained, changed: Mapping[str, Tensor], path: Path, seed: int, record: Record
) -> None:
    """Keep the first test pictures of each class before and after the autoencoder, with what the bare network says."""
    per_class = SHOWN // part.n_classes
    places = torch.cat([(part.test_y == c).nonzero()[:per_class, 0] for c in range(part.n_classes)])
    arrays: dict[str, Tensor] = {}
    said: dict[str, list[int]] = {}
    for name, x in {CLEAN: part.test_x, **changed}.items():
        for stage, shown in ((BEFORE, x[places]), (AFTER, found.front(x[places]))):
            key = f"{name}_{stage}".replace("-", "_")
            arrays[key] = shown
            said[key] = logits(found.models[NONE], part.unit(shown)).argmax(1).tolist()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_arrays(path, **{key: value.numpy() for key, value in arrays.items()})
    record.value("pictures_shown", len(places), seed, file=path.name, true=part.test_y[places].tolist(), said=said)
