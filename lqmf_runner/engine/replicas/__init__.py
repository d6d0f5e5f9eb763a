"""Several engines with the same model as one: which of them gets a request, and what happens when one is lost.

`replica_set.py` is the `EngineClient`. `policy.py` chooses, `prompts.py` and `held.py` know who holds which prompt,
`replica.py` is one engine with its figures, and `sources.py` says where the engines come from.
"""
