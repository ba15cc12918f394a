"""Values of Sim et al. for four qubits, and those of an independent simulation.

The published columns are as a public test-suite (that of the package qml-essentials) transcribes them; they were not
compared with the paper itself, of which the abstract alone was at hand. The simulated columns come from a numpy
simulation written apart from this package: angles uniform in [0, 2 pi), 5000 pairs of states, 75 bins, mean and
standard deviation of 10 repeats.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """What is known of one circuit with one number of layers; expressibilities in nats."""

    expressibility: float
    entangling_capability: float
    simulated_expressibility: float
    simulated_spread: float  # standard deviation of one repeat
    simulated_entangling_capability: float


PUBLISHED = {  # by circuit and layers
    (1, 1): Published(0.2999, 0.0, 0.3006, 0.0158, 0.0),
    (2, 1): Published(0.286, 0.8104, 0.3017, 0.0126, 0.6215),
    (3, 1): Published(0.2396, 0.3412, 0.2595, 0.0147, 0.1719),
    (4, 1): Published(0.1343, 0.4721, 0.1364, 0.0056, 0.3118),
    (5, 1): Published(0.0602, 0.409, 0.0546, 0.0053, 0.2902),
    (6, 1): Published(0.0061, 0.7781, 0.004, 0.0006, 0.6856),
    (7, 1): Published(0.0977, 0.3241, 0.1102, 0.005, 0.212),
    (8, 1): Published(0.0858, 0.3926, 0.073, 0.0062, 0.2901),
    (9, 1): Published(0.6773, 1.0, 0.6776, 0.0196, 1.0),
    (10, 1): Published(0.2286, 0.5362, 0.2483, 0.0176, 0.3744),
    (11, 1): Published(0.1312, 0.7335, 0.1432, 0.0078, 0.5365),
    (12, 1): Published(0.1984, 0.6486, 0.1789, 0.01, 0.4002),
    (13, 1): Published(0.0516, 0.6077, 0.0634, 0.0061, 0.4065),
    (14, 1): Published(0.0144, 0.6604, 0.0143, 0.0017, 0.5447),
    (15, 1): Published(0.1892, 0.8184, 0.1781, 0.0147, 0.7114),
    (16, 1): Published(0.2602, 0.3439, 0.2625, 0.0135, 0.1714),
    (17, 1): Published(0.1359, 0.4533, 0.1371, 0.0071, 0.2953),
    (18, 1): Published(0.234, 0.4385, 0.2468, 0.0137, 0.2185),
    (19, 1): Published(0.0809, 0.5916, 0.0727, 0.0061, 0.3858),
    (1, 3): Published(0.2079, 0.0, 0.1996, 0.0048, 0.0),
    (2, 3): Published(0.0084, 0.8657, 0.0049, 0.0012, 0.7872),
    (3, 3): Published(0.0403, 0.5852, 0.0387, 0.0015, 0.4432),
    (4, 3): Published(0.0107, 0.6607, 0.0147, 0.0019, 0.5607),
    (5, 3): Published(0.003, 0.7953, 0.0041, 0.0009, 0.71),
    (6, 3): Published(0.0039, 0.8721, 0.0038, 0.0007, 0.821),
    (7, 3): Published(0.0162, 0.6194, 0.0199, 0.0035, 0.5093),
    (8, 3): Published(0.0122, 0.6567, 0.0116, 0.0027, 0.5642),
    (9, 3): Published(0.0322, 1.0, 0.0296, 0.0039, 1.0),
    (10, 3): Published(0.1297, 0.7865, 0.1403, 0.0072, 0.6559),
    (11, 3): Published(0.0038, 0.8288, 0.0047, 0.0009, 0.7445),
    (12, 3): Published(0.0089, 0.7838, 0.0089, 0.0019, 0.6665),
    (13, 3): Published(0.0049, 0.8224, 0.0043, 0.001, 0.7265),
    (14, 3): Published(0.0035, 0.8557, 0.0033, 0.0003, 0.7943),
    (15, 3): Published(0.1152, 0.8734, 0.1166, 0.0085, 0.7746),
    (16, 3): Published(0.0375, 0.5859, 0.038, 0.0038, 0.4434),
    (17, 3): Published(0.018, 0.6557, 0.0141, 0.0019, 0.5527),
    (18, 3): Published(0.0221, 0.713, 0.0164, 0.0023, 0.5524),
    (19, 3): Published(0.004, 0.7906, 0.0042, 0.0009, 0.7079),
}
