"""The migration guide's compatibility testing script; the base URL of the gateway and the keys come from the environment.

BIFROST_URL (default http://localhost:8080), OPENAI_API_KEY, ANTHROPIC_API_KEY. Ends with 1 if a check failed. Unlike the
guide's, it retries nothing: a failure is one.
"""

import os
import statistics
import sys
import time

import anthropic
import openai

BIFROST_URL = os.getenv("BIFROST_URL", "http://localhost:8080")
openai_key = os.getenv("OPENAI_API_KEY", "sk-any")
anthropic_key = os.getenv("ANTHROPIC_API_KEY", "sk-ant-any")


def test_compatibility():
    """Test Bifrost compatibility with existing SDKs"""
    failed = 0

    # Test OpenAI compatibility
    openai_client = openai.OpenAI(base_url=f"{BIFROST_URL}/openai", api_key=openai_key, max_retries=0)
    try:
        response = openai_client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "test"}]
        )
        assert response.choices[0].message.content
        print("✅ OpenAI compatibility verified")
    except Exception as e:
        failed += 1
        print(f"❌ OpenAI compatibility failed: {e}")

    # Test Anthropic compatibility
    anthropic_client = anthropic.Anthropic(base_url=f"{BIFROST_URL}/anthropic", api_key=anthropic_key, max_retries=0)
    try:
        response = anthropic_client.messages.create(
            model="claude-3-sonnet-20240229", max_tokens=100, messages=[{"role": "user", "content": "test"}]
        )
        assert response.content[0].text
        print("✅ Anthropic compatibility verified")
    except Exception as e:
        failed += 1
        print(f"❌ Anthropic compatibility failed: {e}")

    return failed


def benchmark_latency(base_url, provider="openai"):
    """Compare latency between direct API and Bifrost"""
    latencies = []
    for _ in range(10):
        start_time = time.time()
        if provider == "openai":
            client = openai.OpenAI(base_url=base_url, api_key=openai_key, max_retries=0)
            client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
        end_time = time.time()
        latencies.append(end_time - start_time)
    return {
        "mean": statistics.mean(latencies),
        "median": statistics.median(latencies),
        "min": min(latencies),
        "max": max(latencies),
    }


if __name__ == "__main__":
    failures = test_compatibility()
    # Compare direct vs Bifrost; only where the direct address is given.
    if direct_url := os.getenv("DIRECT_OPENAI_URL"):
        direct_stats = benchmark_latency(direct_url)
        bifrost_stats = benchmark_latency(f"{BIFROST_URL}/openai")
        print(f"Direct API: {direct_stats}")
        print(f"Bifrost: {bifrost_stats}")
        print(f"Overhead: {bifrost_stats['mean'] - direct_stats['mean']:.3f}s")
    sys.exit(1 if failures else 0)
