"""Parses the metrics with the OpenMetrics parser of Prometheus's own Python client.

usage: use_metrics.py URL SOCKET TOOL_CALL
"""

import sys

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families

QUESTION = {"messages": [{"role": "user", "content": "What is the capital of Italy?"}]}
TYPES = {
    "requests": "counter",
    "user_requests": "counter",
    "user_tokens": "counter",
    "prompt_tokens": "counter",
    "completion_tokens": "counter",
    "prompt_cache_requests": "counter",
    "prompt_cache_tokens": "counter",
    "engine_crashes": "counter",
    "first_token_seconds": "histogram",
    "prefill_seconds": "histogram",
    "decode_token_seconds": "histogram",
    "queue_length": "gauge",
    "active_jobs": "gauge",
    "active_threads": "gauge",
    "max_threads": "gauge",
    "tokens_per_second": "gauge",
    "duty_ratio": "gauge",
    "limited": "gauge",
    "thermal_state": "gauge",
    "memory_state": "gauge",
    "engine_resident_bytes": "gauge",
}


def read(url):
    """Returns the families by name, and the value of each sample."""
    answer = httpx.get(f"{url}/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text"), answer.headers
    families = {family.name.removeprefix("hearthd_"): family for family in text_string_to_metric_families(answer.text)}
    samples = {
        (sample.name.removeprefix("hearthd_"), *sorted(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    return families, samples


url = sys.argv[1]
for _ in range(2):
    answer = httpx.post(f"{url}/v1/chat/completions", json=QUESTION, timeout=60)
    assert answer.status_code == 200, answer.text
usage = answer.json()["usage"]
assert httpx.post(f"{url}/v1/chat/completions", json={**QUESTION, "model": "nope"}).status_code == 404

families, samples = read(url)
for name, kind in TYPES.items():
    assert families[name].type == kind, (name, families.get(name))
    assert families[name].documentation, name
assert families["llamacpp:prompt_tokens"].type == "counter"
assert samples["requests_total", "finished", "tcp"] == 2
assert samples["requests_total", "refused_model_not_found", "tcp"] == 1
assert samples["prompt_cache_requests_total", "none"] == 1
assert samples["prompt_cache_requests_total", "memory"] == 1
cached = usage["prompt_tokens_details"]["cached_tokens"]
assert samples["prompt_cache_tokens_total", "memory"] == cached > 0
computed = samples["prompt_cache_tokens_total", "none"]
assert computed + cached == samples["prompt_tokens_total",] == 2 * usage["prompt_tokens"]
for name in ("first_token", "prefill", "decode_token"):
    assert samples[f"{name}_seconds_count",] == 2 and samples[f"{name}_seconds_sum",] > 0, name
assert samples["engine_resident_bytes",] > 2**20
assert sum(sample.value for sample in families["thermal_state"].samples) == 1
print("ok")
