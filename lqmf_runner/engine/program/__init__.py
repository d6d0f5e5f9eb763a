"""Models that another program serves (vLLM, SGLang): it is started, asked over OpenAI's API, measured and ended."""

FILES = "LQMF_PROGRAM_FILES"
"""Variable by which the keeper of a program knows the files that it deletes when the program has ended."""
