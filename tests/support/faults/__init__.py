"""A server whose replicas are killed and stopped at random while clients ask it: what they see, and what is left.

`clients.py` asks and judges the answers, `replicas.py` kills and stops, `soak.py` joins the two.
"""
