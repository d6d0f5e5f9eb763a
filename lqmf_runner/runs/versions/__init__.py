"""Versions of weights: which one a name means, how they compare, and which becomes the champion."""
