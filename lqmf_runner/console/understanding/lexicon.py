"""The words and phrases that the console knows, by what they mean. A word may mean several things."""

from __future__ import annotations

from collections import defaultdict

from .spelling import words_of

_MEANINGS = """
load: load, loading, preload, mount, load up, load in
loaded: loaded, resident, in ram, in the ram
ready: ready
put: put, bring, get, move, take, keep
memory: memory, ram, vram
in_memory: in memory, into memory, in the memory, into the memory, to memory, into ram
out_of_memory: out of memory, from memory, out of the memory, from the memory, out of ram, from ram
unload: unload, unloading, eject, evict, offload, release, free up, free, get rid of, let go of
drop: drop, throw out
occupies: used by, taken by, taken up by, occupied by, held by, uses, takes, takes up, holds, occupies
remove: remove, take, drop, kick, throw, clear, get
unneeded: do not need, no longer need, not need
any_more: any more, anymore, any longer
start: start, launch, boot, begin, open, start up, fire up, spin up, turn on, switch on, boot up
bring_up: bring up
start: kick off, run, get, starting, launching
serve: serve, host, expose, deploy, serving, hosting, served
what_runs: what runs, what is running
runs: what runs
it_word: it
stop: stop, halt, kill, end, terminate, shutdown, shut down, turn off, switch off, bring down, take down
stop: close, stopping, shut
turn: turn, switch, shut, take, bring
off: off
down: down
up: up, running, up and running, on, going
server: server, api, endpoint, service, api server, rest api, rest server, http server, rest, daemon
server: servers, backend
show: show, display, print, list, see, view, give, tell, get, open, look at, let me see, listing, read
show: check, bring up
which: which, what
check: check, ping, look at, check on, look after
whether: whether, if
status: status, state, health, server status, api status, condition
alive: running, up, alive, online, healthy, reachable, live, on, down, ok, okay, working, active
alive: up and running, ready
anything: anything, something
doing: doing
chat: chat, talk, speak, converse, chatting, talking, chat session, chitchat, have a chat, have a talk
chat: have a word
have_conversation: have a conversation, conversation, dialogue
ask: ask
send: send
run: run, do, make, execute, start, perform, running, carry out, launch, launching, begin, process
experiment: experiment, experiments, test, try, evaluate, try out, trial, evaluation, experimenting, testing
benchmark: benchmark, bench, benchmarking, benchmarks, load test, stress test, performance test, speed test
benchmark: loadtest, stress, perf test, load tests, throughput test
measure: measure, test, check, determine, time, find out, profile, evaluate, testing
speed: speed, throughput, performance, latency, ttft, tokens per second, perf
how_fast: how fast, how quick, how quickly, how slow
compare: compare, comparison, comparing, contrast, side by side, head to head, pit, comparisons
versus: versus, vs, against
or: or
better: better, faster
than: than
reference: reference, baseline, as reference, as the reference, as a reference, as baseline, reference model
reference: as the baseline
batch: batch, bulk, batch job, batch run, batch mode, batches, every line, all lines, each line
batch: every question, all questions, every prompt, all prompts, each question, every row, all rows, each row
batch: the questions, the prompts, the lines, the rows, all the questions, all the prompts, all the lines
batch: all the rows
answer: answer, process, go through, work through, complete, run, answers
over: over, through, on, in, from, file, the file
conversation: conversation, multiturn, multi turn, dialogue, conversational, multi turn conversation
conversation: several turns, dialog, conversations, multi turn dialogue
prompts: prompts, prompt set
single: single, one prompt, single prompt, one question, single question, one shot, single shot, oneshot
single: one message, once
models: models, model, llms, llm
available: what can i run, what can i use, what can i load, what is there to run
available: available, installed, local, on disk, existing, present, on this machine, on the disk, downloaded
there: there, here
here: laptop, computer, machine, pc, on this machine, on this laptop, on my laptop, for this laptop
use: use, run, choose, pick, take, using, used, try
employ: use, switch to, go with
did_word: did
can_i: can i, could i, may i
runs: runs, experiments, benchmarks, comparisons, past runs, past experiments
done: done, so far, made, run, until now, did
report: report, results, summary, verdict, result, findings, outcome, reports, conclusion
report_verb: say, show, find, give
last: last, latest, most recent, newest, recent, previous
run_noun: run, experiment, benchmark, comparison, compare, test
statistics: statistics, stats, statistic, metrics, counters, usage statistics, figures, numbers, usage
how_many: how many, number of, count of
counted: requests, tokens, commands, messages, questions, questions asked
session: session, this session, today, my session
happened: been, used, sent, did, made, typed, have, there, send, use, type, asked, given, so far, far, spent
happened: run
history: history, log of runs, timeline
past: past, earlier, old, previous, former
change: change, changed, develop, developed, evolve, evolved
over_time: over time, lately, recently
trend: trend, trends, progress over time
worse: worse, slower, got worse, gotten worse, become worse, regressed, degraded, got slower, worsened
worse: become slower
regressions: regressions, regression
did: did, does, has, have, get, got, become, go, gone, going
recommend: recommend, suggest, advise, recommendation, propose, suggestion, recommended
should: should, would, best to, ought
best: best, good, optimal, better, ideal, right
fast: fast, fastest, quickest, quick, speediest, faster, highest throughput, speed
small: smallest, small, lightest, light, least memory, leanest, smaller, tiniest, tiny, uses least memory
small: less memory
accurate: accurate, accuracy, best quality, quality, closest to the original, most accurate, faithful
accurate: most faithful, closest to the reference, precise, highest quality, smartest
most: most, the most, highest
fits: fits, fit, needs, need, takes, uses, requires, within, under, below, less than, at most, up to, max
fits: smaller than, fitting, maximum, less, no more than
upper: under, within, below, less than, at most, up to, max, smaller than, maximum, no more than
reaches: gives, give, reaches, reach, manages, manage, achieves, achieve, delivers, gets, does, do
least: over, above, at least, no less than, not less than, more than, minimum, at minimum, min
for: for, with, at, under
users: users, user, people, clients, concurrent users, simultaneous users, concurrent requests
users: parallel users, at once, concurrent, concurrency, parallel requests, requests at once, simultaneous
users: at the same time
why: why, how come
lose: lose, lost, not win, not the best, not best, not chosen, not recommended, not the winner, worse, fail
lose: not first, rejected
quantize: quantize, quantise, quantization, compress, convert, shrink, quantizing, quantizes, quantisation
quantize: turn, quantised, quantized, squeeze
make: make, create, produce, build, generate
out_of: out of, from, into, to, as, using, with, by, via, of, format, version, method, type, between
pull: pull, download, fetch, pulling, downloading
hub: hub, from the hub, hugging face, huggingface, from hugging face
weights: weights
want: want, need
winner: winner, who won, which won, which model won, which one won, who is the winner
how_much: how much
how: how
help: help, help me, usage, instructions, manual, commands, assist, assistance, guide, what can you do
help: what can i say, what can i do, how does this work, how does it work, how do i use this, what do you do
help: what can i type, what are my options, what do you understand, what is possible
how_to: how do i, how can i, how to, how would i, help with, help me with, help on, explain how to
how_to: how do you, show me how to, explain, help about, how should i
commands: commands, options
exit: exit, quit, bye, goodbye, leave, good bye, see you, i am done, that is all, we are done, i am finished
exit: that will be all, close, end, log out, logout, good night, ciao, i am out, get out
console: console, program, this, session, prompt, shell, app, application, thanks
yes: yes
progress: progress, how far, jobs, tasks, job, how long
progress: how long will it take, how long will that take, how long does it take, how long does that take
cancel: cancel, abort, interrupt
work: job, work, task, benchmark, comparison, experiment, run, it, everything, batch
version: version, versions, other versions, version list, version history
promote: promote, promotion, promoting, crown
champion: champion, the champion, live, in production, the live one
candidate: candidate
switch: switch, move, upgrade
back: back
roll: roll, take, bring, switch, put
roll_back: roll back, rollback, rolling back, go back, revert, restore, undo, switch back, fall back
take_over: take over, takes over, answer
from_now: from now on
let: let, have
served: served, as served, what was served, what they served, what they have served, what it served
served: what each served, what each has served, live traffic
split: split, split test, traffic split
judge: judge, decide
wins: wins, winning, ahead, who wins, who is ahead, who is winning
scale: scale, scale up, scale down, scaling, rescale, resize
set: set, change, increase, raise, lower, reduce, decrease
give: give
replicas: replicas, replica, copies, instances, workers
is: is, are, was, were, be, am, being
all: all, every, each, everything, both, any
"""

FILLERS = words_of(
    """
    please can could you would i want like to the a an me my for of now just hey hi hello ok okay some do with in on
    it us let this that them and then also finally next first will go ahead right need we our your at as so well
    kindly lets currently again quickly thanks thank by away here there have
    """
)
"""Words that change nothing where an intent does not ask for them."""

PRONOUNS = frozenset({"it", "that", "them", "this", "those", "these", "one"})
"""They stand for the models of the step before."""


def _read() -> tuple[dict[tuple[str, ...], frozenset[str]], int]:
    phrases: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for line in _MEANINGS.strip().splitlines():
        meaning, _, texts = line.partition(": ")
        for text in texts.split(", "):
            phrases[tuple(text.split())].add(meaning)
    return {phrase: frozenset(meanings) for phrase, meanings in phrases.items()}, max(map(len, phrases))


PHRASES, LONGEST = _read()
WORDS = frozenset(word for phrase in PHRASES for word in phrase) | FILLERS | PRONOUNS
SPELLED = tuple(sorted(word for word in WORDS if len(word) >= 4))
"""The words to which a typing error may be corrected."""
