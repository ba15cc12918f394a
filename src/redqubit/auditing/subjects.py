"""What an audit is given: a model by name, by import path or as a module, and data by name or path."""

import copy
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from redqubit.data import Dataset, check_trainable, first_stratified, load_splits
from redqubit.errors import UsageError
from redqubit.evasion import check_model
from redqubit.models import MODELS, noisy
from redqubit.quantum.noise import named

TWINS = {  # the classical model that stands beside each of ours
    "qunn": "cnn_frozen",
    "qunn_trainable": "cnn",
    "hybrid": "hybrid_twin",
    "hqresnet18": "hqresnet18_twin",
    "hqresnet50": "hqresnet50_twin",
}


@dataclass(frozen=True)
class Subject:
    """A model under audit, as what can be sent to another process.

    Attributes:
        name: What reports call it.
        source: A registered name, "package.module:function" whose function returns an `nn.Module`, called with
            (input_shape, n_classes, generator=...) as far as it takes these; or a module, of which a copy is audited.
        input_shape: Shape of one sample.
        n_classes: Number of classes.
        weights: A safetensors file to load into the model, which then is not trained.
        noise: What its circuits suffer, as `redqubit.quantum.noise.named` reads it.
    """

    name: str
    source: str | nn.Module
    input_shape: tuple[int, ...]
    n_classes: int
    weights: Path | None = None
    noise: str | None = None

    @property
    def trained(self) -> bool:
        """Whether it comes with its weights."""
        return self.weights is not None or isinstance(self.source, nn.Module)

    @property
    def code(self) -> str:
        """Which function makes it, with a hash of its module's file and of the file that defines it; "" if it is ours.

        What these files import is not part of it.
        """
        if isinstance(self.source, nn.Module) or ":" not in self.source:
            return ""
        modules = self.source.partition(":")[0], getattr(imported(self.source), "__module__", "")
        files = [getattr(sys.modules.get(name), "__file__", None) for name in modules]
        digest = hashlib.sha256(b"\0".join(Path(file).read_bytes() for file in files if file))
        return f"{self.source} {digest.hexdigest()[:16]}"

    def make(self, seed: int) -> nn.Module:
        """Build the model for a seed, untrained unless `trained`."""
        made = self._without_noise(seed)
        return made if self.noise is None else noisy(made, named(self.noise))

    def _without_noise(self, seed: int) -> nn.Module:
        if isinstance(self.source, nn.Module):
            return copy.deepcopy(self.source)
        build: Callable[..., object] = imported(self.source) if ":" in self.source else MODELS[self.source]
        generator = torch.Generator().manual_seed(seed)
        given = {"input_shape": self.input_shape, "n_classes": self.n_classes, "generator": generator}
        accepted = inspect.signature(build).parameters
        try:
            made = build(**{k: v for k, v in given.items() if k in accepted})
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"Argument `model` must make an nn.Module, but {self.source} raised {_told(error)}"
            ) from error
        if not isinstance(made, nn.Module):
            raise UsageError(
                f"Argument `model` must make an nn.Module, but {self.source} returned {type(made).__name__}."
            )
        if self.weights is not None:
            load_weights(made, self.weights)
        return made


def find_model(
    model: str | nn.Module,
    input_shape: Sequence[int],
    n_classes: int,
    *,
    weights: Path | None = None,
    noise: str | None = None,
) -> Subject:
    """Return the model that a name, an import path or a module stands for.

    Raises:
        UsageError: for an unknown name, an import that fails, a function that returns no module, weights that do not
            fit, or weights beside a module.
    """
    if weights is not None and isinstance(model, nn.Module):
        raise UsageError("Argument `weights` must be absent for a module, which has its own: load them into it first.")
    name = type(model).__name__ if isinstance(model, nn.Module) else model.rpartition(":")[2]
    name += "" if noise is None else f"+{noise.replace(':', '-')}"  # part of file names
    subject = Subject(name, model, tuple(input_shape), n_classes, weights, noise)
    subject.make(0)  # what is wrong with it is told before any work
    return subject


def imported(path: str, argument: str = "model") -> Callable[..., object]:
    """Return the function that "package.module:function" names, found as `python -m` would.

    Args:
        path: Where it is.
        argument: What an error calls it.

    Raises:
        UsageError: when the import fails, whatever the reason, or the name is no function.
    """
    module_name, _, attribute = path.partition(":")
    if module_name.endswith(".py"):
        dotted = ".".join(Path(module_name).with_suffix("").parts)
        raise UsageError(
            f"Argument `{argument}` must be package.module:function, but {path} names a file: write "
            f"{dotted}:{attribute} in the folder from which {dotted} can be imported."
        )
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # whatever the code of the module raises
        raise UsageError(
            f"Argument `{argument}` must be package.module:function, but {path} gives {_told(error)}"
        ) from error
    finally:
        sys.path.pop(0)
    if not callable(found):
        raise UsageError(f"Argument `{argument}` must name a function that makes it, but {path} is no function.")
    made: Callable[..., object] = found
    return made


def _told(error: Exception) -> str:
    """Return an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def check_subject(subject: Subject, x: Tensor) -> None:
    """Raise a `UsageError` when a model does not map these few inputs to one logit per class, with gradients."""
    model = subject.make(0).to(x.device).eval()
    try:
        check_model(model, x, subject.n_classes)
        with torch.no_grad():
            logits = model(x)
    except UsageError:
        raise
    except Exception as error:
        shape, why = subject.input_shape, _told(error)
        raise UsageError(
            f"Argument `model` must take inputs of shape {shape}, but {subject.name} raised {why}"
        ) from error
    if logits.shape[1] != subject.n_classes:
        raise UsageError(
            f"Argument `model` must return a logit per class, but {subject.name} has {logits.shape[1]} and the data "
            f"{subject.n_classes}: leave out the others, or use data with all classes."
        )


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """Return a short hash of the contents of tensors, by which a run knows its own data and weights again."""
    digest = hashlib.sha256()
    for t in tensors:
        digest.update(f"{t.dtype} {tuple(t.shape)}".encode())
        digest.update(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a safetensors state dict into a model.

    Raises:
        UsageError: when the file is absent, broken, or does not fit the model.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe would not end
            raise OSError("it is no file")
        model.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise UsageError(f"Argument `weights` must be a safetensors file, but {path} is not there.") from None
    except (SafetensorError, OSError) as error:
        raise UsageError(f"Argument `weights` must be a safetensors file, but {path} is none: {error}.") from None
    except RuntimeError as error:
        why = " ".join(str(error).split())
        raise UsageError(f"Argument `weights` must fit the model, but {path} does not: {why}") from None


def find_data(
    data: str | tuple[Dataset, Dataset], *, data_dir: Path | None, n_train: int | None, n_test: int | None
) -> tuple[Dataset, Dataset]:
    """Return the training and test samples that a name or path stands for, cut to the first n of each class.

    A path is an npz file with x_train, y_train, x_test, y_test (or x, y, of which a fifth is kept for testing), or a
    folder of pictures with train and test.

    Raises:
        UsageError: when the data cannot be found or trained on, or its two parts do not belong together.
    """
    if isinstance(data, tuple):
        if [type(part) for part in data] != [Dataset, Dataset]:
            raise UsageError(
                "Argument `data` must be a name, a path, or a Dataset for training and one for testing, but has "
                f"{' and '.join(type(part).__name__ for part in data)}: make each by redqubit.Dataset(x, y, n_classes)."
            )
        train_set, test_set = data
    else:
        train_set, test_set = load_splits(data, data_dir=data_dir)
    if n_train is not None and n_train < len(train_set):
        train_set = first_stratified(train_set, n_train)
    if n_test is not None and n_test < len(test_set):
        test_set = first_stratified(test_set, n_test)
    check_trainable(train_set)
    shapes = tuple(train_set.x.shape[1:]), tuple(test_set.x.shape[1:])
    if shapes[0] != shapes[1]:
        raise UsageError(
            f"Argument `data` must have samples of one shape, but those for training are {shapes[0]} and those for "
            f"testing {shapes[1]}: prepare both alike."
        )
    if train_set.n_classes != test_set.n_classes:
        raise UsageError(
            f"Argument `data` must have the same classes in both parts, but has {train_set.n_classes} for training and "
            f"{test_set.n_classes} for testing: set `n_classes` alike."
        )
    return train_set, test_set
