"""The course of a sentence: it is understood, shown, confirmed if necessary, executed and recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ..errors import LqmfError, UserInputError
from .actions import Actions
from .advice import way_out
from .commands import NO_SERVER, Command, Setting, command_of, nothing_split
from .jobs import Job, Outcome, without_controls
from .questions import Screen, among, consents, open_points, settle
from .session import CANCELLED, DONE, FAILED, REFUSED, Entry, Session, all_entries, entry_at_now
from .understanding import steps
from .understanding.made import models_after
from .understanding.steps import PURPOSES, Step

SUCCESS, FAILURE, NOT_UNDERSTOOD = 0, 1, 2
_OF_RESULTS = (steps.REPORT, steps.RECOMMEND)
"""They change nothing, and name what the steps before them have left: each is shown when it is done."""


class Understand(Protocol):
    """What a sentence asks for; see `Understanding.steps`."""

    def __call__(self, sentence: str, models: Sequence[str] = (), *, report: bool = False) -> list[Step]: ...


class Dialogue:
    """One session with a user.

    Args:
        models: those that "it" stands for at the beginning.
        confirm: ask for consent to what takes minutes, overwrites or stops something.
        background: what takes minutes runs in the background.

    Attributes:
        job: what runs in the background, if anything does or did.
        left: the user wants to leave.
    """

    def __init__(
        self,
        understand: Understand,
        session: Session,
        setting: Callable[[], Setting],
        actions: Actions,
        screen: Screen,
        *,
        models: Sequence[str] = (),
        confirm: bool = True,
        background: bool = False,
    ) -> None:
        self._understand = understand
        self._session = session
        self._setting = setting
        self._actions = actions
        self._screen = screen
        self._models = tuple(models)
        self._report_shown = False
        self._confirm = confirm
        self._background = background
        self.job: Job | None = None
        self.left = False

    def hear(self, sentence: str) -> int:
        """Execute a sentence.

        Returns:
            0; 1 if a step has failed, 2 if it is not understood or was not consented to. The steps after it are not
            done then.
        """
        found = self._understand(sentence, self._models, report=self._report_shown)
        if found[0].intent == steps.UNKNOWN:
            self._refuse(sentence, found[0], _not_understood(found[0]))
            return NOT_UNDERSTOOD
        settled = []
        for step in found:
            try:
                done = settle(self._narrowed(step), self._screen)
            except LqmfError as error:
                self._fail(sentence, step, error)
                return FAILURE
            if done is None:
                self._refuse(sentence, step, f"Nothing is done: {open_points(step) or 'it was not said'}.")
                return NOT_UNDERSTOOD
            settled.append(done)
        try:
            plan = self._plan(settled)
        except LqmfError as error:
            self._fail(sentence, settled[0], error)
            return FAILURE
        if not self._agreed(plan):
            self._refuse(sentence, settled[0], "Nothing is done.")
            return NOT_UNDERSTOOD
        return self._do(sentence, settled)

    def leave(self) -> None:
        """End the running job."""
        if self.job is not None and self.job.running:
            self._screen.say(f"cancelling {self.job.title}", "yellow")
            self.job.cancel()

    def _narrowed(self, step: Step) -> Step:
        """Only what is loaded is unloaded, and only versions that share requests are judged by them.

        Raises:
            UserInputError: no server runs, or the step is about such versions, names none, and there are none.
        """
        if not step.choices or step.intent not in (steps.UNLOAD, steps.JUDGE):
            return step
        setting = self._setting()
        if step.intent == steps.UNLOAD:
            if not setting.server and setting.several is None:
                raise UserInputError(NO_SERVER, hint='say "start the server" first')
            return among(step, setting.loaded)
        if setting.several is None and not setting.split():
            raise nothing_split(setting)
        return among(step, setting.split())

    def _plan(self, settled: Sequence[Step]) -> list[Command]:
        """What will be done, as far as can be said now. Later steps find the server that an earlier one starts."""
        setting = self._setting()
        plan: list[Command] = []
        for step in settled:
            if step.intent in _OF_RESULTS and plan:
                continue  # about what an earlier step leaves
            plan.append(command_of(step, setting))
            if step.intent == steps.START or (step.intent == steps.LOAD and not setting.server):
                port = step.arguments.get("port", setting.port)
                setting = replace(setting, server=setting.server or f"http://127.0.0.1:{port}")
            elif step.intent == steps.STOP:
                setting = replace(setting, server="", loaded=())
            if step.intent in (steps.LOAD, steps.START):
                setting = replace(setting, loaded=(*setting.loaded, *step.models))
        return plan

    def _agreed(self, plan: Sequence[Command]) -> bool:
        for command in plan:
            if command.step.intent not in _OF_RESULTS:
                self._show(command)
        reasons = [command.consent for command in plan if command.consent]
        if self.job is not None and self.job.running and any(c.step.intent == steps.EXIT for c in plan):
            reasons.append(f"{self.job.title} still runs and is cancelled")
        if not reasons or not self._confirm:
            return True
        return consents(self._screen, f"{'; '.join(dict.fromkeys(reasons)).capitalize()}. Go on?")

    def _show(self, command: Command) -> None:
        if command.shown:
            self._screen.say(f"→ {command.shown}", "cyan")

    def _do(self, sentence: str, todo: Sequence[Step]) -> int:
        """Execute the steps one after the other. After a run in the background the rest waits for its end."""
        for at, step in enumerate(todo):
            try:
                command = command_of(step, self._setting())
                if step.intent in _OF_RESULTS:
                    self._show(command)
                if command.is_long and self._background:
                    self._start_job(sentence, command, todo[at + 1 :])
                    return SUCCESS
                if self._perform(sentence, command) != DONE:
                    return FAILURE
            except LqmfError as error:
                self._fail(sentence, step, error)
                return FAILURE
        return SUCCESS

    def _perform(self, sentence: str, command: Command) -> str:
        if command.step.intent == steps.EXIT:
            self.left = True
        elif command.step.intent in (steps.PROGRESS, steps.CANCEL):
            self._about_job(command.step.intent)
        elif command.arguments:
            outcome = self._actions.run(command)
            return self._ended(sentence, command, outcome)
        else:
            self._actions.answer(command, self._session)
        self._keep(sentence, command)
        return DONE

    def _ended(self, sentence: str, command: Command, outcome: Outcome, *, cancelled: bool = False) -> str:
        """Record how a run of the program ended, and look for advice if it failed."""
        result = CANCELLED if cancelled else DONE if outcome.code == 0 else FAILED
        if command.step.intent == steps.STATUS and not outcome.error:
            result = DONE  # 1 says that no server runs, which is an answer
        experiment = command.step.intent == steps.EXPERIMENT  # others end while one runs in the background
        requests, tokens = self._actions.measured(outcome.seconds) if experiment else (0, 0)
        entry = self._keep(
            sentence, command, outcome=result, seconds=round(outcome.seconds, 2), error=outcome.error,
            hint=outcome.hint, requests=requests, tokens=tokens,
        )  # fmt: skip
        if result == FAILED:
            self._suggest(sentence, command, entry)
        return result

    def _suggest(self, sentence: str, command: Command, entry: Entry) -> None:
        advice = way_out(entry, all_entries(self._session.folder.parent))
        if advice is None:
            return
        self._screen.say(advice.text, "yellow")
        if self._background and command.is_long:
            self._screen.say(f"Try: lqmf {' '.join(advice.arguments)}", "yellow")
        elif consents(self._screen, "Shall I do that?"):
            again = replace(command, arguments=advice.arguments, shown=f"lqmf {' '.join(advice.arguments)}")
            self._keep(sentence, again, outcome=DONE if self._actions.run(again).code == 0 else FAILED)

    def _start_job(self, sentence: str, command: Command, rest: Sequence[Step]) -> None:
        if self.job is not None and self.job.running:
            raise UserInputError(
                f"{self.job.title} still runs, and two at once would disturb each other's figures",
                hint='say "progress" to see how far it is, or "cancel"',
            )
        title = " ".join([str(command.step.arguments.get("kind", "quantize")), *command.step.models])
        log = self._session.folder / f"job-{len(self._session.entries)}.log"
        self.job = job = Job(title, command.arguments, log)
        self._screen.say(
            f'{title} runs in the background: "progress" shows how far it is, "cancel" ends it', "dim"
        )

        def ended(outcome: Outcome) -> None:
            self._screen.say(job.output().strip()[-4000:])
            how = "cancelled" if job.cancelled else "done" if outcome.code == 0 else "failed"
            self._screen.say(
                f"{title}: {how} after {outcome.seconds:.0f} s", "green" if how == "done" else "red"
            )
            if self._ended(sentence, command, outcome, cancelled=job.cancelled) == DONE:
                self._after_job(sentence, rest)

        job.when_ended(ended)

    def _after_job(self, sentence: str, rest: Sequence[Step]) -> None:
        for at, step in enumerate(rest):
            if step.intent in (steps.CHAT, steps.EXIT):  # they need the prompt, which is the user's now
                self._screen.say(f"Next you wanted to {_purpose(step)}: say it again.", "yellow")
                return
            if self._do(sentence, [step]) != SUCCESS or (self.job is not None and self.job.running):
                if rest[at + 1 :]:
                    self._screen.say("The rest is not done.", "yellow")
                return

    def _about_job(self, intent: str) -> None:
        job = self.job
        if job is None or not job.running:
            self._screen.say("Nothing runs in the background.")
        elif intent == steps.CANCEL:
            job.cancel()
        else:
            self._screen.say(f"{job.title}: {job.seconds:.0f} s. {job.progress()}")

    def _keep(self, sentence: str, command: Command, outcome: str = DONE, **more: object) -> Entry:
        step = command.step
        entry = entry_at_now(
            say=sentence,
            intent=step.intent,
            arguments=step.arguments,
            command=command.shown,
            outcome=outcome,
            **more,
        )
        return self._add(entry)

    def _fail(self, sentence: str, step: Step, error: LqmfError) -> None:
        self._screen.say(f"error: {error.message}", "red")
        if error.hint:
            self._screen.say(f"hint: {error.hint}", "yellow")
        self._add(entry_at_now(say=sentence, intent=step.intent, arguments=step.arguments, outcome=FAILED,
                               error=error.message, hint=error.hint))  # fmt: skip

    def _refuse(self, sentence: str, step: Step, why: str) -> None:
        self._screen.say(why, "yellow")
        self._add(entry_at_now(say=sentence, intent=step.intent, arguments=step.arguments, outcome=REFUSED))

    def _add(self, entry: Entry) -> Entry:
        if entry.outcome == DONE and (models := models_after(entry.intent, entry.arguments)):
            self._models = tuple(models)
        if entry.outcome == DONE:
            self._report_shown = entry.intent == steps.REPORT
        known = self._session.problem
        self._session.add(entry)
        if self._session.problem and not known:
            self._screen.say(self._session.problem, "yellow")
        return entry


def sessions_folder(folder: str | None, output_dir: str) -> Path:
    """Where sessions are kept."""
    return Path(folder) if folder else Path(output_dir) / "console"


def _purpose(step: Step) -> str:
    return PURPOSES[step.intent]


def _not_understood(step: Step) -> str:
    words = without_controls(" ".join(step.unclear))[:80]
    return f'I do not understand "{words}". Nothing is done. Say "help" for what can be said.'
