"""RedQubit red-teams quantum neural networks: attack, defend, and report what holds."""

__version__ = "0.1.0"
