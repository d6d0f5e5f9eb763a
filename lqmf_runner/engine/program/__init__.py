"""Models that another program serves (vLLM, SGLang): it is started, asked over OpenAI's API, measured and ended."""
