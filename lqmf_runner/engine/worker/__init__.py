"""The worker process: what may import torch or llama_cpp. Started as `python -m lqmf_runner.engine.worker`."""
