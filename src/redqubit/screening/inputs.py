"""What a screening is given: labelled samples, an encoder, and the features of the one that enter the other."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from sklearn.decomposition import PCA
from torch import Tensor

from redqubit.auditing.subjects import imported
from redqubit.data import (
    NAMES,
    AngleScaling,
    Dataset,
    check_trainable,
    first_stratified,
    load,
    load_image_folder,
    load_npz,
)
from redqubit.errors import UsageError
from redqubit.quantum import Circuit, encodings, with_noise
from redqubit.quantum.noise import named
from redqubit.quantum.similarity import encoded
from redqubit.reading import npz_keys
from redqubit.registry import unknown
from redqubit.screening.config import NOISY, PURE, Screening

ENCODERS = ("angle", "amplitude")


@dataclass(frozen=True, eq=False)
class Encoded:
    """A set as an encoder reads it.

    Attributes:
        given: The samples that are screened.
        places: Where each of them lies in the data, (N,), from 0.
        dataset: The same samples as features in [0, 1], (N, d), d the inputs of the encoder.
        circuit: The encoder, with its noise.
        said: What was done to the samples, in words.
        kept: Share of the variance that is left.
    """

    given: Dataset
    places: Tensor
    dataset: Dataset
    circuit: Circuit
    said: str
    kept: float


def find_set(data: str | Dataset, data_dir: Path | None = None) -> Dataset:
    """Return the samples that a name, a path or a set stands for: of data in two parts, those for training.

    A path is an npz file with x and y, or with x_train and y_train, or a folder of pictures, one folder a class, which
    may lie below train/.

    Raises:
        UsageError: when the data cannot be found or read, or there are no two samples of every class.
    """
    if isinstance(data, Dataset):
        found = replace(data, x=data.x.detach().cpu(), y=data.y.cpu())
    elif data in NAMES or not Path(data).exists():
        found = load(data, data_dir=data_dir)
    elif (path := Path(data)).is_dir():
        found = load_image_folder(path, split="train" if (path / "train").is_dir() else None)
    else:
        found = load_npz(path, split=None if {"x", "y"} <= npz_keys(path) else "train")
    check_trainable(found)
    counts = torch.bincount(found.y, minlength=found.n_classes)
    if int(counts.min()) < 2:
        few = int(counts.argmin())
        has, remedy = ("one", "add another") if counts[few] else ("none", "number the classes without gaps")
        raise UsageError(
            f"Argument `data` must have two samples of every class, but has {has} of class {few}: {remedy}, as other "
            "samples with a label judge it."
        )
    return found


def encode(data: Dataset, encoder: str | Circuit, config: Screening) -> Encoded:
    """Return a set as an encoder reads it, reduced where it has more features than the encoder takes.

    Args:
        data: The samples.
        encoder: "angle", "amplitude", "package.module:function" whose function returns a `Circuit`, or a circuit. It
            reads features in [0, 1].
        config: Its options, its noise, and whether samples may be reduced.

    Raises:
        UsageError: for an unknown encoder or one that cannot encode, or samples that it does not take.
    """
    places = torch.arange(len(data))
    if config.n_samples is not None and config.n_samples < len(data):
        places = first_places(data, config.n_samples)
        data = data.subset(places)
    x = data.x.flatten(1)
    if isinstance(encoder, str) and ":" not in encoder:
        takes = x.shape[1] if config.reduce == "none" else min(x.shape[1], config.n_features)
        circuit = _named(encoder, takes, config)
    else:
        circuit = encoder if isinstance(encoder, Circuit) else _own(encoder)
        takes = circuit.n_inputs
    if config.noise is not None:
        circuit = with_noise(circuit, named(config.noise))
    _check(circuit)
    u, said, kept = _reduced(x, takes, config)
    if circuit.initial is not None and not bool(u.any(1).all()):
        dark = int(places[int((~u.any(1)).nonzero()[0])])
        raise UsageError(
            f"Argument `data` must hold no all-zero sample for an amplitude encoding, but sample {dark} is one: drop "
            "it, or use the encoder angle."
        )
    u = torch.nn.functional.pad(u, (0, circuit.n_inputs - takes))
    _try(circuit, u[:1])
    return Encoded(data, places, replace(data, x=u), circuit, said, kept)


def first_places(data: Dataset, n: int) -> Tensor:
    """Return where the first n samples of a set lie, each class in proportion, but two of each at least.

    Example:
        >>> first_places(Dataset(torch.zeros(6, 1), torch.tensor([0, 0, 0, 0, 1, 1]), 2), 3).tolist()
        [0, 1, 4, 5]
    """
    places = torch.arange(len(data), dtype=torch.float64) / len(data)  # each stands in for its sample
    first = first_stratified(replace(data, x=places[:, None], y=data.y.cpu()), n).x[:, 0]
    pairs = [(data.y.cpu() == c).nonzero()[:2, 0] for c in range(data.n_classes)]
    chosen: Tensor = torch.cat([(first * len(data)).round().long(), *pairs]).unique()
    return chosen


def _named(encoder: str, d: int, config: Screening) -> Circuit:
    """Return an encoder of ours for d features."""
    if encoder not in ENCODERS:
        raise unknown("encoder", encoder, ENCODERS)
    k, qubits = config.features_per_qubit, PURE if config.noise is None else NOISY
    most = 2**qubits if encoder == "amplitude" else k * qubits
    if d > most:
        room = f"{qubits} qubits" if encoder == "amplitude" else f"{qubits} qubits of {k} each"
        remedy = "set `reduce` to pca" if config.reduce == "none" else f"set `n_features` to {most} or less"
        raise UsageError(
            f"Argument `data` must have {most} features or less for the encoder {encoder}, {room}, but has {d}: "
            f"{remedy}."
        )
    if encoder == "amplitude":
        return encodings.amplitude(max(1, (d - 1).bit_length()), d)
    turns = (("RZ", "RX") * k)[:k]
    return encodings.angle(-(-d // k), turns, scale=config.scale, offset=config.offset, hadamard=config.prep == "h")


def _own(path: str) -> Circuit:
    """Return the circuit that a function of the user's makes."""
    try:
        made = imported(path, "encoder")()
    except UsageError:
        raise
    except Exception as error:  # whatever the code of the module raises
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UsageError(f"Argument `encoder` must make a Circuit, but {path} raised {why}") from error
    if not isinstance(made, Circuit):
        raise UsageError(
            f"Argument `encoder` must make a redqubit.quantum.Circuit, but {path} returned {type(made).__name__}."
        )
    return made


def _check(circuit: Circuit) -> None:
    """Refuse a circuit that encodes nothing, that is trained, or whose states are too large for a set of them."""
    if circuit.n_weights or not circuit.n_inputs:
        raise UsageError(
            f"Argument `encoder` must have inputs and no weights, but has {circuit.n_inputs} inputs and "
            f"{circuit.n_weights} weights: leave out what is trained."
        )
    most = NOISY if circuit.channels else PURE
    if circuit.n_qubits > most:
        noisy = " with noise" if circuit.channels else ""
        raise UsageError(f"Argument `encoder` must have {most} qubits or less{noisy}, but has {circuit.n_qubits}.")


def _try(circuit: Circuit, x: Tensor) -> None:
    """Refuse a circuit that does not run, whatever is wrong with it."""
    try:
        encoded(circuit, x.double())
    except UsageError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UsageError(f"Argument `encoder` must be a circuit that runs, but raised {why}") from error


def _reduced(x: Tensor, takes: int, config: Screening) -> tuple[Tensor, str, float]:
    """Return features (N, takes) in [0, 1], what was done to the samples (N, d), and the share of variance left."""
    n, has = x.shape
    if has == takes:
        return x, f"the {has} features as they are", 1.0
    if has < takes or config.reduce == "none":
        remedy = "set `reduce` to pca" if has > takes else "take a smaller encoder"
        raise UsageError(
            f"Argument `data` must have the {takes} features that the encoder takes, but has {has}: {remedy}."
        )
    if takes >= n:
        raise UsageError(
            f"Argument `n_features` must be below the number of samples, {n}, of which it takes principal components, "
            f"but is {takes}: lower it."
        )
    pca = PCA(takes, random_state=config.seed % 2**32)
    z = torch.from_numpy(pca.fit_transform(x.numpy()))
    kept = float(pca.explained_variance_ratio_.sum())
    said = (
        f"{has} features, reduced to {takes} principal components with {100 * kept:.0f} % of the variance, each "
        "scaled by its largest absolute value and moved to [0, 1]"
    )
    return AngleScaling.fit(z).unit(z), said, kept
