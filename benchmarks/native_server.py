"""llama.cpp's native HTTP server, out of the package xllamacpp: `native_server.py MODEL PORT SLOTS N_CTX THREADS`.

Runs in the environment of `make peers`. `N_CTX` tokens are each slot's own. Answers at /health when it is ready, and
serves OpenAI's routes under /v1.
"""

from __future__ import annotations

import sys
import threading

import xllamacpp


def main() -> None:
    model, port, slots, n_ctx, threads = sys.argv[1], *map(int, sys.argv[2:6])
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = slots
    params.n_ctx = slots * n_ctx
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
