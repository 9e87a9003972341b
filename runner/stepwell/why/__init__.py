"""Why isn't it moving? One sentence, since when, until when, and what happens next: for runs, functions and events.

Every face of the product (HTTP, the command line, a DurableFunction's conditions) takes its sentences from here. All of it is
pure: the facts come in, nothing is looked up.
"""

from stepwell.why.answer import Paused, Runners, WaitingFor, Why
from stepwell.why.event import MOST_RUNS, EventWhy, Reaction, Recorded, event_why, listening, reactions
from stepwell.why.function import FunctionFacts, FunctionState, FunctionWhy, Pods, function_why, no_pods
from stepwell.why.run import ALONE, Around, waiting_for
from stepwell.why.words import brief, clock_time, pause_sentence, span

__all__ = [
    "ALONE",
    "MOST_RUNS",
    "Around",
    "EventWhy",
    "FunctionFacts",
    "FunctionState",
    "FunctionWhy",
    "Paused",
    "Pods",
    "Reaction",
    "Recorded",
    "Runners",
    "WaitingFor",
    "Why",
    "brief",
    "clock_time",
    "event_why",
    "function_why",
    "listening",
    "no_pods",
    "pause_sentence",
    "reactions",
    "span",
    "waiting_for",
]
