"""What only models on a CPU need: kernels called with little around them, and layers written out."""
