from __future__ import annotations

import re
from types import SimpleNamespace

from prometheus_client.parser import text_string_to_metric_families

from lqmf_runner.server.watch.metrics import Metrics
from lqmf_runner.server.watch.prometheus import exposition
from lqmf_runner.types import PromptCacheUse, Usage

from .test_metrics import serve


def test_the_text_is_prometheus_format() -> None:
    """Names, labels, escapes and cumulative buckets as the format's own grammar has them."""
    kept = PromptCacheUse(limit_mb=100, mb=2.5, prompts=3, tokens=700, hits=4)
    model = SimpleNamespace(name="m", state="ready", memory_mb=1.5, prompt_cache=kept, replicas=[])
    metrics = Metrics(lambda: [model])
    serve(metrics, [(100.5, 1), (100.6, 1)], usage=Usage())
    metrics.count_response("POST", 200)
    text = exposition(metrics).decode()
    sample = re.compile(r'[a-z_]+(\{([a-z]+="(\\.|[^"\\\n])*",?)+\})? [0-9.e+-]+')
    types: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in types
            types[name] = kind
        elif not line.startswith("# HELP "):
            assert sample.fullmatch(line), line
    read = {family.name: family for family in text_string_to_metric_families(text)}
    assert {name.removesuffix("_total"): kind for name, kind in types.items()} == {
        name: family.type for name, family in read.items()
    }
    assert text.endswith("\n")
    assert 'lqmf_requests_total{model="a\\"b\\\\c",outcome="ok"} 1' in text
    assert 'lqmf_requests_total{model="a\\"b\\\\c",outcome="failed"} 0' in text
    assert 'lqmf_model_memory_bytes{model="m"} 1.5e+06' in text
    assert 'lqmf_prompt_cache_bytes{model="m"} 2.5e+06' in text
    assert 'lqmf_prompt_cache_tokens{model="m"} 700.0' in text
    assert 'lqmf_prompt_cache_hits_total{model="m"} 4.0' in text
    assert metrics.stats()["models"]["m"]["prompt_cache"]["tokens"] == 700
    buckets = [
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("lqmf_time_to_first_token_seconds_bucket")
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 1
