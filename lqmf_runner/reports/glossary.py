"""The terms of a report, explained for a new reader."""

from __future__ import annotations

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("tok/s @4", "output tokens a second, over all requests, at four concurrent requests; a token is about three "
                 "quarters of a word"),
    ("TTFT", "time to first token: the time until an answer begins"),
    ("ITL", "inter-token latency: the gaps between two tokens of an answer"),
    ("p50, p99", "percentiles: half of the values, or 99 of 100, are not above it"),
    ("bits/w", "bits per weight in the file; an unquantized model has 16"),
    ("memory", "resident memory of the process that runs the model, after the loads"),
    ("KLD", "Kullback-Leibler divergence: the distance of the next-token probabilities from the unquantized "
            "model's; 0 is none, above 0.1 answers often differ"),
    ("top-1", "share of positions where both models have the same most likely token"),
    ("perplexity", "the number of equally likely next tokens that would be as uncertain; lower is better"),
    ("differs at token", "the token at which half of the greedy answers differ from the unquantized model's"),
    ("flips", "share of typed decisions, such as yes or no, that differ from the unquantized model's"),
    ("± SE", "standard error: the true value is within twice of it in 95 of 100 cases"),
    ("Pareto front", "models for which no other is at least as good in speed, memory and fidelity and better in one"),
)  # fmt: skip
