"""A worker with a transformers model loads no package that inference does not use, and no compiler."""

from __future__ import annotations

import subprocess
import sys

IMPORT = """
import sys
from lqmf_runner.engine.worker.runners.lean_imports import UNUSED, prepare_torch
prepare_torch()
import bitsandbytes, lqmf_runner.engine.worker.runners.transformers, transformers.modeling_utils
print([name for name in (*UNUSED, "torch._inductor.compile_fx") if sys.modules.get(name)])
import torch
assert torch.compile(len) is len and torch.compile(dynamic=True)(len) is len
"""


def test_what_inference_does_not_use_is_not_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
