"""The native kernel against the torch engine, a dense simulator and closed forms."""

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum import Circuit, Gate, Input, Weight, ansatzes, encodings
from redqubit.quantum.circuit import SIGNATURES, Amplitude, Angle
from redqubit.quantum.gates import matrix
from redqubit.quantum.measure import probabilities, signs
from redqubit.quantum.simulation import native
from redqubit.quantum.simulation.fuse import cast, pure_gates
from redqubit.quantum.simulation.native.schedule import euler
from redqubit.quantum.simulation.state_vector import run

CPU = torch.device("cpu")
N_INPUTS, N_WEIGHTS = 4, 5


def dense(circuit: Circuit, row: Tensor, w: Tensor) -> Tensor:
    """Return the probabilities of one sample by full matrices, differentiable."""
    n = circuit.n_qubits
    psi = torch.zeros(2**n, dtype=torch.complex128)
    psi[0] = 1
    if circuit.initial is not None:
        features = row[: circuit.initial.n_features]
        psi = torch.nn.functional.pad(features / features.norm(), (0, 2**n - len(features))).to(torch.complex128)
    for gate in pure_gates(circuit):
        angles = [
            a.scale * (row if isinstance(a, Input) else w)[a.index] + a.offset if isinstance(a, Input | Weight) else a
            for a in gate.angles
        ]
        fixed = gate.matrix is not None
        m = torch.tensor(gate.matrix, dtype=torch.complex128) if fixed else matrix(gate.name, *angles)
        k = len(gate.wires)
        state = psi.reshape([2] * n).movedim(gate.wires, tuple(range(k)))
        psi = (m @ state.reshape(2**k, -1)).reshape([2] * n).movedim(tuple(range(k)), gate.wires).reshape(-1)
    return psi.abs().square()


def tables(n: int) -> dict[str, Tensor | None]:
    """Return one table of every kind that the kernel treats in its own way."""
    g = torch.Generator().manual_seed(n)
    z = signs(n)
    return {
        "probabilities": None,
        "z": z,
        "some wires, affine": (0.1 + 0.8 * z)[:, [n - 1, 0, 0]],
        "any": torch.rand(2**n, 5, generator=g, dtype=torch.float64),
    }


def values(circuit: Circuit, batch: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(batch, circuit.n_inputs, generator=g, dtype=torch.float64) * 3 - 1
    w = torch.rand(circuit.n_weights, generator=g, dtype=torch.float64) * 9 - 4
    return x.to(dtype).requires_grad_(), w.to(dtype).requires_grad_()


def agree(circuit: Circuit, batch: int, dtype: torch.dtype, tolerance: float, *, by_dense: bool = False) -> None:
    """Assert that outputs and gradients equal those of the torch engine, or of the dense simulator."""
    plan = cast(native.build(circuit), dtype, CPU)
    x, w = values(circuit, batch, dtype)
    x64, w64 = values(circuit, batch, torch.float64)
    if by_dense:
        p = torch.stack([dense(circuit, row, w64) for row in x64])
    else:
        p = probabilities(run(native.build(circuit).torch_plan, x64, w64))
    for name, table in tables(circuit.n_qubits).items():
        got = native.expectations(plan, x, w, None if table is None else table.to(dtype))
        want = p if table is None else p @ table
        assert got.dtype == dtype, name
        torch.testing.assert_close(got.double(), want, rtol=0, atol=tolerance, msg=name)
        with torch.no_grad():
            again = native.expectations(plan, x, w, None if table is None else table.to(dtype))
        assert torch.equal(again, got), name
        if not want.requires_grad:
            continue
        direction = torch.linspace(-1, 1, want.numel(), dtype=torch.float64).reshape(want.shape)
        wanted = torch.autograd.grad(want, (x64, w64), direction, True, allow_unused=True, materialize_grads=True)
        for a, b in zip(torch.autograd.grad(got, (x, w), direction.to(dtype)), wanted, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance, msg=name)


def unitary(k: int, seed: int) -> tuple[tuple[complex, ...], ...]:
    g = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(2**k, 2**k, generator=g, dtype=torch.complex128))[0]
    return tuple(tuple(row) for row in q.tolist())


angles = st.one_of(
    st.sampled_from([0.0, math.pi / 2, math.pi, -math.pi, 0.3, 2.0]),
    st.builds(
        lambda kind, index, scale, offset: kind(index, scale, offset),
        st.sampled_from([Input, Weight]),
        st.integers(0, 3),
        st.sampled_from([1.0, -0.5, 2.0, math.pi]),
        st.sampled_from([0.0, 0.4]),
    ),
)


@st.composite
def circuits(draw: st.DrawFn, most: int = 5) -> Circuit:
    """Return circuits of every gate, with inputs, weights and numbers."""
    n = draw(st.integers(1, most))
    names = [name for name, (wires, _) in SIGNATURES.items() if wires <= n]
    gates = []
    for _ in range(draw(st.integers(0, 14))):
        name = draw(st.sampled_from([*names, "Unitary"]))
        order = draw(st.permutations(range(n)))
        if name == "Unitary":
            k = draw(st.integers(1, min(n, 3)))
            gates.append(Gate(name, tuple(order[:k]), matrix=unitary(k, draw(st.integers(0, 9)))))
        else:
            wires, count = SIGNATURES[name]
            gates.append(Gate(name, tuple(order[:wires]), tuple(draw(angles) for _ in range(count))))
    initial = Amplitude(draw(st.integers(1, 2**n))) if draw(st.integers(0, 4)) == 0 else None
    return Circuit(n, tuple(gates), initial)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(circuits(), st.sampled_from([1, 7, 16, 33]))
def test_random_circuits_equal_the_torch_engine(circuit: Circuit, batch: int) -> None:
    agree(circuit, batch, torch.float64, 1e-10)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(circuits(), st.sampled_from([1, 7, 16, 33]))
def test_random_circuits_in_float32(circuit: Circuit, batch: int) -> None:
    agree(circuit, batch, torch.float32, 1e-5)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(circuits(4))
def test_random_circuits_equal_dense_matrices(circuit: Circuit) -> None:
    agree(circuit, 3, torch.float64, 1e-10, by_dense=True)


@pytest.mark.parametrize("name", sorted(SIGNATURES))
@pytest.mark.parametrize("source", ["input", "weight", "number"])
def test_each_gate(name: str, source: str) -> None:
    n_wires, n_angles = SIGNATURES[name]
    make = {"input": Input, "weight": Weight, "number": lambda i: 0.4 + i}[source]
    scaled: list[Angle] = [make(i) * 1.3 for i in range(n_angles)]
    wires = (2, 0, 1)[:n_wires]
    around = (*(Gate(r, (q,), (0.7 + q,)) for q in range(3) for r in ("RX", "RY")), Gate("CX", (0, 1)))
    agree(Circuit(3, (*around, Gate(name, wires, tuple(scaled)), *around)), 3, torch.float64, 1e-10, by_dense=True)


SWAP_AND_TURN = ((0, 1, 0, 0), (1, 0, 0, 0), (0, 0, 0.6, 0.8), (0, 0, -0.8, 0.6))
CIRCUITS = {
    "dressed-10": ansatzes.dressed(10, 3),
    "re-upload-9": (encodings.angle(9, ("RX", "RZ")) + ansatzes.strongly_entangling(9)) * 2,
    "amplitude-8": encodings.amplitude(8, 200) + ansatzes.strongly_entangling(8, 2),
    "turns at both ends": Circuit(
        12,
        (
            *(Gate("CX", (q, q + 1)) for q in range(11)),
            Gate("RY", (0,), (Weight(0),)),
            Gate("RY", (11,), (Input(0),)),
            Gate("CX", (11, 0)),
        ),
    ),
    "real": encodings.angle(4)
    + Circuit(4, (Gate("Unitary", (3, 1), matrix=SWAP_AND_TURN), Gate("CRY", (1, 0), (Weight(0),)))),
}


@pytest.mark.parametrize("name", CIRCUITS)
def test_larger_circuits(name: str) -> None:
    agree(CIRCUITS[name], 9, torch.float64, 1e-10)
    agree(CIRCUITS[name], 9, torch.float32, 1e-5)


def test_what_is_real_stays_real() -> None:
    assert native.build(ansatzes.dressed(10, 6)).planes == 1
    assert native.build(CIRCUITS["real"]).planes == 1
    assert native.build(CIRCUITS["re-upload-9"]).planes == 2


@pytest.mark.parametrize("n", [1, 2, 5])
def test_no_gates(n: int) -> None:
    x, w = torch.zeros(3, 0), torch.zeros(0)
    got = native.expectations(cast(native.build(Circuit(n)), torch.float32, CPU), x, w, signs(n).float())
    assert torch.equal(got, torch.ones(3, n))


def test_no_samples() -> None:
    circuit = ansatzes.dressed(3, 1)
    x, w = values(circuit, 0, torch.float64)
    out = native.expectations(native.build(circuit), x, w, signs(3))
    assert out.shape == (0, 3)
    assert all(float(g.abs().sum()) == 0 for g in torch.autograd.grad(out.sum(), (x, w)))


def test_closed_form() -> None:
    circuit = Circuit(2, (Gate("RY", (0,), (Input(0, 2.0, 0.3),)), Gate("CX", (0, 1)), Gate("RY", (1,), (Weight(0),))))
    x, w = torch.tensor([[0.4], [-2.0]]).double().requires_grad_(), torch.tensor([0.9]).double().requires_grad_()
    out = native.expectations(native.build(circuit), x, w, signs(2))
    angle = 2 * x + 0.3
    torch.testing.assert_close(out, torch.cat([angle.cos(), angle.cos() * w.cos()], 1))
    grad_x, grad_w = torch.autograd.grad(out[:, 1].sum(), (x, w))
    torch.testing.assert_close(grad_x, -2 * angle.sin() * w.cos())
    torch.testing.assert_close(grad_w, -(angle.cos() * w.sin()).sum()[None])


def test_gradients_of_gradients() -> None:
    circuit = encodings.angle(3, ("RX",)) + ansatzes.strongly_entangling(3)
    plan, table = native.build(circuit), tables(3)["any"]
    x, w = values(circuit, 2, torch.float64)
    assert torch.autograd.gradcheck(lambda x, w: native.expectations(plan, x, w, table), (x, w))
    assert torch.autograd.gradgradcheck(lambda x, w: native.expectations(plan, x, w, table), (x, w))


def test_function_transforms() -> None:
    circuit = ansatzes.dressed(3, 1)
    plan, table = native.build(circuit), signs(3)
    x, w = values(circuit, 4, torch.float64)
    jacobian = torch.func.jacrev(lambda v: native.expectations(plan, x, v, table))(w)
    out = native.expectations(plan, x, w, table)
    torch.testing.assert_close(jacobian[1, 2], torch.autograd.grad(out[1, 2], w, retain_graph=True)[0])
    batched = torch.autograd.grad(out, w, torch.eye(12).double().reshape(12, 4, 3), is_grads_batched=True)[0]
    torch.testing.assert_close(batched.reshape(4, 3, -1), jacobian)


def test_backward_twice_gives_the_same() -> None:
    circuit = ansatzes.dressed(4, 2)
    x, w = values(circuit, 5, torch.float64)
    out = native.expectations(native.build(circuit), x, w, signs(4)).sum()
    first = torch.autograd.grad(out, (x, w), retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, torch.autograd.grad(out, (x, w)), strict=True))


def test_one_of_the_gradients_alone() -> None:
    circuit = ansatzes.dressed(4, 2)
    plan, table = native.build(circuit), signs(4)
    x, w = values(circuit, 5, torch.float64)
    both = torch.autograd.grad(native.expectations(plan, x, w, table).sum(), (x, w))
    assert torch.equal(torch.autograd.grad(native.expectations(plan, x, w.detach(), table).sum(), x)[0], both[0])
    assert torch.equal(torch.autograd.grad(native.expectations(plan, x.detach(), w, table).sum(), w)[0], both[1])


def test_memory_layout_of_the_input_does_not_matter() -> None:
    circuit = ansatzes.dressed(4, 2)
    plan, table = native.build(circuit), signs(4)
    x, w = values(circuit, 6, torch.float64)
    turned = x.detach().T.contiguous().T
    assert not turned.is_contiguous()
    turned.requires_grad_()
    out = native.expectations(plan, turned, w, table.T.contiguous().T)
    assert torch.equal(out, native.expectations(plan, x, w, table))
    direction = torch.rand(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).T
    wanted = torch.autograd.grad(native.expectations(plan, x, w, table), x, direction.contiguous())[0]
    assert torch.equal(torch.autograd.grad(out, turned, direction)[0], wanted)


def test_a_table_changed_in_place_is_read_again() -> None:
    circuit = ansatzes.dressed(2, 1)
    plan, table = native.build(circuit), signs(2)
    x, w = values(circuit, 1, torch.float64)
    before = native.expectations(plan, x, w, table)
    table.neg_()
    torch.testing.assert_close(native.expectations(plan, x, w, table), -before)


def test_threads_change_no_bit() -> None:
    circuit = ansatzes.dressed(8, 6)
    plan, table = cast(native.build(circuit), torch.float32, CPU), signs(8).float()
    x, w = values(circuit, 133, torch.float32)

    def both() -> list[Tensor]:
        out = native.expectations(plan, x, w, table)
        return [out.detach(), *torch.autograd.grad(out.square().sum(), (x, w))]

    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(both())
    finally:
        torch.set_num_threads(before)
    with ThreadPoolExecutor(4) as pool:
        results += [future.result() for future in [pool.submit(both) for _ in range(8)]]
    assert all(torch.equal(a, b) for r in results[1:] for a, b in zip(results[0], r, strict=True))


def test_a_forked_process_can_go_on() -> None:
    program = """
import os, torch
from redqubit.quantum import ansatzes
from redqubit.quantum.simulation import native
from redqubit.quantum.measure import signs
torch.set_num_threads(3)
circuit = ansatzes.dressed(8, 6)
plan, x, w = native.build(circuit), torch.ones(200, 8).double(), torch.ones(circuit.n_weights).double()
table = signs(8)
wanted = native.expectations(plan, x, w, table)
child = os.fork()
if not child:
    os._exit(0 if torch.equal(native.expectations(plan, x, w, table), wanted) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=120)


def test_an_all_zero_sample_has_no_amplitudes() -> None:
    plan = native.build(encodings.amplitude(2, 3))
    with pytest.raises(UsageError, match="all-zero sample"):
        native.expectations(plan, torch.zeros(2, 3).double(), torch.zeros(0).double(), None)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000))
def test_euler_angles(seed: int) -> None:
    m = torch.tensor(unitary(1, seed), dtype=torch.complex128)
    last, middle, first = euler(m)
    made = matrix("RZ", last) @ matrix("RY", middle) @ matrix("RZ", first)
    assert abs(abs(torch.trace(made.mH @ m)) - 2) < 1e-12


def test_warm_up_takes_no_time_the_second_time() -> None:
    native.warm_up(torch.float32)
    assert native.warm_up(torch.float32) < 0.5
