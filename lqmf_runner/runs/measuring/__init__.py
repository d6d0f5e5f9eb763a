"""One model under measurement: its loads, its fidelity, and the grades of its answers."""
