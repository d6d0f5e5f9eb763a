"""What is understood of a sentence: its steps."""

from __future__ import annotations

from typing import Any

import msgspec

LOAD = "LOAD_MODEL_API"
UNLOAD = "UNLOAD_MODEL_API"
START = "START_API_SERVER"
STOP = "STOP_API_SERVER"
STATUS = "SHOW_API_STATUS"
CHAT = "CHAT_WITH_MODEL"
EXPERIMENT = "EXPERIMENT_WITH_MODEL"
LIST_MODELS = "LIST_MODELS"
LIST_EXPERIMENTS = "LIST_EXPERIMENTS"
REPORT = "SHOW_REPORT"
STATISTICS = "SHOW_STATISTICS"
HISTORY = "SHOW_HISTORY"
RECOMMEND = "RECOMMEND_MODEL"
QUANTIZE = "QUANTIZE_MODEL"
PULL = "PULL_MODEL"
VERSIONS = "LIST_VERSIONS"
PROMOTE = "PROMOTE_VERSION"
ROLL_BACK = "ROLL_BACK_VERSION"
JUDGE = "JUDGE_VERSIONS"
SCALE = "SCALE_MODEL"
PROGRESS = "SHOW_PROGRESS"
CANCEL = "CANCEL_WORK"
HELP = "HELP"
EXIT = "EXIT"
UNKNOWN = "UNKNOWN"

PURPOSES = {
    LOAD: "load it on the server",
    UNLOAD: "unload it",
    START: "start a server",
    STOP: "stop the server",
    STATUS: "show the servers",
    CHAT: "chat with it",
    EXPERIMENT: "run an experiment",
    LIST_MODELS: "list models",
    LIST_EXPERIMENTS: "list experiments",
    REPORT: "show a report",
    STATISTICS: "show statistics",
    HISTORY: "show the history",
    RECOMMEND: "recommend a model",
    QUANTIZE: "make a quantized model",
    PULL: "fetch a model",
    VERSIONS: "list versions",
    PROMOTE: "make a version of it the champion",
    ROLL_BACK: "go back to the champion before",
    JUDGE: "judge its versions by what they have served",
    SCALE: "change the number of its replicas",
    PROGRESS: "show the progress",
    CANCEL: "cancel what runs",
    HELP: "show help",
    EXIT: "leave",
}
"""What each intent is for, in a question."""

GRAMMAR, FUZZY, MODEL = "grammar", "fuzzy", "model"
SURE = 0.75
"""A step with less confidence than this is asked about before anything is done."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do.

    Attributes:
        intent: one of the constants of this module.
        arguments: of the intent, e.g. `{"kind": "benchmark", "models": ["qwen_bnb4"]}`. What is not said is left out.
        confidence: 1 where each word is known and has one meaning; less with each spelling that was corrected, and at
            most one half where there is something to ask.
        layer: what has understood it: "grammar", "fuzzy" (a spelling was corrected) or "model".
        choices: an argument that may mean several things, with what it may mean: `{"model": ["qwen_gguf", ...]}`.
        others: other intents that the same words may mean.
        unclear: the words that are not understood, if the intent is UNKNOWN.
    """

    intent: str
    arguments: dict[str, Any] = {}
    confidence: float = 1.0
    layer: str = GRAMMAR
    choices: dict[str, list[str]] = {}
    others: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()

    @property
    def models(self) -> list[str]:
        """The models that it names."""
        several = self.arguments.get("models") or []
        return [*several, *filter(None, [self.arguments.get("model")])]
