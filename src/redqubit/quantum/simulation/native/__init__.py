"""The native engine: exact expectation values on the CPU by a kernel that Numba compiles.

It serves every circuit without noise. First derivatives are its own, by the reversible adjoint method; derivatives
of derivatives (`create_graph=True`) and `torch.func` transforms go through `redqubit.quantum.simulation.state_vector`.
"""

from redqubit.quantum.simulation.native.engine import expectations, warm_up
from redqubit.quantum.simulation.native.plan import NativePlan, build

__all__ = ["NativePlan", "build", "expectations", "warm_up"]
