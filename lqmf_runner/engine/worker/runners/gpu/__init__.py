"""What only models on GPUs need: where their layers go, recorded decode steps, flash attention over slots."""
