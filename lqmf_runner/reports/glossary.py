"""What the words of a report mean, for a reader who meets them for the first time."""

from __future__ import annotations

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("tok/s @4", "tokens of answers a second, all requests together, with four requests at a time; a token is about "
                 "three quarters of a word"),
    ("TTFT", "time to first token: how long one waits until an answer begins"),
    ("ITL", "inter-token latency: the gaps between two tokens of an answer"),
    ("p50, p99", "half of the values, and 99 of 100, are not above it"),
    ("bits/w", "bits a weight takes in the file; an unquantized model has 16"),
    ("memory", "of the process that runs the model, after the loads"),
    ("KLD", "Kullback-Leibler divergence: how far the model's guesses of the next token are from the unquantized "
            "model's; 0 is none, above 0.1 answers often differ"),
    ("top-1", "how often both hold the same token for the likeliest"),
    ("perplexity", "between how many tokens the model is undecided, so to speak; lower is better"),
    ("differs at token", "after how many tokens half of the greedy answers have parted from the unquantized model's"),
    ("flips", "share of typed decisions, such as yes or no, that turn out differently than the unquantized model's"),
    ("± SE", "standard error: the true value is within twice of it in 95 of 100 cases"),
    ("Pareto front", "models that no other beats in speed, memory and fidelity at once"),
)  # fmt: skip
