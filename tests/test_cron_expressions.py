"""Cron expressions: grammar (F1), clock changes (F2), previews (F8), and checks with croniter."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import cloaca

# A factor for the number of random examples. `make fuzz` sets a higher factor.
TIMES = int(os.environ.get("CLOACINA_FUZZ", "1"))

ZONES = [
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
]


def preview(expression: str, zone: str = "UTC", n: int = 3, start: str | datetime = "2026-01-01"):
    if isinstance(start, str):
        start = datetime.fromisoformat(start).replace(tzinfo=UTC)
    return cloaca.cron_preview(expression, zone, n, start)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 9 * * *", ["2026-01-01T09:30", "2026-01-02T09:30"]),
        ("15 30 9 * * *", ["2026-01-01T09:30:15", "2026-01-02T09:30:15"]),
        ("*/20 * * * *", ["2026-01-01T00:20", "2026-01-01T00:40"]),
        ("10-30/10 5 * * *", ["2026-01-01T05:10", "2026-01-01T05:20", "2026-01-01T05:30"]),
        ("0 8,20 * * *", ["2026-01-01T08:00", "2026-01-01T20:00"]),
        ("0 0 * FEB MON-tue", ["2026-02-02T00:00", "2026-02-03T00:00", "2026-02-09T00:00"]),
        ("0 0 * * 0", ["2026-01-04T00:00", "2026-01-11T00:00"]),
        ("0 0 * * 7", ["2026-01-04T00:00", "2026-01-11T00:00"]),
        ("0 0 * * FRI-SUN", ["2026-01-02T00:00", "2026-01-03T00:00", "2026-01-04T00:00"]),
        ("0 0 L * *", ["2026-01-31T00:00", "2026-02-28T00:00"]),
        ("0 0 1,L * *", ["2026-01-31T00:00", "2026-02-01T00:00"]),
        ("0 0 * * MON#2", ["2026-01-12T00:00", "2026-02-09T00:00"]),
        ("0 0 * * 1#1,5#5", ["2026-01-05T00:00", "2026-01-30T00:00", "2026-02-02T00:00"]),
        ("0 0 13 * FRI", ["2026-01-02T00:00", "2026-01-09T00:00", "2026-01-13T00:00"]),
        ("@hourly", ["2026-01-01T01:00", "2026-01-01T02:00"]),
        ("@daily", ["2026-01-02T00:00"]),
        ("@weekly", ["2026-01-04T00:00"]),
        ("@monthly", ["2026-02-01T00:00"]),
        ("@yearly", ["2027-01-01T00:00"]),
        ("@Annually", ["2027-01-01T00:00"]),
        ("  0\t12  * * * ", ["2026-01-01T12:00"]),
        ("0 0 29 2 *", ["2028-02-29T00:00", "2032-02-29T00:00"]),
    ],
)
def test_f1_expressions_fire_at_the_expected_times(expression, expected):
    times = preview(expression, n=len(expected))
    assert times == [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in expected]


@pytest.mark.parametrize(
    ("expression", "position", "expected"),
    [
        ("", 1, "expected 5 fields, or 6 with seconds first"),
        ("* * * *", 8, "expected 5 fields, or 6 with seconds first"),
        ("* * * * * * 2026", 13, "expected 5 fields, or 6 with seconds first"),
        ("60 * * * *", 1, "a number from 0 to 59"),
        ("0 24 * * *", 3, "a number from 0 to 23"),
        ("0 0 0 * *", 5, "a number from 1 to 31"),
        ("0 0 32 * *", 5, "a number from 1 to 31"),
        ("0 0 * 13 *", 7, "a number from 1 to 12 or a name from JAN to DEC"),
        ("0 0 * * 8", 9, "a number from 0 to 7 or a name from SUN to SAT"),
        ("0 0 * * MONDAY", 9, "a number from 0 to 7 or a name from SUN to SAT"),
        ("0 0 * MON *", 7, "a name from JAN to DEC"),
        ("1,,2 * * * *", 3, "a number from 0 to 59"),
        ("1,2, * * * *", 5, "a number from 0 to 59"),
        ("5/15 * * * *", 1, "'*/15' or a range before the step"),
        ("*/0 * * * *", 3, "a step from 1 to 9999"),
        ("*/x * * * *", 3, "a step from 1 to 9999"),
        ("30-10 * * * *", 1, "a range that ends after its start"),
        ("0 22-2 * * *", 3, "a range that ends after its start"),
        ("5-5 * * * *", 1, "a range that ends after its start"),
        ("-5 * * * *", 1, "a number from 0 to 59"),
        ("*,5 * * * *", 1, "'*' alone"),
        ("0 0 L * * *", 5, "L, the last day, is for the day of month only"),
        ("0 0 * * 5L", 9, "a number from 0 to 7"),
        ("0 0 15W * *", 5, "a number from 1 to 31"),
        ("0 0 ? * *", 5, "a number from 1 to 31"),
        ("0 0 * * MON#6", 13, "from 1 to 5"),
        ("0 0 * * 1,2#1", 9, "either plain weekdays or nth weekdays"),
        ("0 0 1 * MON#1", 9, "'*' or plain weekdays next to a day of month"),
        ("0 0 1-31 * */2", 5, "'*' for every day"),
        ("@midnigth", 1, "@hourly"),
        ("@reboot", 1, "@hourly"),
        ("٣ * * * *", 1, "a number from 0 to 59"),
        ("99999999999999999999 * * * *", 1, "a number from 0 to 59"),
        ("0\u00a00 * * * *", 1, "a number from 0 to 59"),
    ],
)
def test_f1_error_has_the_position_and_the_expected_syntax(expression, position, expected):
    with pytest.raises(cloaca.ScheduleError) as caught:
        preview(expression)
    assert isinstance(caught.value, ValueError)
    assert f"at position {position}:" in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 30,31 FEB *"])
def test_an_expression_that_never_fires_is_refused(expression):
    with pytest.raises(cloaca.ScheduleError, match="never fires"):
        preview(expression)


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Europe/Berln", "'Europe/Berlin'"),
        ("europe/berlin", "'Europe/Berlin'"),
        ("Berlin", "'Europe/Berlin'"),
        ("America/New York", "'America/New_York'"),
        ("Nowhere/Atall", "'Europe/Berlin'"),
        ("", "'Europe/Berlin'"),
    ],
)
def test_an_unknown_zone_is_refused_with_the_nearest_names(zone, hint):
    with pytest.raises(cloaca.ScheduleError, match="is not an IANA time zone") as caught:
        preview("* * * * *", zone)
    assert caught.value.hint is not None
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("* * * * *", "UTC", -1), cloaca.ConfigurationError),
        (("* * * * *", "UTC", 1.5), cloaca.ConfigurationError),
        (("* * * * *", "UTC", 1, datetime(2026, 1, 1)), cloaca.ConfigurationError),
        ((5, "UTC"), cloaca.ScheduleError),
        (("* * * * *", None), cloaca.ScheduleError),
    ],
)
def test_a_preview_refuses_bad_arguments(arguments, kind):
    with pytest.raises(kind):
        cloaca.cron_preview(*arguments)


def test_f8_a_preview_has_the_offsets_of_the_zone():
    times = preview("0 12 * * *", "Europe/Berlin", 3, "2026-03-27T12:00")
    offsets = [time.utcoffset() for time in times]
    assert offsets == [timedelta(hours=1), timedelta(hours=2), timedelta(hours=2)]
    assert cloaca.cron_preview("* * * * *", "UTC", 0) == []
    assert len(cloaca.cron_preview("* * * * *", "UTC")) == 5


# --- clock changes, compared with Python's own zone database ---


def transitions(zone: ZoneInfo, first: int, last: int) -> list[datetime]:
    """Returns the instants (exact to the minute) at which the clocks of a zone change."""
    found = []
    step = timedelta(hours=6)
    at = datetime(first, 1, 1, tzinfo=UTC)
    while at.year <= last:
        low, high = at, at + step
        if low.astimezone(zone).utcoffset() != high.astimezone(zone).utcoffset():
            while high - low > timedelta(minutes=1):
                middle = low + (high - low) / 2
                middle = middle.replace(second=0, microsecond=0)
                if middle.astimezone(zone).utcoffset() == low.astimezone(zone).utcoffset():
                    low = middle
                else:
                    high = middle
            found.append(high)
        at += step
    return found


def minutes(zone: ZoneInfo, around: datetime) -> list[tuple[datetime, datetime]]:
    """Returns all minutes of the four days around an instant, in UTC and in wall clock time."""
    start = around - timedelta(days=2)
    instants = [start + timedelta(minutes=minute) for minute in range(4 * 24 * 60)]
    return [(at, at.astimezone(zone).replace(tzinfo=None)) for at in instants]


def fixed_times(table, hour: int, minute: int) -> list[datetime]:
    """Returns the instants at which a schedule with a fixed wall clock time fires (F2).

    On each day, this is the first instant with the wall clock time, or the end of the gap that
    contains this time.
    """
    days = sorted({wall.date() for _, wall in table})
    days = [days[0] + timedelta(days=n) for n in range((days[-1] - days[0]).days + 1)]
    found = []
    for day in days:
        wanted = datetime(day.year, day.month, day.day, hour, minute)
        if not table[0][1] < wanted < table[-1][1]:
            continue
        exact = [at for at, wall in table if wall == wanted]
        found.append(exact[0] if exact else next(at for at, wall in table if wall > wanted))
    return sorted(set(found))


def elapsed_times(table, matches) -> list[datetime]:
    """Returns the instants at which a schedule with a wildcard fires (F2).

    These are all instants whose wall clock time matches.
    """
    return [at for at, wall in table if matches(wall)]


FIXED = [(0, 0), (0, 30), (1, 30), (1, 45), (2, 0), (2, 15), (2, 30), (3, 0), (23, 59)]
ELAPSED = [
    ("*/30 * * * *", lambda wall: wall.minute % 30 == 0),
    ("15 * * * *", lambda wall: wall.minute == 15),
    ("0 */2 * * *", lambda wall: wall.minute == 0 and wall.hour % 2 == 0),
    ("*/20 1 * * *", lambda wall: wall.minute % 20 == 0 and wall.hour == 1),
    ("10 2-23/3 * * *", lambda wall: wall.minute == 10 and wall.hour in range(2, 24, 3)),
]


def changes() -> list[tuple[str, datetime]]:
    found = []
    for name in ZONES:
        zone = ZoneInfo(name)
        of_zone = transitions(zone, 2006, 2025)
        # Kathmandu did not change its clocks in these years. Its last change was in 1986.
        found += [(name, at) for at in of_zone or transitions(zone, 1985, 1986)]
    return found


CHANGES = changes()


def test_all_clock_changes_of_twenty_years_are_found():
    count = {name: sum(zone == name for zone, _ in CHANGES) for name in ZONES}
    assert count["America/New_York"] == count["Europe/London"] == 40
    assert count["Australia/Lord_Howe"] == 40
    assert count["Asia/Kathmandu"] == 1
    skipped = datetime(2011, 12, 30, 10, tzinfo=UTC)
    assert ("Pacific/Apia", skipped) in CHANGES


@pytest.mark.parametrize("name", ZONES)
def test_f2_fixed_times_fire_once_and_wildcards_fire_by_elapsed_time(name):
    zone = ZoneInfo(name)
    for zone_name, change in CHANGES:
        if zone_name != name:
            continue
        table = minutes(zone, change)
        for expression, matches in ELAPSED:
            expected = elapsed_times(table[1:], matches)
            found = cloaca.cron_preview(expression, name, len(expected), table[0][0])
            assert found == expected, (change, expression)
        for hour, minute in FIXED:
            expected = fixed_times(table, hour, minute)
            start = table[0][0]
            found = cloaca.cron_preview(f"{minute} {hour} * * *", name, len(expected) + 3, start)
            last = table[-1][0] - timedelta(days=1)
            assert [at for at in found if at < last] == [
                at for at in expected if start < at < last
            ], (change, hour, minute)


@pytest.mark.parametrize(
    ("expression", "zone", "start", "expected"),
    [
        # Spring: the clock skips 02:00 to 02:59. Ticks for these times fire once, at 03:00.
        (
            "30 2 * * *",
            "America/New_York",
            "2026-03-07T12:00",
            ["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"],
        ),
        (
            "0,30 2 * * *",
            "America/New_York",
            "2026-03-08T01:00",
            ["2026-03-08T03:00:00-04:00", "2026-03-09T02:00:00-04:00"],
        ),
        (
            "0 2,3 * * *",
            "America/New_York",
            "2026-03-08T01:00",
            ["2026-03-08T03:00:00-04:00", "2026-03-09T02:00:00-04:00"],
        ),
        # Autumn: 01:30 occurs twice. The expression fires only the first time.
        (
            "30 1 * * *",
            "America/New_York",
            "2026-10-31T12:00",
            ["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"],
        ),
        (
            "0 1-3 * * *",
            "America/New_York",
            "2026-11-01T04:30",
            ["2026-11-01T01:00:00-04:00", "2026-11-01T02:00:00-05:00", "2026-11-01T03:00:00-05:00"],
        ),
        # After a start between the two 01:30s, the next tick is at 01:30 of the next day.
        ("30 1 * * *", "America/New_York", "2026-11-01T05:45", ["2026-11-02T01:30:00-05:00"]),
        # A clock change does not affect an expression that fires every half hour.
        (
            "*/30 * * * *",
            "America/New_York",
            "2026-11-01T05:15",
            ["2026-11-01T01:30:00-04:00", "2026-11-01T01:00:00-05:00", "2026-11-01T01:30:00-05:00"],
        ),
        # Lord Howe moves its clocks by only half an hour.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T00:00",
            ["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"],
        ),
        # Apia skipped the 30th of December 2011.
        (
            "0 9 * * *",
            "Pacific/Apia",
            "2011-12-29T12:00",
            ["2011-12-29T09:00:00-10:00", "2011-12-31T00:00:00+14:00", "2011-12-31T09:00:00+14:00"],
        ),
    ],
)
def test_f2_examples_fire_as_expected_around_clock_changes(expression, zone, start, expected):
    times = preview(expression, zone, len(expected), start)
    assert [time.isoformat() for time in times] == expected


# --- comparison with croniter ---


def field(low: int, high: int, *, step: bool = True) -> st.SearchStrategy[str]:
    number = st.integers(low, high).map(str)
    span = st.tuples(st.integers(low, high), st.integers(low, high)).filter(
        lambda pair: pair[0] < pair[1]
    )
    ranges = span.map(lambda pair: f"{pair[0]}-{pair[1]}")
    steps = st.tuples(ranges, st.integers(1, high)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    items = st.one_of(number, ranges, steps) if step else st.one_of(number, ranges)
    lists = st.lists(items, min_size=1, max_size=3).map(",".join)
    stars = st.integers(2, max(high // 2, 2)).map(lambda every: f"*/{every}")
    return (
        st.one_of(st.just("*"), stars, number, lists)
        if step
        else st.one_of(st.just("*"), number, lists)
    )


WEEKDAYS = ["sun", "MON", "Tue", "WED", "thu", "FRI", "sat"]
NTH = st.lists(
    st.tuples(st.sampled_from([*WEEKDAYS, *"01234567"]), st.integers(1, 4)),
    min_size=1,
    max_size=2,
).map(lambda days: ",".join(f"{day}#{nth}" for day, nth in days))


@st.composite
def expressions(draw: st.DrawFn) -> str:
    parts = [draw(field(0, 59)), draw(field(0, 23))]
    if draw(st.booleans()):
        parts.insert(0, draw(field(0, 59)))
    kind = draw(st.sampled_from(["days", "weekdays", "both", "nth", "last"]))
    day = weekday = "*"
    if kind in ("days", "both"):
        day = draw(field(1, 31))
    if kind in ("weekdays", "both"):
        weekday = draw(st.one_of(field(0, 6), st.sampled_from([*WEEKDAYS, "MON-FRI", "FRI-SUN"])))
    if kind == "nth":
        weekday = draw(NTH)
    if kind == "last":
        day = "L"
    month = draw(st.one_of(field(1, 12), st.sampled_from(["JAN", "feb-APR", "Oct,NOV"])))
    return " ".join([*parts, day, month, weekday])


def oracle(expression: str, start: datetime, n: int) -> list[datetime]:
    has_seconds = len(expression.split()) == 6
    times = croniter(expression, start, ret_type=datetime, second_at_beginning=has_seconds)
    return [times.get_next() for _ in range(n)]


# croniter and the core differ in three cases:
# - "clock changes": croniter fires fixed times twice when clocks go back. The tests of F2 above
#   check these ticks instead.
# - "never": for an expression that never fires, croniter searches fifty years and then fails. The
#   core refuses the expression.
# - "every day as a list": croniter treats a full list of days as '*' when the other day field has a
#   star. The core refuses the combination.

instants = st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)).map(
    lambda at: at.replace(microsecond=0)
)


@settings(max_examples=400 * TIMES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(expressions(), st.sampled_from(["UTC", "Europe/Berlin", *ZONES]), instants)
def test_the_core_and_croniter_agree(expression, zone_name, start):
    zone = ZoneInfo(zone_name)
    try:
        found = cloaca.cron_preview(expression, zone_name, 4, start)
    except cloaca.ScheduleError as error:
        told = str(error)
    else:
        told = ""
    if told:
        # This is the divergence "never" or the divergence "every day as a list".
        assert "never fires" in told or "'*' for every day" in told
        return
    expected = oracle(expression, start.astimezone(zone), 4)
    window = [start + timedelta(days=days) for days in (-1, 0, 1)]
    for tick in [*found, *expected]:
        window += [tick.astimezone(UTC) + timedelta(days=days) for days in (-1, 0, 1)]
    if len({at.astimezone(zone).utcoffset() for at in window}) > 1:
        # This is the divergence "clock changes". Only the first tick is compared, and only if the
        # clocks do not change near this tick.
        first = [start, found[0], expected[0]]
        around = [at.astimezone(UTC) + timedelta(days=days) for at in first for days in (-1, 0, 1)]
        assume(len({at.astimezone(zone).utcoffset() for at in around}) == 1)
        assert found[0] == expected[0]
        return
    assert found == expected


@settings(max_examples=200 * TIMES, deadline=None)
@given(st.text(alphabet="0123456789*/,-#LWMONFRIJAN? @x\t", max_size=24))
def test_any_text_is_parsed_or_refused(text):
    try:
        times = cloaca.cron_preview(text, "UTC", 2, datetime(2026, 1, 1, tzinfo=UTC))
    except cloaca.ScheduleError:
        return
    expression = text.strip().lower()
    assert oracle(expression, datetime(2026, 1, 1, tzinfo=UTC), 2) == times
