"""Models that a run leaves behind for defenses: their weights, and what they are."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from torch import nn

from redqubit.backdoors import TRIGGERS, Backdoor, Trigger
from redqubit.errors import UsageError
from redqubit.reading import MAX_CLASSES
from redqubit.storage.files import damaged, load_json, save_json, writing
from redqubit.storage.weights import load_weights, save_weights

FOLDER = "models"  # below the artifacts of a run


@dataclass(frozen=True)
class Victim:
    """A trained model of a run, clean or with a backdoor.

    Attributes:
        name: Of its two files, `<name>.safetensors` and `<name>.json`, unique within the run.
        family: What it shares with the models that were trained alike but for poison and seed, such as
            "imagenette, hybrid": the clean ones of a family show what a detector says where there is nothing.
        seed: Of the initial weights, the order of the samples and the choice of those that were poisoned.
        model: What it is made by: `backbone`, `head`, `n_qubits` and `depth` of `redqubit.models.on_backbone`; or
            `source`, a name or package.module:function, and `noise`, as an audit takes them.
        data: What it was trained on: `name`, and where they apply `side` in pixels, `n_train` and `n_test`.
        n_classes: Number of classes.
        trigger: Name of its trigger in `redqubit.backdoors.TRIGGERS`; empty for a clean model.
        settings: Fields of the trigger.
        target_class: The class that the trigger calls up; also that of the backdoors in a clean model's family.
        poison_rate: Share of the training set that was poisoned; 0 for a clean model.
    """

    name: str
    family: str
    seed: Annotated[int, Field(ge=0, lt=1 << 63)]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    n_classes: Annotated[int, Field(ge=2, le=MAX_CLASSES)]
    trigger: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    target_class: int = 0
    poison_rate: float = 0.0

    @cached_property
    def backdoor(self) -> Backdoor | None:
        """How it was poisoned; None for a clean model.

        Raises:
            UsageError: for a trigger that is unknown or does not take these settings.
        """
        return (
            Backdoor(trigger(self.trigger, self.settings), self.target_class, self.poison_rate)
            if (self.trigger)
            else None
        )


def trigger(name: str, settings: Mapping[str, Any]) -> Trigger:
    """Return the trigger of this name with these fields.

    Raises:
        UsageError: for an unknown name, or fields that it does not have.

    Example:
        >>> trigger("qcolor", {"r1": 1.1})
        Qcolor(r1=1.1, r2=1.0, r3=1.0)
    """
    kind = TRIGGERS[name]
    try:
        made = kind(**settings)
        TypeAdapter(kind).validate_python(dict(settings))
        if any(isinstance(value, int) and abs(value) >= 1 << 63 for value in settings.values()):
            raise TypeError("a number has more than 64 bits")
    except (TypeError, ValidationError) as error:
        why = " ".join(str(error).split())
        raise UsageError(f"Trigger `{name}` must be given fields that it has, but {why:.200}: see its docs.") from None
    return made


def save_victim(victim: Victim, model: nn.Module, artifacts: Path) -> None:
    """Write a model among the artifacts of a run; one of the same name is replaced.

    The description is written last, so that half a model is none.

    Raises:
        UsageError: when it cannot be written.
    """
    folder = artifacts / FOLDER
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, folder / f"{victim.name}.safetensors")
    save_json(folder / f"{victim.name}.json", TypeAdapter(dict).dump_python(asdict(victim), mode="json"))


def find_victims(artifacts: Path) -> list[Victim]:
    """Return the models that a run left behind, by name.

    Raises:
        UsageError: when a description is damaged.
    """
    return [_read(path) for path in sorted((artifacts / FOLDER).glob("*.json"))]


def load_victim(victim: Victim, model: nn.Module, artifacts: Path) -> nn.Module:
    """Load a victim's weights into a model that was made as it says, and return it in evaluation mode.

    Raises:
        UsageError: when the file is absent or broken, or does not fit.
    """
    return load_weights(model, artifacts / FOLDER / f"{victim.name}.safetensors").eval()


def _read(path: Path) -> Victim:
    try:
        victim: Victim = TypeAdapter(Victim).validate_python(load_json(path))
        if victim.name != path.stem:  # by which its weights are found, in this folder and no other
            raise ValueError(f"it is of another model, {victim.name!r:.60}")
        return victim
    except (ValueError, OSError) as error:
        raise damaged(path, error) from None
