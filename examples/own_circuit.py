"""Build a quanvolution filter of your own, look at it, and attack the network around it."""

import math

import torch

from redqubit import FGSM, PGD, Circuit, Gate, Input, QuNN, Square, Weight, load_splits, train
from redqubit.data import first_stratified
from redqubit.metrics import accuracy, is_correct
from redqubit.quantum.descriptors import entangling_capability, expressibility
from redqubit.training import logits

encoding = Circuit(4, tuple(Gate("RY", (q,), (math.pi * Input(q),)) for q in range(4)))
ring = Circuit(4, tuple(Gate("CRX", (q, (q + 1) % 4), (Weight(q),)) for q in range(4)))
turns = Circuit(4, tuple(Gate("RY", (q,), (Weight(q),)) for q in range(4)))
circuit = encoding + (ring + turns) * 2  # each repetition has weights of its own

if __name__ == "__main__":
    generator = torch.Generator().manual_seed(0)
    print(circuit)
    print(f"{circuit.n_weights} weights, depth {circuit.depth}, gates {dict(circuit.counts)}")
    print(f"expressibility {expressibility(circuit, generator=generator).value:.3f}")
    print(f"entangling capability {entangling_capability(circuit, generator=generator).value:.3f}")

    train_set, test_set = load_splits("digits")
    test_set = first_stratified(test_set, 100)
    model = QuNN((1, 8, 8), 10, circuit, generator=generator)
    train(model, train_set.x, train_set.y, epochs=5, lr=5e-3, generator=generator)
    for attack in (FGSM(0.1), PGD(0.1), Square(0.1)):
        x_adv = attack(model, test_set.x, test_set.y, generator=generator)
        share = accuracy(is_correct(logits(model, x_adv), test_set.y))
        print(f"{type(attack).__name__:<7} {share.value:.2f} right, 95 % interval {share.low:.2f} to {share.high:.2f}")
