"""The measurement of one model: its loads, its fidelity, and the grades of its answers."""
