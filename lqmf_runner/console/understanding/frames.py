"""What each intent sounds like: the meanings it needs, in any order, and what else may be said with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import steps

NO_MODEL, MAY, ONE, SEVERAL, PAIR = "none", "may", "one", "several", "pair"
_ANYWHERE = "is"


@dataclass(frozen=True)
class Frame:
    """One way to ask for an intent. Each item of the sentence must be explained by it, or be a filler.

    Attributes:
        need: for each group, one item must have one of its meanings; no item serves twice.
        also: meanings that other items may have.
        models: which models belong to it: "none", it "may" name some, "one" (where several are named, it stands for a
            step each), "several" or at least a "pair".
        needs: kinds of values that must be there; `takes`: those that may.
        arguments: what the intent's arguments are besides the values.
    """

    intent: str
    need: tuple[frozenset[str], ...]
    also: frozenset[str]
    models: str = NO_MODEL
    needs: frozenset[str] = frozenset()
    takes: frozenset[str] = frozenset()
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def meanings(self) -> frozenset[str]:
        """All that its items may mean."""
        return self.also.union(*self.need)

    @property
    def score(self) -> int:
        """How specific it is."""
        return 2 * (len(self.need) + len(self.needs)) + {NO_MODEL: 0, MAY: 0, PAIR: 3}.get(self.models, 1)


def _frame(
    intent: str, need: str, also: str = "", models: str = NO_MODEL, needs: str = "", takes: str = "", **arguments: Any
) -> Frame:  # fmt: skip
    return Frame(
        intent,
        tuple(frozenset(group.split("|")) for group in need.split()),
        frozenset(f"{also} {_ANYWHERE}".split()),
        models,
        frozenset(needs.split()),
        frozenset(f"{takes} {needs}".split()),
        arguments,
    )


def _experiment(
    kind: str, need: str, also: str = "", models: str = SEVERAL, needs: str = "", takes: str = ""
) -> Frame:
    return _frame(
        steps.EXPERIMENT,
        need,
        f"{also} models run experiment for over all use which available{' fits least memory' * (kind == 'compare')}",
        models,
        needs,
        f"{takes} users loads{' file' * (kind in _ASK_PROMPTS)}{' memory speed' * (kind == 'compare')}",
        kind=kind,
    )


def _recommend(need: str, also: str = "", needs: str = "") -> Frame:
    return _frame(
        steps.RECOMMEND,
        need,
        f"{also} models which best fast small accurate most fits least for use memory is here reaches",
        needs=needs,
        takes="users loads memory speed",
    )


QUESTIONS = frozenset(
    {
        steps.STATUS, steps.LIST_MODELS, steps.LIST_EXPERIMENTS, steps.REPORT, steps.STATISTICS, steps.HISTORY,
        steps.RECOMMEND, steps.PROGRESS, steps.HELP, steps.EXPERIMENT, steps.VERSIONS, steps.JUDGE,
    }
)  # fmt: skip
"""What "is ...?", "which ...?" and "how ...?" may ask for: nothing that loads, starts, stops or makes something."""

_ASK_PROMPTS = ("benchmark", "compare")  # a file that is named with them has the prompts
_SERVER = "server up start for on all run_noun over out_of"
_VERSION = "champion out_of models over from_now let"
_BETTER = "better|best|fast|compare|judge|wins|winner|worse"
_OF_SPLIT = f"which is show out_of over models {_BETTER.replace('|', ' ')}"
_LISTING = "show which available all there use can_i done for list out_of over"

FRAMES: tuple[Frame, ...] = (
    _frame(steps.LOAD, "load", "models server in_memory memory over out_of all for", ONE),
    _frame(steps.LOAD, "put in_memory|ready", "models server", ONE),
    _frame(steps.LOAD, "loaded", "models server put in_memory", ONE),
    _frame(steps.LOAD, "bring_up", "models over out_of", ONE),
    _frame(steps.LOAD, "put up", "models", ONE),
    _frame(steps.UNLOAD, "unload", "models server memory out_of_memory all over out_of loaded use occupies", ONE),
    _frame(steps.UNLOAD, "drop", "models all loaded", ONE),
    _frame(steps.UNLOAD, "drop out_of server", "models all loaded", ONE),
    _frame(steps.UNLOAD, "remove|stop|put out_of_memory|memory", "models server all loaded out_of", ONE),
    _frame(steps.UNLOAD, "stop", "models", ONE),
    _frame(steps.UNLOAD, "unneeded any_more", "models loaded", ONE),
    _frame(steps.START, "start|run|bring_up server", _SERVER, MAY, takes="port replicas"),
    _frame(steps.START, "put server up|alive", _SERVER, MAY, takes="port replicas"),
    _frame(steps.START, "want server up|alive", "out_of alive over", takes="port"),
    _frame(steps.START, "serve", f"{_SERVER} models start run", MAY, takes="port replicas"),
    _frame(steps.STOP, "stop", "session", takes="port"),
    _frame(steps.STOP, "stop server", "all run up alive on for serve over out_of", takes="port"),
    _frame(steps.STOP, "stop all"),
    _frame(steps.STOP, "turn server off|down", "all", takes="port"),
    _frame(steps.STOP, "stop serve", "all", takes="port"),
    _frame(steps.STATUS, "status", "show which server whether out_of over check"),
    _frame(steps.STATUS, "alive server", "show which whether there up anything check is"),
    _frame(steps.STATUS, "is alive server", "whether there up anything check is alive all"),
    _frame(steps.STATUS, "is anything alive", "server there loaded serve"),
    _frame(steps.STATUS, "which|how doing server", ""),
    _frame(steps.STATUS, "check server", "whether"),
    _frame(steps.STATUS, "what_runs", "server"),
    _frame(steps.CHAT, "chat", "start run session models over out_of for use", ONE),
    _frame(steps.CHAT, "chat put|start|have_conversation", "session models run over out_of", ONE),
    _frame(steps.CHAT, "have_conversation", "session models over out_of", ONE),
    _frame(steps.CHAT, "run|start", "models", SEVERAL),  # two readings: it is asked which is meant
    _frame(steps.START, "run|start", "models", SEVERAL),
    _frame(steps.START, "run|start", "models over", SEVERAL, needs="port"),
    _frame(steps.CHAT, "employ", "models", ONE),
    _frame(steps.LOAD, "employ", "models", ONE),
    _experiment("single", "ask", "single", needs="message"),
    _experiment("single", "single", "ask send prompts put start", takes="message"),
    _experiment("batch", "batch", "answer start over", takes="file"),
    _experiment("batch", "batch|run|answer|experiment|put", "batch over out_of prompts start load", needs="file"),
    _experiment("conversation", "conversation run|experiment|prompts|start", "out_of over measure prompts start"),
    _experiment("conversation", "conversation", "out_of over start"),
    _experiment("benchmark", "benchmark", "speed start over measure out_of"),
    _experiment("benchmark", "measure|run speed", "benchmark start over out_of"),
    _experiment("benchmark", "how_fast", "start over out_of"),
    _experiment("benchmark", "experiment", "start over out_of"),
    _experiment("compare", "compare", "versus or start reference put better out_of speed", PAIR),
    _experiment("compare", "compare all", "versus start reference models", SEVERAL),
    _experiment("compare", "versus", "reference compare benchmark measure speed start put or better", PAIR),
    _experiment("compare", "better", "than versus or which is reference", PAIR),
    _frame(steps.LIST_MODELS, "available", "is there", scope="available"),
    _frame(steps.LIST_MODELS, "is loaded", "models in_memory memory server over", MAY, scope="loaded"),
    _frame(steps.LIST_MODELS, "how_much memory", "is use fits models server over did", MAY, scope="loaded"),
    _frame(steps.LIST_MODELS, "models", _LISTING, takes="format", scope="available"),
    _frame(steps.LIST_MODELS, "loaded models", f"{_LISTING} in_memory memory server", scope="loaded"),
    _frame(steps.LIST_MODELS, "models alive|serve is|show|which", "which all server show there", scope="loaded"),
    _frame(steps.LIST_MODELS, "which|anything loaded", "is in_memory memory server", scope="loaded"),
    _frame(steps.LIST_MODELS, "which|anything in_memory", "is loaded server", scope="loaded"),
    _frame(steps.LIST_MODELS, "models in_memory", f"{_LISTING} loaded server", scope="loaded"),
    _frame(steps.LIST_EXPERIMENTS, "show|which|past|there runs", f"{_LISTING} did models past", MAY, takes="since"),
    _frame(steps.LIST_EXPERIMENTS, "last runs", "show which done past", needs="number"),
    _frame(steps.LIST_EXPERIMENTS, "which did_word run", "models", MAY, takes="since"),
    _frame(steps.REPORT, "report", "show last run_noun over out_of for models which is done", MAY),
    _frame(steps.REPORT, "show last run_noun", "over out_of for models which is", MAY),
    _frame(steps.REPORT, "winner", "show last run_noun out_of is"),
    _frame(steps.REPORT, "which last run_noun report_verb", "did over out_of", MAY),
    _frame(steps.STATISTICS, "statistics", "show session is which server all over out_of"),
    _frame(steps.STATISTICS, "how_many counted", "session happened there did server show over is serve"),
    _frame(steps.HISTORY, "history", "show all over out_of past models for runs", MAY, takes="since"),
    _frame(steps.HISTORY, "past report", "show all over out_of models for", MAY, takes="since"),
    _frame(steps.HISTORY, "change over_time", "did which how models", MAY, takes="since"),
    _frame(steps.HISTORY, "which change", "did is models", MAY, needs="since"),
    _frame(steps.HISTORY, "trend", "show which over out_of for models over_time", MAY, takes="since"),
    _frame(steps.HISTORY, "worse did|which|anything", "did which anything models over over_time there show", MAY,
           takes="since", regressions=True),
    _frame(steps.HISTORY, "regressions", "show which there did anything over all", MAY, takes="since",
           regressions=True),
    _recommend("recommend", "anything"),
    _recommend("should models", "run recommend"),
    _recommend("which should use"),
    _recommend("best|fast|small|accurate models", "there should show"),
    _recommend("fits|which models", needs="memory"),
    _recommend("fits|which|least models", needs="speed"),
    _recommend("least", needs="speed"),
    _recommend("fits|which models", needs="users"),
    _recommend("fits|which models", needs="loads"),
    _recommend("which|best|fast|small|accurate best|fast|small|accurate|fits|least", needs="speed"),
    _recommend("best|fast|small|accurate", needs="users"),
    _recommend("best|fast|small|accurate", needs="loads"),
    _recommend("which best|fast|small|accurate", needs="users"),
    _recommend("which fast|small|accurate"),
    _recommend("which fits", "out_of", needs="memory"),
    _frame(steps.RECOMMEND, "why lose", "did models best most", ONE),
    _frame(steps.QUANTIZE, "quantize", "out_of models make best put run start format", ONE,
           takes="bits type method"),
    _frame(steps.QUANTIZE, "make out_of", "models quantize", ONE, needs="method", takes="bits type"),
    _frame(steps.QUANTIZE, "make", "models quantize out_of small", ONE, needs="bits", takes="type method"),
    _frame(steps.QUANTIZE, "make", "models", ONE, needs="method", takes="type"),
    _frame(steps.QUANTIZE, "make small", "models quantize out_of", ONE, takes="type method bits"),
    _frame(steps.PULL, "pull", "models hub out_of weights put over", needs="id"),
    _frame(steps.VERSIONS, "version", "show which is there all over out_of did models champion past available", MAY),
    _frame(steps.PROMOTE, "promote", _VERSION, ONE, takes="version"),
    _frame(steps.PROMOTE, "make champion", _VERSION, ONE, takes="version"),
    _frame(steps.PROMOTE, "switch|employ", _VERSION, ONE, needs="version"),
    _frame(steps.PROMOTE, "take_over", _VERSION, ONE, needs="version"),
    _frame(steps.ROLL_BACK, "roll_back", f"{_VERSION} version promote past last", ONE),
    _frame(steps.ROLL_BACK, "roll back", f"{_VERSION} version promote past last", ONE),
    _frame(steps.JUDGE, f"served version {_BETTER}", _OF_SPLIT, ONE),
    _frame(steps.JUDGE, f"split {_BETTER}", f"{_OF_SPLIT} served version report", ONE),
    _frame(steps.JUDGE, "split report", f"{_OF_SPLIT} served version last", ONE),
    _frame(steps.SCALE, "scale", "up down over out_of models replicas", ONE, takes="replicas"),
    _frame(steps.SCALE, "run|start|want|give|put", "out_of over models", ONE, needs="replicas"),
    _frame(steps.SCALE, "set replicas", "out_of over up down models", ONE, needs="replicas"),
    _frame(steps.LIST_MODELS, "how_many replicas", "did is models over out_of", MAY, scope="loaded"),
    _frame(steps.PROGRESS, "progress", "show which is work over how_many"),
    _frame(steps.CANCEL, "cancel", "work"),
    _frame(steps.CANCEL, "stop work", "run"),
    _frame(steps.STOP, "stop it_word"),  # as likely: it is asked which is meant
    _frame(steps.HELP, "help", "which there show console"),
    _frame(steps.HELP, "commands which|show", "there can_i use run all is help"),
    _frame(steps.EXIT, "exit", "console session"),
)  # fmt: skip
