"""How a model is shown in a table, beside the published one."""

from redqubit.experiments.hqnn_backdoor.config import HYBRID, TWIN, HQNNBackdoor
from redqubit.experiments.hqnn_backdoor.plan import CLEAN, Spec
from redqubit.experiments.hqnn_backdoor.published import SUCCESS, Cell
from redqubit.experiments.hqnn_backdoor.table import Table
from redqubit.experiments.seeds import Mean, seeds

NAMES = {
    HYBRID: "hybrid",
    TWIN: "classical twin",
    "tanh": "tanh bottleneck",
    "sine": "sine bottleneck",
    "prodsin": "product of sines",
    "twin_linear": "linear twin",
}
NBSP = "\u00a0"  # keeps an interval on one line
CHANCE = 0.1  # of the ten classes that all of the paper's data sets have
N_TEST = {"imagenette": 3925, "cifar10": 10_000, "mnist": 10_000}
REPORTED = {"squeezenet1_0": "resnet18", "cnn3": "resnet18"}  # the published backbone that a small one stands beside
OURS = ["trigger", "poisoned", "network", "BA", "ASR", "floors", "train ASR"]
THEIRS = ["published BA / ASR", "status"]


def is_full(config: HQNNBackdoor, table: Table, data: str) -> bool:
    """Return whether networks, their start, and the size and number of pictures are the paper's."""
    part = next(part for part in config.sets if part.name == data)
    start = config.pretrained and part.pretrained and set(part.backbones) <= {"resnet18", "resnet50"}
    clean = table.specs(data=data, trigger=CLEAN)
    n_test = table.trials("clean_accuracy", clean[0]) if clean else 0
    return start and part.side == 224 and not part.n_train and n_test == N_TEST.get(data)


def is_comparable(config: HQNNBackdoor, data: str) -> bool:
    """Return whether the paper has numbers of this setting: its data set, rate, qubits and layers."""
    return data in N_TEST and (config.poison_rate, config.n_qubits, config.depth) == (0.1, 10, 6)


def status(ours: Mean, theirs: float, accuracy: float, *, full: bool) -> str:
    """Return how an attack success rate compares with the published one, all as shares.

    The trend is shown where both are on the same side of the rate from which a backdoor counts as working. At full size
    a published rate inside our interval is then reproduced; what is smaller can show no more than the trend.
    """
    if not accuracy >= 3 * CHANCE:
        return "not comparable"
    limit = SUCCESS / 100
    if (ours.value >= limit) != (theirs >= limit):
        return "not reproduced"
    return "reproduced" if full and ours.low <= theirs <= ours.high else "trend only"


def trigger_words(text: str) -> str:
    r"""Return a trigger as tables name it.

    Example:
        >>> trigger_words("patch:3"), trigger_words("blend:0.2"), trigger_words("wanet:2")
        ('patch 3\xa0×\xa03', 'blend 0.2', 'WaNet, 2 cover samples')
    """
    name, _, rest = text.partition(":")
    if name == "patch":
        return f"patch {rest}\u00a0×\u00a0{rest}"
    if name == "wanet":
        return f"WaNet, {rest} cover samples" if rest else "WaNet"
    if name in ("color", "qcolor"):
        return {"color": "Color", "qcolor": "Qcolor"}[name] + (f" {rest.replace(',', ', ')}" if rest else "")
    return f"{name} {rest}".strip()


def row(config: HQNNBackdoor, table: Table, spec: Spec, theirs: Cell | None) -> list[object]:
    """Return one model beside its published twin."""
    ours = {m: table.mean(m, spec) for m in ("backdoor_accuracy", "attack_success_rate", "train_attack_success_rate")}
    floors = [table.mean(m, spec) for m in ("clean_model_floor", "untriggered_floor")]
    n = table.mean("n_poisoned", spec).value
    beside: list[object] = ["–", "–"]
    if theirs is not None:
        rate, correct = ours["attack_success_rate"], ours["backdoor_accuracy"].value
        says = status(rate, theirs.success / 100, correct, full=is_full(config, table, spec.data))
        beside = [f"{theirs.accuracy:.2f} / {theirs.success:.2f}{'†' if theirs.note else ''}".replace(" ", NBSP), says]
    name = NAMES.get(spec.head, spec.head)
    if ours["attack_success_rate"].seeds != len(config.seeds):
        name += f", {seeds(ours['attack_success_rate'].seeds)}"
    return [
        trigger_words(spec.trigger),
        f"{n:.0f} ({100 * spec.rate:g} %)".replace(" ", NBSP),
        name + (f", {spec.backbone}" if len(config.sets[0].backbones) > 1 else ""),
        ours["backdoor_accuracy"].percent(),
        ours["attack_success_rate"].percent(),
        " / ".join(f"{100 * floor.value:.1f}" for floor in floors).replace(" ", NBSP),
        f"{100 * ours['train_attack_success_rate'].value:.1f}",
        *beside,
    ]


def scale(config: HQNNBackdoor, table: Table, data: str) -> str:
    """Say at which size a set was run."""
    part = next(part for part in config.sets if part.name == data)
    start = "ImageNet weights" if config.pretrained and part.pretrained else "random weights"
    size = "full size" if is_full(config, table, data) else "reduced"
    clean = table.specs(data=data, trigger=CLEAN)
    n = f", n = {table.trials('clean_accuracy', clean[0]):,} test pictures" if clean else ""
    return (
        f"Ours ({size}): {' and '.join(part.backbones)} from {start}, {part.name} at {part.side} × {part.side} pixels"
        f"{n}, {seeds(len(config.seeds))}; percent, 95 % interval over seeds."
    )


PUBLISHED_AS = (
    "Published: ResNets at 224 × 224 pixels, single runs. † the paper contradicts this number, see the verdict. "
    "Floors: how often the target class is predicted for pictures of other classes, with the trigger by the clean "
    "model / without it by this one. Train ASR: on the poisoned training pictures."
)


def models(config: HQNNBackdoor, table: Table, **where: object) -> list[Spec]:
    return table.specs(data=config.sets[0].name, **where)


def beside(config: HQNNBackdoor, known: dict[tuple[str, str, str], Cell], spec: Spec) -> Cell | None:
    """Return the published cell of Table 1 for a model, if there is one."""
    if spec.data != "imagenette" or not is_comparable(config, spec.data):
        return None
    return known.get((spec.head, REPORTED.get(spec.backbone, spec.backbone), spec.trigger))
