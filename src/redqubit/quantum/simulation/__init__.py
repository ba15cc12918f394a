"""The ways to simulate a circuit, and the engine that chooses among them."""
