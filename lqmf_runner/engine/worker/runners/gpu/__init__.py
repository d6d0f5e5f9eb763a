"""Code for models on GPUs only: the placement of layers, recorded decode steps, flash attention over slots."""
