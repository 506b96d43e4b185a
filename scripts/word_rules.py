"""The rules of check_words.py, each with examples that it finds (`bad`) or accepts (`good`).

A rule searches each paragraph for its `pattern`, ignoring case. The words of the paragraph are
joined by single spaces. `kinds` lists the kinds of text that the rule reads: `doc` (the first
paragraph of a doc comment or docstring), `comment`, `string`, `markdown`, and `name` (the words of
an item's name).
"""

from __future__ import annotations

import re
from typing import NamedTuple

PROSE = ("doc", "comment", "string", "markdown")
SUBJECT = "name the subject: a runner, a worker thread, a caller"
DESCRIPTION = "begin with a noun or a verb: 'The number of …', 'Returns …'"


class Rule(NamedTuple):
    name: str
    pattern: str
    hint: str
    bad: tuple[str, ...]
    good: tuple[str, ...]
    kinds: tuple[str, ...] = PROSE

    def found_in(self, text: str) -> list[re.Match[str]]:
        return list(re.finditer(self.pattern, text, re.IGNORECASE))


RULES = (
    Rule(
        "question-word",
        r"^(who|whom|whose|what|where|how|which|when|why)\W*$",
        "say what the item is or does",
        bad=("Whom.", "How.", "When", "Why."),
        good=("When it happened.", "The runner that has the task.", "Whether it ended."),
        kinds=("doc",),
    ),
    # Finds a fragment of two to four words, unless it ends with a question mark.
    Rule(
        "fragment",
        r"^(who|whom|whose|what|where|how|which)( \S+){1,3}?([.:;](?= |$)|(?<![?.:;])$)",
        DESCRIPTION,
        bad=("What it costs.", "How many.", "Who waits: by store.", "Which attempt"),
        good=(
            "How long a task classed as short may run before its queue is offered to others.",
            "Reply channels of callers waiting for shutdown to finish.",
            "How many are left?",
        ),
        kinds=("doc",),
    ),
    # Finds text in which nothing looks like a verb: it has no auxiliary, no word that ends in -s or
    # -ed, and no pronoun, article or other word that a subject starts with.
    Rule(
        "fragment",
        (
            r"^(who|whom|whose|what|where|how|which) (?![^.]*\?)(?![^.]*\b((is|are|was|were"
            r"|be|has|have|had|do|does|did|may|might|can|could|must|will|would|shall|should"
            r"|to|[a-z]{2,}ed|[a-z]{3,}s)\b|(it|one|they|we|you|that|this|these|an?|the|each"
            r"|every|no|its|there) ))[^.]*"
        ),
        DESCRIPTION,
        bad=("How deep, and by which kind of path.",),
        good=("How often a waiting caller checks that the coordinator is alive.",),
        kinds=("doc",),
    ),
    Rule(
        "question-word",
        r"^(who|whom|whose|what|where|which)\b(?![^.]*\?)",
        DESCRIPTION,
        bad=("What became of one task of an execution.", "Which failures are retried."),
        good=("The result of one task of an execution.", "Whether it ended."),
        kinds=("doc",),
    ),
    # Finds entries for arguments and attributes in docstrings.
    Rule(
        "question-word",
        r"(?:^|(?<= ))[a-z_]\w*: (?-i:Who|Whom|Whose|What|Where|How|Which|When)\b(?![^.;]*\?)",
        "begin the entry with a noun: 'Maximum number of …'",
        bad=("Args: limit: How many at most.", "Attributes: message: What the exception said."),
        good=("Args: limit: Maximum number of rows.", "Note: what it returns is kept."),
        kinds=("doc", "comment"),
    ),
    Rule(
        "so-long",
        r"^(for )?so (long|many|often|much|far) (an?|as|it|the|they|there|is|of|may)\b",
        "say what the value is, with its unit: 'Maximum time a task may …'",
        bad=(
            "So long a task that was expected to be short may keep others from a free worker.",
            "So many of them are read at once.",
        ),
        good=("Maximum time a task classed as short may run.", "So far nothing was written."),
        kinds=("doc", "comment"),
    ),
    Rule(
        "so-long",
        r"\b(for|after|within) so long\b(?! (that|as)\b)",
        "name the time",
        bad=("A session that does not end for so long hangs.", "All must end within so long."),
        good=(
            "It was idle for so long that the server closed it.",
            "A session that does not end within this time hangs.",
        ),
    ),
    Rule(
        "is-no",
        (
            r"(?<!\bthere )\b(is|are|was|were) no (?!(longer|such|more|less|fewer|better"
            r"|worse|later|earlier|older|newer|larger|smaller|slower|faster)\b)"
        ),
        "write 'is not a …' or 'has no …'",
        bad=(
            "'{text}' is no port",
            "the file of authorities holds what is no certificate",
            "a key is no\n    string",
        ),
        good=(
            "'{text}' is not a port",
            "the task is no longer claimed",
            "there is no execution 7",
            "it is no slower than SQLite",
        ),
    ),
    Rule(
        "who",
        r"(^|(?<=[.:;] ))(who|whom) [a-z]+ [^.?]*([.:;]|$)(?!\?)",
        SUBJECT,
        bad=(
            "Who asked for the stop that was carried out.",
            "Opening one costs milliseconds. Who has got one keeps it.",
            "Who is alone claims far ahead",
        ),
        good=(
            "Reply channels of callers waiting for shutdown to finish.",
            "A caller who waits is served in turn.",
            "Who runs it?",
        ),
        kinds=("doc", "comment", "string"),
    ),
    Rule(
        "who",
        r"\b(whoever|whomever|he who|those of (them|these|those) (that|which|who))\b",
        SUBJECT,
        bad=(
            "Whoever takes them makes the step.",
            "Those of them that lend their slot while they wait.",
        ),
        good=(
            "The thread that drains the queue also runs the step.",
            "The tasks that released their slot while deferred.",
        ),
    ),
    Rule(
        "it-is-that",
        r"\bit is (not )?(the|an?) (caller|coordinator|database|engine|process|runner|server|store"
        r"|task|thread|worker) that\b",
        "begin with the subject",
        bad=("It is the database that keeps them apart.",),
        good=("The database keeps them apart.", "It is the UUID that was returned."),
    ),
    Rule(
        "plain-word",
        r"\bwhere (left out|omitted|there (is|are) none|none (is|was))\b",
        "write 'if omitted' or 'if there is none'",
        bad=("A URL; an SQLite file where left out.", "`None` where there is none."),
        good=("A URL; an SQLite file if omitted.", "`None` if there is none."),
    ),
    Rule(
        "plain-word",
        r"\bof our own\b",
        "write 'separate', 'custom' or 'generated'",
        bad=("The versions are kept in a table of our own.",),
        good=("The versions are kept in a separate table.",),
    ),
    Rule(
        "plain-word",
        r"\blest\b",
        "write 'so that … not'",
        bad=("It waits, lest a row be lost.",),
        good=("It waits so that no row is lost.",),
    ),
    Rule(
        "plain-word",
        r"\banew\b",
        "write 'again' or 'from scratch'",
        bad=("Draws the pictures anew.",),
        good=("Draws the pictures again.", "Redraws the pictures."),
    ),
    Rule(
        "plain-word",
        r"\b(gives?|gave|giving) place\b",
        "write 'yields' or 'makes room'",
        bad=("The older one gives place.",),
        good=("The older one is evicted.", "Gives places in a queue."),
    ),
    Rule(
        "plain-word",
        r"\bmend(s|ed|ing)?\b",
        "write 'fix' or 'repair'",
        bad=("Formats the sources and mends what the linter can.",),
        good=("Formats the sources and fixes what the linter can.", "Amends the commit."),
    ),
    Rule(
        "plain-word",
        r"\bin vain\b",
        "say what was not found",
        bad=("Looking in vain writes nothing.",),
        good=("A look that finds no work writes nothing.",),
    ),
    Rule(
        "plain-word",
        r"\bhoard(s|ed|ing)?\b",
        "write 'prefetches too much'",
        bad=("What one hoards another one lacks.",),
        good=("Prefetch is capped so that one runner does not starve the others.",),
    ),
    Rule(
        "plain-word",
        r"\bfarewells?\b",
        "write 'subscription' or 'reply channel'",
        bad=("The farewells of callers.",),
        good=("The reply channels of callers.",),
    ),
    Rule(
        "plain-word",
        r"\bin company\b",
        "write 'while other runners are live'",
        bad=("In company it claims less.",),
        good=("It claims less while other runners are live.",),
    ),
    Rule(
        "plain-word",
        r"\bsuffer(s|ed|ing)?\b",
        "write 'enters an outage' or 'fails'",
        bad=("The coordinator suffers.",),
        good=("The coordinator enters an outage.",),
    ),
    Rule(
        "plain-word",
        r"\btaken for dead\b",
        "write 'declared dead'",
        bad=("A silent runner is taken for dead.",),
        good=("A runner whose lease expired is declared dead.",),
    ),
    Rule(
        "plain-word",
        r"\b(comes?|came) to (its|their|an) end\b",
        "write 'completes' or 'ends'",
        bad=("The execution comes to its end.",),
        good=("The execution completes.",),
    ),
    Rule(
        "former-name",
        r"\bbirthplaces?\b",
        "the term is 'process guard'",
        bad=("The birthplace of a runner.",),
        good=("The process guard of a runner.",),
        kinds=(*PROSE, "name"),
    ),
    Rule(
        "former-name",
        r"\b(whereabouts|switchboards?|berths?)\b",
        "the terms are 'session info', 'shared listener' and 'pool slot'",
        bad=("The whereabouts of a session.", "The switchboard.", "A free berth."),
        good=("The session info.", "The shared listener.", "A free pool slot."),
        kinds=(*PROSE, "name"),
    ),
    Rule(
        "former-name",
        r"\b(crews?|seats?)\b",
        "the terms are 'worker host' and 'runner slot'",
        bad=("Its crew.", "A seat of the crew."),
        good=("Its worker host.", "A runner slot of the worker host."),
        kinds=(*PROSE, "name"),
    ),
    Rule(
        "former-name",
        r"\bbells?\b",
        "the terms are 'change notifier' and 'loop waker'",
        bad=("Rings the bell.",),
        good=("Wakes the event loop.",),
        kinds=(*PROSE, "name"),
    ),
    Rule(
        "former-name",
        r"\b(lends?|lent|lending)\b",
        "the terms are 'release a slot' and 'reacquire a slot'",
        bad=("Lends its slot while it waits.",),
        good=("Releases its slot while it waits.",),
        kinds=(*PROSE, "name"),
    ),
    Rule(
        "long-name",
        r"^(\S+ ){12,}\S+$",
        "state one fact in the present tense, in about ten words",
        bad=(
            "c6_what_goes_before_something_that_is_claimed_is_claimed_too_by_a_runner_that_is_alone",
        ),
        good=("c6_sole_runner_keeps_claim_order_in_its_prefetch",),
        kinds=("name",),
    ),
)
