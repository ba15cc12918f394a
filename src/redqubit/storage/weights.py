"""Weights of models in safetensors files, with a checksum of their contents."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from redqubit.storage.files import damaged, replacing

_KEY = "sha256"

M = TypeVar("M", bound=nn.Module)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the weights of a model, whole or not at all.

    Raises:
        UsageError: If the file cannot be written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with replacing(path) as file:
        file.write(save(state, {_KEY: _digest(state)}))


def load_weights(model: M, path: Path, *, cell: str = "") -> M:
    """Load the weights that `save_weights` wrote into a model that was made alike, and return it.

    Args:
        model: The model, changed in place.
        path: The file.
        cell: Name of the cell that wrote it, for the error.

    Raises:
        UsageError: If the file is absent or damaged, or does not fit.

    Example:
        >>> tmp.mkdir(exist_ok=True)
        >>> save_weights(nn.Linear(2, 3), tmp / "linear.safetensors")
        >>> load_weights(nn.Linear(2, 3), tmp / "linear.safetensors").out_features
        3
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if (file.metadata() or {}).get(_KEY) != _digest(state):
                raise ValueError("its checksum is wrong or missing")
        model.load_state_dict(state)
    except FileNotFoundError:
        raise damaged(path, "it is not there", cell=cell) from None
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise damaged(path, error, cell=cell) from None
    return model


def _digest(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
