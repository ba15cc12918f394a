"""The published numbers, and what the paper leaves in doubt."""

CLEAN = {"LeNet-MNIST": 0.982, "AlexNet-CIFAR-10": 0.737, "VGG16-CIFAR-100": 0.643}  # accuracy
# (case, attack): relative improvement of the accuracy under attack, of Table I
TABLE1 = {
    ("LeNet-MNIST", "fgsm"): 2.3517,
    ("AlexNet-CIFAR-10", "fgsm"): 0.3461,
    ("VGG16-CIFAR-100", "fgsm"): 0.5807,
    ("LeNet-MNIST", "pgd"): 2.6828,
    ("AlexNet-CIFAR-10", "pgd"): 0.4216,
    ("VGG16-CIFAR-100", "pgd"): 0.5925,
}
# the same from the device's noise alone, "up to"
INTRINSIC = {
    ("LeNet-MNIST", "fgsm"): 1.44,
    ("LeNet-MNIST", "pgd"): 1.83,
    ("AlexNet-CIFAR-10", "fgsm"): 0.26,
    ("AlexNet-CIFAR-10", "pgd"): 0.28,
    ("VGG16-CIFAR-100", "fgsm"): 0.43,
    ("VGG16-CIFAR-100", "pgd"): 0.44,
}

DOUBTS = (
    "Only relative improvements are tabulated: they grow without bound as the attacked accuracy goes to 0, and hide "
    "what the defense costs on clean pictures. The text announces columns with the accuracy before and after, which "
    "are not there.",
    "If the defended network is no better than the clean one, Table I leaves the attacked one at most 29.3 % (LeNet, "
    "FGSM), 26.7 % (LeNet, PGD), 54.8, 51.8 (AlexNet), 40.7 and 40.4 % (VGG16).",
    "The text gives 285 % for PGD on LeNet, Table I and the abstract 268 %.",
    "PGD is hardly stronger than FGSM on the undefended LeNet at 0.3, where 40 steps usually leave nothing.",
    "Attacks appear to be made on the network without noise; none knows the defense.",
    "A phase gate is virtual and free of error on the named device: weights have no gate noise of their own. A pair of "
    "CX is the identity: without coupling to the qubits that multiply it changes nothing.",
    "The radius of 6 for the CIFAR sets has no unit; taken as 6/255.",
)
