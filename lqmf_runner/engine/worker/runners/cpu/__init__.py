"""Code for models on a CPU only: kernels with little overhead, and layers without module calls."""
