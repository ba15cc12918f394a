"""The configuration of the backdoor experiment."""

from dataclasses import dataclass

SOURCE = "Guo et al., Backdoor attacks against hybrid classical-quantum neural networks, Neural Networks 191 (2025)"
HYBRID, TWIN = "hybrid", "twin"  # the paper's two networks
PARTS = (*(f"table{n}" for n in range(1, 9)), *(f"figure{n}" for n in (5, 6, 7, 9, 10, 11, 12)))


@dataclass(frozen=True)
class Pictures:
    """A data set, the networks for it, and how they are trained."""

    name: str
    side: int  # pixels along each side
    backbones: tuple[str, ...]
    n_train: int = 0  # first samples of each class in proportion; 0 takes all
    n_test: int = 0
    pretrained: bool = True  # ImageNet weights, fixed standardisation of features, warm start of the head
    first_stage: str = ""  # of the backbone that is trained; those before are frozen and their maps kept
    augment: bool = False  # random shifts and mirror images; needs a backbone that is trained as a whole
    epochs: int = 6
    batch_size: int = 32
    lr: float = 2e-4  # of the backbone
    head_lr: float = 1e-3
    warm_epochs: int = 8  # of the head alone, on features of the pretrained backbone
    warm_lr: float = 5e-3


@dataclass(frozen=True)
class HQNNBackdoor:
    """The configuration. Triggers are written as `redqubit.experiments.hqnn_backdoor.plan.trigger_named` reads them."""

    sets: tuple[Pictures, ...]  # the first is that of all tables and figures; the others belong to Tables 4 and 5
    pretrained: bool = True  # False trains every network from random weights, for want of published ones
    n_qubits: int = 10
    depth: int = 6
    target_class: int = 0
    poison_rate: float = 0.1
    seeds: tuple[int, ...] = (0, 1, 2)
    sweep_seeds: tuple[int, ...] = (0,)  # of Figures 6 and 7
    table1: tuple[str, ...] = (
        *(f"patch:{side}" for side in (1, 2, 3, 4)),
        *(f"blend:{alpha}" for alpha in (0.05, 0.1, 0.15, 0.2)),
    )
    larger: tuple[str, ...] = ()  # triggers beside those of Table 1, for pictures that are smaller than the paper's
    control: str = "patch:11"  # the positive control, which any network must learn
    margin: int = 0  # of patches, in pixels
    heads: tuple[str, ...] = ("tanh", "sine", "prodsin")  # further twins
    probes: tuple[str, ...] = ("patch:8", "blend:0.1")  # their triggers
    table6: tuple[str, ...] = ("blend:0.15", "patch:3", "wanet", "color", "qcolor")
    rates: tuple[float, ...] = (0.1, 0.04, 0.03, 0.02, 0.01)
    depths: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    single: tuple[float, ...] = (-0.2, -0.15, -0.1, -0.05, -0.02, 0.02, 0.05, 0.1, 0.15, 0.2)  # r - 1 of one channel
    double: tuple[float, ...] = (-0.1, -0.05, 0.05, 0.1)  # r - 1 of two channels each
    # search of the colour triggers
    population: int = 20
    generations: int = 15
    swarm_generations: int = 15  # of the search for Color
    search_train: int = 1000  # clean pictures that the attacker holds
    search_held: int = 128  # those on which the loss is taken
    search_stage: str = "layer4"  # first stage of the surrogate that is trained
    search_warm_steps: int = 450  # on clean pictures, once
    search_steps: int = 40  # on poisoned ones, for each candidate and seed
    search_seeds: tuple[int, ...] = (0, 1, 2)  # of the surrogate, for each candidate
    # defenses
    n_defender: int = 200
    n_inputs: int = 150
    strip_overlays: int = 100
    cleanse_steps: int = 100
    cleanse_images_per_step: int = 512
    cleanse_restarts: int = 3
    pruning_rates: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


PRESETS = {
    "smoke": HQNNBackdoor(
        sets=(
            Pictures(
                "digits", 16, ("cnn3",), 500, 300, pretrained=False, epochs=8, batch_size=32, lr=5e-3, head_lr=1e-2
            ),
        ),
        n_qubits=4,
        depth=2,
        seeds=(0, 1),
        table1=("patch:1", "blend:0.2"),
        control="patch:4",
        heads=("prodsin",),
        probes=("patch:2",),
        table6=("blend:0.15", "patch:3", "wanet", "color", "qcolor"),
        rates=(0.1, 0.02),
        depths=(1, 2),
        single=(0.2,),
        double=(0.1,),
        population=4,
        generations=2,
        swarm_generations=2,
        search_train=200,
        search_held=64,
        search_stage="blocks.2",
        search_warm_steps=40,
        search_steps=10,
        search_seeds=(0, 1),
        n_defender=100,
        n_inputs=50,
        strip_overlays=20,
        cleanse_steps=10,
        cleanse_images_per_step=32,
        cleanse_restarts=1,
        pruning_rates=(0.5, 0.9),
    ),
    "laptop": HQNNBackdoor(
        sets=(
            Pictures("imagenette", 64, ("squeezenet1_0",), 2000, 500, first_stage="features.7"),
            Pictures("cifar10", 64, ("squeezenet1_0",), 2000, 500, first_stage="features.7"),
            # from random weights, as ImageNet's for ResNets cannot be had everywhere
            Pictures("mnist", 32, ("resnet18",), 1500, 1000, pretrained=False, epochs=4, lr=1e-3),
        ),
        larger=("patch:6", "patch:8", "patch:11"),
        margin=1,
        rates=(0.1, 0.02),
        depths=(1, 6),
        single=(-0.2, 0.05, 0.2),
        double=(-0.1, 0.1),
        search_stage="features.12",
        swarm_generations=8,
        strip_overlays=20,
        cleanse_steps=32,
        cleanse_images_per_step=32,
        cleanse_restarts=1,
        pruning_rates=(0.1, 0.3, 0.5, 0.7, 0.9),
    ),
    "paper": HQNNBackdoor(
        sets=(
            Pictures("imagenette", 224, ("resnet18", "resnet50"), epochs=10, batch_size=64, lr=1e-4, augment=True),
            Pictures("cifar10", 224, ("resnet18", "resnet50"), epochs=10, batch_size=64, lr=1e-4, augment=True),
            Pictures("mnist", 224, ("resnet18", "resnet50"), epochs=10, batch_size=64, lr=1e-4),
        ),
    ),
}
