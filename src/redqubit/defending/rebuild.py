"""The models of a run and their data, made again from what the run wrote down."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from redqubit.auditing.subjects import Subject, find_data
from redqubit.data import NAMES, SPLITS, Dataset, as_rgb, first_stratified, load
from redqubit.data.layouts import Split
from redqubit.errors import UsageError
from redqubit.models import on_backbone
from redqubit.victims import Victim, load_victim

_MOST = {"n_qubits": 16, "depth": 1000}  # that a description may ask for


def beyond(victim: Victim) -> set[str]:
    """Return what a model's description names that is not RedQubit's own: code that would be run, files to be read.

    Example:
        >>> sorted(beyond(Victim("v", "f", 0, {"source": "mine:net"}, {"name": "mine.npz"}, 10)))
        ['mine.npz', 'mine:net']
    """
    source, data, picture = victim.model.get("source"), victim.data.get("name"), victim.settings.get("picture")
    named = {str(source)} if ":" in str(source) else set[str]()
    return named | ({str(data)} - {"None", *NAMES}) | ({str(picture)} - {"None", ""})


def check_trust(victims: Sequence[Victim], trusted: Sequence[str]) -> None:
    """Refuse models of a run that name code or files which the user has not named too.

    A run folder may come from anybody; what it says must not choose what runs or is read here.

    Raises:
        UsageError: when there is such a name.
    """
    strange = sorted({name for victim in victims for name in beyond(victim)} - set(trusted))
    if strange:
        words = " ".join(f"--trust {shlex.quote(name)}" for name in strange)
        raise UsageError(
            f"Argument `trust` must hold what the models name beyond RedQubit, but lacks {', '.join(strange)}: if you "
            f"know what that is, and would run or read it, add {words}"
        )


def model_of(victim: Victim, artifacts: Path, input_shape: Sequence[int]) -> nn.Module:
    """Return the trained model of a victim, in evaluation mode; a function that it names is run, see `check_trust`.

    Args:
        victim: What to make.
        artifacts: Folder of the run that trained it.
        input_shape: Shape of one sample, for a model that is made by its name.

    Raises:
        UsageError: when its description names no model that can be made, or its weights are not there or do not fit.
    """
    made = victim.model
    generator = torch.Generator().manual_seed(victim.seed)  # of weights that are then replaced
    if "source" in made:
        subject = Subject(
            victim.name,
            str(made["source"]),
            tuple(input_shape),
            victim.n_classes,
            noise=str(made.get("noise") or "") or None,
        )
        return load_victim(victim, subject.make(victim.seed), artifacts)
    if not {"backbone", "head"} <= made.keys():
        raise UsageError(
            f"Model `{victim.name}` must say what it is made by, `backbone` and `head` or `source`, but says "
            f"{', '.join(made) or 'nothing'}: run it again."
        )
    sizes = {key: _whole(victim, made, key, most) for key, most in _MOST.items() if key in made}
    model = on_backbone(str(made["backbone"]), str(made["head"]), victim.n_classes, **sizes, generator=generator)
    loaded = load_victim(victim, model, artifacts)
    # convolutions on a CPU are two to three times as fast with the channels last
    quick: nn.Module = loaded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return quick


def data_of(victim: Victim, data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Return the clean training and test samples of a victim, as it saw them.

    Raises:
        UsageError: when they cannot be found.
    """
    train_set, test_set = (_part(victim, data_dir, split) for split in SPLITS)
    return train_set, test_set


def held_out(victim: Victim, data_dir: Path | None = None) -> Dataset:
    """Return the clean test samples alone, which need less memory."""
    return _part(victim, data_dir, "test")


def _part(victim: Victim, data_dir: Path | None, split: Split) -> Dataset:
    told = victim.data
    if "name" not in told:
        raise UsageError(f"Model `{victim.name}` must name its data set, but does not: run it again.")
    n, side = (_whole(victim, told, key, most) for key, most in ((f"n_{split}", 1 << 40), ("side", 1024)))
    return read_part(str(told["name"]), data_dir, split, n, side)


def _whole(victim: Victim, told: Mapping[str, Any], key: str, most: int) -> Any:
    """Return a whole number that a description gives, or None where it gives none."""
    value = told.get(key)
    if value is not None and not (type(value) is int and 1 <= value <= most):
        raise UsageError(
            f"Model `{victim.name}` must have a `{key}` of 1 to {most:,}, but has {value!r:.60}: run it again."
        )
    return value


@lru_cache(maxsize=2)
def read_part(name: str, data_dir: Path | None, split: Split, n: int | None, side: int | None) -> Dataset:
    """Return one split of a data set, cut to the first n of each class and resized; kept for the next model."""
    if name in NAMES:
        part = load(name, split=split, data_dir=data_dir)
    else:
        part = find_data(name, data_dir=data_dir, n_train=None, n_test=None)[SPLITS.index(split)]
    if n is not None and n < len(part):
        part = first_stratified(part, n)
    return part if side is None else as_rgb(part, side)


def shared_out(test: Dataset, n_defender: int) -> tuple[Dataset, Dataset]:
    """Return the samples that the defender holds, the first of each class, and the others.

    Raises:
        UsageError: when no others are left.

    Example:
        >>> held, others = shared_out(load("iris", split="test"), 9)
        >>> len(held), len(others), held.y.bincount().tolist()
        (9, 21, [3, 3, 3])
    """
    n = len(test)
    if n_defender >= n:
        raise UsageError(
            f"Argument `n_defender` must leave samples to judge the defense on, but is {n_defender} of {n} test "
            f"samples of {test.name or 'the data'}: lower it."
        )
    # each sample's place stands in for the sample, so that the places of the first are known
    places = replace(test, x=torch.arange(n, dtype=torch.float64)[:, None] / n)
    held = (first_stratified(places, n_defender).x[:, 0] * n).round().long()
    others = torch.ones(n, dtype=torch.bool)
    others[held] = False
    return test.subset(held), test.subset(others)


def trigger_label(victim: Victim) -> str:
    """Return the trigger of a victim in words: its first field, and the others that are not the usual; "clean".

    Example:
        >>> trigger_label(Victim("v", "f", 0, {}, {}, 10, "patch", {"side": 6, "margin": 1}, poison_rate=0.1))
        'patch side=6 margin=1'
    """
    if victim.backdoor is None:
        return "clean"
    trigger = victim.backdoor.trigger
    has, usual = asdict(trigger), asdict(type(trigger)())
    first = next(f.name for f in fields(trigger) if not f.kw_only)
    shown = [key for key, value in has.items() if key == first or _text(value) != _text(usual[key])]
    return " ".join([victim.trigger, *(f"{key}={_text(has[key])}" for key in shown)])


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return "/".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else Path(value).name if isinstance(value, str) else str(value)
