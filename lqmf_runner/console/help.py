"""The help of the console: one or two examples for each intent."""

from __future__ import annotations

from .understanding import steps

EXAMPLES: dict[str, tuple[str, tuple[str, ...]]] = {
    steps.LIST_MODELS: ("see the models", ("what models are available?", "which models are loaded?")),
    steps.START: ("start a server", ("start the server", "serve qwen bnb4 on port 9000")),
    steps.STATUS: ("see the server", ("status", "is the server running?")),
    steps.STOP: ("stop it", ("stop the server",)),
    steps.LOAD: ("load a model into it", ("load smollm2 gguf",)),
    steps.UNLOAD: ("unload one", ("unload smollm2 gguf", "unload everything")),
    steps.CHAT: ("talk to a model", ("chat with smollm2 gguf",)),
    steps.EXPERIMENT: (
        "measure",
        (
            'ask smollm2 gguf "Why is the sky blue?"',
            "benchmark qwen bnb4 with 8 users",
            "compare smollm2 gguf and smollm2 bnb4",
            "answer all lines of questions.csv with smollm2 gguf",
        ),
    ),
    steps.QUANTIZE: ("make a quantized model", ("quantize smollm2 bf16 to 4 bit",)),
    steps.RECOMMEND: (
        "choose",
        (
            "which model fits in 2 GB and is fastest for 8 users?",
            "which gives at least 20 tokens a second?",
            "why did qwen bnb4 lose?",
        ),
    ),
    steps.LIST_EXPERIMENTS: ("see past runs", ("list experiments",)),
    steps.HISTORY: ("see trends", ("history of smollm2 gguf", "what got worse?")),
    steps.REPORT: ("read a report", ("show the last report",)),
    steps.STATISTICS: ("see statistics", ("statistics",)),
    steps.SCALE: ("change its replicas", ("scale smollm2 gguf to 2",)),
    steps.VERSIONS: ("see versions", ("which versions of qwen bnb4 are there?",)),
    steps.PROMOTE: ("choose who answers", ("promote version 2 of qwen bnb4",)),
    steps.ROLL_BACK: ("undo that", ("roll back qwen bnb4",)),
    steps.JUDGE: ("judge a split", ("which of the two served versions is better?",)),
    steps.PULL: ("fetch a model", ("pull Qwen/Qwen2.5-0.5B-Instruct",)),
    steps.PROGRESS: ("work in the background", ("progress", "cancel")),
    steps.EXIT: ("leave", ("exit",)),
}  # fmt: skip


def help_text(topic: str | None = None) -> str:
    """Examples of all intents, or of one."""
    if topic in EXAMPLES:
        purpose, examples = EXAMPLES[topic]
        return f"To {purpose}, say:\n" + "\n".join(f"  {example}" for example in examples)
    width = max(len(purpose) for purpose, _ in EXAMPLES.values())
    lines = [
        f"  {purpose if at == 0 else '':<{width}}  {example}"
        for purpose, examples in EXAMPLES.values()
        for at, example in enumerate(examples)
    ]
    return "\n".join(
        ["Say what is to be done, several steps in one sentence if you like:", *lines,
         "Part of a model's name is enough. What is understood is shown as a command line before it is done."]
    )  # fmt: skip
