//! Tests of the rules about schedules and triggers (semantics F1, F4–F6, G1, G4).
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use cloacina::engine::cron::Cron;
use cloacina::engine::schedule::{
    Decision, MAX_LATENESS, MAX_TICKS, NewSchedule, ScheduleInputs, TAKEOVER_DELAY, Tick,
    between_ticks, changed, cron_of, deleted, evaluate, input, registered_again, switched,
};
use cloacina::engine::trigger::{self, NewTrigger, PollOutcome};
use cloacina::types::{
    Catchup, Context, ErrorCode, ExecutionId, Json, Micros, Overlap, ScheduleId, ScheduleRecord,
    TickOutcome, Timestamp,
};
use proptest::prelude::*;

const SECOND: Micros = 1_000_000;
const HOUR: Micros = 3600 * SECOND;
/// 2025-06-15T12:00:00Z
const NOON: Timestamp = Timestamp(1_749_988_800_000_000);

fn id() -> ScheduleId {
    ScheduleId::from_bytes([7; 16])
}

/// Returns a schedule that fires every ten seconds and was registered at noon.
fn every_ten(change: impl FnOnce(&mut NewSchedule)) -> ScheduleRecord {
    let mut new = NewSchedule::new("etl", "*/10 * * * * *", "UTC");
    change(&mut new);
    new.record(id(), NOON).unwrap()
}

/// Returns the inputs of a sole runner that has been alive since noon.
fn at(now: Timestamp) -> ScheduleInputs {
    ScheduleInputs {
        now,
        online_since: NOON,
        others_since: None,
        is_open: false,
        max_catchup: 100,
    }
}

/// Returns the number of whole seconds from noon to this time.
fn seconds(after: Timestamp) -> i64 {
    after.since(NOON) / SECOND
}

/// Evaluates the schedule. Returns the new record and each tick's due time, in seconds after noon, with its outcome.
fn outcomes_of(
    record: &ScheduleRecord,
    inputs: ScheduleInputs,
) -> (ScheduleRecord, Vec<(i64, TickOutcome)>) {
    let (record, ticks) = change(record, inputs);
    let pairs = ticks
        .iter()
        .map(|tick| (seconds(tick.due_at), tick.outcome));
    (record, pairs.collect())
}

/// Evaluates a schedule. Returns the new record and the ticks. Panics if the runner leaves the schedule to its peers.
fn change(record: &ScheduleRecord, inputs: ScheduleInputs) -> (ScheduleRecord, Vec<Tick>) {
    match evaluate(record, &cron_of(record).unwrap(), inputs) {
        Decision::Change(record, ticks) => (*record, ticks),
        Decision::Leave(until) => panic!("left until {until}"),
    }
}

/// Evaluates the schedule until nothing is due any more.
fn evaluate_all(mut record: ScheduleRecord, inputs: ScheduleInputs) -> (ScheduleRecord, Vec<Tick>) {
    let mut all = Vec::new();
    while record.wake_at.is_some_and(|at| at <= inputs.now) {
        let (after, ticks) = change(&record, inputs);
        assert!(ticks.len() <= MAX_TICKS);
        all.extend(ticks);
        record = after;
    }
    (record, all)
}

use TickOutcome::{Fired, Missed, Overlapped, Queued};

#[test]
fn tick_fires_at_its_time_and_the_next_one_is_scheduled() {
    let record = every_ten(|_| {});
    assert_eq!(record.next_due.map(seconds), Some(10));
    assert_eq!(record.wake_at, record.next_due);
    let (record, ticks) = outcomes_of(&record, at(NOON + 10 * SECOND + 3_000));
    assert_eq!(ticks, [(10, Fired)]);
    assert_eq!(record.next_due.map(seconds), Some(20));
    assert_eq!(record.last_due.map(seconds), Some(10));
    assert_eq!(record.state.last_fired_at.map(seconds), Some(10));
    let (same, ticks) = outcomes_of(&record, at(NOON + 11 * SECOND));
    assert_eq!((same, ticks), (record, Vec::new()));
}

#[test]
fn runs_requested_at_the_same_time_have_different_due_times() {
    let mut record = every_ten(|_| {});
    let mut earlier = NOON;
    for _ in 0..4 {
        let due_at = between_ticks(&record, NOON);
        assert!(due_at > earlier);
        assert_ne!(due_at.0 % SECOND, 0);
        record.state.last_fired_at = Some(due_at);
        earlier = due_at;
    }
}

#[test]
fn late_tick_within_the_maximum_lateness_still_fires() {
    let record = every_ten(|_| {});
    let (_, ticks) = outcomes_of(&record, at(NOON + 35 * SECOND));
    assert_eq!(ticks, [(10, Fired), (20, Fired), (30, Fired)]);
    // The first two ticks are late by more than `MAX_LATENESS`, as if the machine had slept.
    let (record, ticks) = outcomes_of(&record, at(NOON + 10 * SECOND + MAX_LATENESS + 15 * SECOND));
    assert_eq!(ticks[..3], [(10, Missed), (20, Missed), (30, Fired)]);
    assert_eq!(record.next_due.map(seconds), Some(90));
}

/// Evaluates the schedule on a runner that starts 45 seconds after noon. No runner was alive before.
fn after_downtime(record: &ScheduleRecord) -> (ScheduleRecord, Vec<(i64, TickOutcome)>) {
    let now = NOON + 45 * SECOND;
    let inputs = ScheduleInputs {
        online_since: now,
        ..at(now)
    };
    outcomes_of(record, inputs)
}

#[test]
fn f4_catchup_skip_only_records_missed_ticks() {
    let (record, ticks) = after_downtime(&every_ten(|_| {}));
    assert_eq!(
        ticks,
        [(10, Missed), (20, Missed), (30, Missed), (40, Missed)]
    );
    assert_eq!(record.next_due.map(seconds), Some(50));
    assert_eq!(record.state.last_fired_at, None);
}

#[test]
fn f4_catchup_latest_fires_only_the_last_missed_tick() {
    let record = every_ten(|new| new.catchup = Catchup::Latest);
    let (_, ticks) = after_downtime(&record);
    assert_eq!(
        ticks,
        [(10, Missed), (20, Missed), (30, Missed), (40, Fired)]
    );
}

#[test]
fn f4_catchup_all_fires_missed_ticks_oldest_first_up_to_its_limit() {
    let record = every_ten(|new| new.catchup = Catchup::All);
    let (_, ticks) = after_downtime(&record);
    assert_eq!(ticks, [(10, Fired), (20, Fired), (30, Fired), (40, Fired)]);
    let record = every_ten(|new| {
        new.catchup = Catchup::All;
        new.max_catchup = Some(3);
    });
    let (_, ticks) = after_downtime(&record);
    assert_eq!(ticks, [(10, Fired), (20, Fired), (30, Fired), (40, Missed)]);
}

#[test]
fn f4_year_of_missed_ticks_records_few_ticks() {
    for catchup in [Catchup::Skip, Catchup::Latest, Catchup::All] {
        let mut new = NewSchedule::new("etl", "* * * * * *", "UTC");
        new.catchup = catchup;
        let record = new.record(id(), NOON).unwrap();
        let now = NOON + 365 * 24 * HOUR;
        let inputs = ScheduleInputs {
            online_since: now,
            ..at(now)
        };
        let (record, ticks) = evaluate_all(record, inputs);
        assert_eq!(record.next_due, Some(now + SECOND));
        assert!(ticks.len() <= 1_002, "{}", ticks.len());
        let fired: Vec<Timestamp> = ticks
            .iter()
            .filter(|tick| tick.outcome == Fired)
            .map(|tick| tick.due_at)
            .collect();
        // The tick of the current second is on time.
        let expected = match catchup {
            Catchup::Skip => vec![now],
            Catchup::Latest => vec![now - SECOND, now],
            Catchup::All => (1..=100).map(|n| NOON + n * SECOND).chain([now]).collect(),
        };
        assert_eq!(fired, expected);
        let detailed: Vec<&Tick> = ticks.iter().filter(|tick| tick.detail.is_some()).collect();
        assert_eq!(detailed.len(), 1);
        assert_eq!(detailed[0].due_at, now - SECOND);
    }
}

#[test]
fn f4_long_catch_up_proceeds_in_bounded_steps() {
    let mut new = NewSchedule::new("etl", "* * * * * *", "UTC");
    new.catchup = Catchup::All;
    new.max_catchup = Some(1_200);
    let record = new.record(id(), NOON).unwrap();
    let now = NOON + 200_000 * SECOND;
    let inputs = ScheduleInputs {
        online_since: now,
        ..at(now)
    };
    let (record, mut ticks) = change(&record, inputs);
    assert_eq!(ticks.len(), MAX_TICKS);
    assert_eq!(
        record.wake_at, record.next_due,
        "the remaining ticks are due at once"
    );
    // Another runner evaluates the schedule next, after another downtime. The ticks of that downtime count as missed too.
    let later = now + HOUR;
    let inputs = ScheduleInputs {
        online_since: later,
        ..at(later)
    };
    let (record, rest) = evaluate_all(record, inputs);
    ticks.extend(rest);
    assert_eq!(record.next_due, Some(later + SECOND));
    assert_eq!(record.state.catching_up, None);
    assert!(ticks.is_sorted_by_key(|tick| tick.due_at));
    let fired = |until: Timestamp| {
        let fired = ticks.iter().filter(|tick| tick.outcome == Fired);
        fired.filter(|tick| tick.due_at < until).count()
    };
    // For each of the two downtimes 1,200 ticks fire. The tick of the current second fires last.
    assert_eq!((fired(now), fired(later)), (1_200, 2_400));
    assert_eq!(ticks.last().unwrap().outcome, Fired);
    assert_eq!(ticks.iter().filter(|tick| tick.detail.is_some()).count(), 2);
}

#[test]
fn new_runner_leaves_an_earlier_tick_to_older_runners_at_first() {
    let record = every_ten(|_| {});
    let now = NOON + 10 * SECOND + 500_000;
    let inputs = |now| ScheduleInputs {
        online_since: NOON + 10 * SECOND + 400_000,
        others_since: Some(NOON),
        ..at(now)
    };
    let cron = cron_of(&record).unwrap();
    let due = NOON + 10 * SECOND;
    assert_eq!(
        evaluate(&record, &cron, inputs(now)),
        Decision::Leave(due + TAKEOVER_DELAY)
    );
    // The older runner did not fire the tick within the takeover delay, so the new runner fires it.
    let (_, ticks) = outcomes_of(&record, inputs(due + TAKEOVER_DELAY));
    assert_eq!(ticks, [(10, Fired)]);
    // The other runner also started after the tick, so the tick counts as missed.
    let younger = ScheduleInputs {
        others_since: Some(due + 1),
        ..inputs(now)
    };
    assert_eq!(outcomes_of(&record, younger).1, [(10, Missed)]);
}

#[test]
fn f4_overlap_skip_drops_ticks_while_an_execution_is_open() {
    let record = every_ten(|new| new.overlap = Overlap::Skip);
    let open = ScheduleInputs {
        is_open: true,
        ..at(NOON + 10 * SECOND)
    };
    let (record, ticks) = outcomes_of(&record, open);
    assert_eq!(ticks, [(10, Overlapped)]);
    // Two ticks are due. The first starts an execution, which the second overlaps.
    let (_, ticks) = outcomes_of(&record, at(NOON + 30 * SECOND));
    assert_eq!(ticks, [(20, Fired), (30, Overlapped)]);
}

#[test]
fn f4_overlap_queue_fires_in_order_as_executions_end() {
    let record = every_ten(|new| new.overlap = Overlap::Queue);
    let open = |now| ScheduleInputs {
        is_open: true,
        ..at(now)
    };
    let (record, ticks) = outcomes_of(&record, at(NOON + 20 * SECOND));
    assert_eq!(ticks, [(10, Fired), (20, Queued)]);
    let (record, ticks) = outcomes_of(&record, open(NOON + 30 * SECOND));
    assert_eq!(ticks, [(30, Queued)]);
    // The execution has ended, so the first queued tick fires. The other queued tick stays in the queue.
    let (record, ticks) = outcomes_of(&record, at(NOON + 31 * SECOND));
    assert_eq!(ticks, [(20, Fired)]);
    let (record, ticks) = outcomes_of(&record, open(NOON + 32 * SECOND));
    assert_eq!(ticks, []);
    let (record, ticks) = outcomes_of(&record, at(NOON + 40 * SECOND));
    assert_eq!(ticks, [(30, Fired), (40, Queued)]);
    assert!(
        record.wake_at < Some(NOON + 50 * SECOND),
        "a runner must evaluate the queue again"
    );
}

#[test]
fn f6_ticks_while_disabled_are_not_caught_up() {
    let record = every_ten(|new| new.catchup = Catchup::All);
    let off = switched(&record, false, NOON + 5 * SECOND).unwrap();
    assert_eq!((off.next_due, off.wake_at), (None, None));
    let on = switched(&off, true, NOON + 61 * SECOND).unwrap();
    assert_eq!(on.next_due.map(seconds), Some(70));
    assert_eq!(outcomes_of(&on, at(NOON + 71 * SECOND)).1, [(70, Fired)]);
}

#[test]
fn f6_no_tick_fires_before_the_start_or_after_the_end() {
    let record = every_ten(|new| {
        new.start_at = Some(NOON + 30 * SECOND);
        new.end_at = Some(NOON + 40 * SECOND);
    });
    assert_eq!(record.next_due.map(seconds), Some(30));
    let (record, ticks) = outcomes_of(&record, at(NOON + 55 * SECOND));
    assert_eq!(ticks, [(30, Fired), (40, Fired)]);
    assert_eq!((record.next_due, record.wake_at), (None, None));
    // Ticks after the schedule's end do not count as missed.
    let record = every_ten(|new| new.end_at = Some(NOON + 20 * SECOND));
    assert_eq!(after_downtime(&record).1, [(10, Missed), (20, Missed)]);
}

#[test]
fn f6_jitter_is_the_same_for_each_evaluation_of_a_tick() {
    let record = every_ten(|new| new.jitter = 5 * SECOND);
    let due = record.next_due.unwrap();
    let wake = record.wake_at.unwrap();
    assert_eq!(seconds(due), 10);
    assert!((due..=due + 5 * SECOND).contains(&wake));
    assert_eq!(every_ten(|new| new.jitter = 5 * SECOND).wake_at, Some(wake));
    assert_eq!(outcomes_of(&record, at(wake - 1)).1, []);
    assert_eq!(outcomes_of(&record, at(wake)).1, [(10, Fired)]);
    let (next, _) = outcomes_of(&record, at(wake));
    assert_ne!(
        next.wake_at.unwrap().since(next.next_due.unwrap()),
        wake.since(due)
    );
}

#[test]
fn f6_execution_input_describes_the_tick() {
    let record = every_ten(|new| {
        new.input.set("day", Json::from_encoder("\"monday\""));
        new.input.set("schedule_id", Json::from_encoder("\"mine\""));
    });
    let input = input(&record, NOON);
    let expected = format!(
        r#"{{"day":"monday","schedule_id":"{}","scheduled_time":"2025-06-15T12:00:00.000000Z","schedule_timezone":"UTC","schedule_expression":"*/10 * * * * *"}}"#,
        id()
    );
    assert_eq!(input.to_json(), expected);
}

#[test]
fn f5_registering_again_changes_only_the_options() {
    let known = switched(&every_ten(|_| {}), false, NOON).unwrap();
    let cron = cron_of(&known).unwrap();
    let later = NOON + HOUR;
    let again = |change: fn(&mut NewSchedule)| {
        let mut new = NewSchedule::new("etl", " */10 * * * * * ", "UTC");
        change(&mut new);
        let new = new.record(ScheduleId::from_bytes([8; 16]), later).unwrap();
        assert_eq!(new.identity, known.identity);
        registered_again(&known, &new, &cron, later)
    };
    assert_eq!(again(|_| {}), None);
    assert_eq!(again(|new| new.enabled = true), None);
    let changed = again(|new| new.overlap = Overlap::Queue).unwrap();
    assert_eq!(
        (changed.id, changed.enabled, changed.next_due),
        (known.id, false, None)
    );
    assert_eq!(changed.spec.overlap, Overlap::Queue);
    let identity = |change: fn(&mut NewSchedule)| every_ten(change).identity;
    let others = [
        identity(|new| new.workflow = "other".to_owned()),
        identity(|new| new.expression = "*/20 * * * * *".to_owned()),
        identity(|new| new.timezone = "Europe/Berlin".to_owned()),
        identity(|new| new.instance = Some("second".to_owned())),
    ];
    assert!(others.iter().all(|other| *other != known.identity));
}

#[test]
fn f6_changed_expression_or_zone_changes_the_next_tick() {
    let known = every_ten(|_| {});
    let record = changed(&known, Some("0 9 * * *"), Some("Europe/Berlin"), NOON).unwrap();
    // Nine o'clock in Berlin is seven in UTC.
    assert_eq!(record.next_due.map(seconds), Some(19 * 3600));
    assert_ne!(record.identity, known.identity);
    let record = changed(&record, None, Some("UTC"), NOON).unwrap();
    assert_eq!(record.next_due.map(seconds), Some(21 * 3600));
    assert!(changed(&known, Some("61 * * * *"), None, NOON).is_err());
    assert!(changed(&known, None, Some("Mars/Olympus"), NOON).is_err());
}

#[test]
fn f6_deleted_schedule_does_not_fire() {
    let record = deleted(&every_ten(|_| {}), NOON);
    assert_eq!(
        (record.next_due, record.wake_at, record.enabled),
        (None, None, false)
    );
    assert_eq!(record.deleted_at, Some(NOON));
}

#[test]
fn f1_invalid_options_are_refused() {
    let refused = |change: fn(&mut NewSchedule)| {
        let mut new = NewSchedule::new("etl", "* * * * *", "UTC");
        change(&mut new);
        let error = new.record(id(), NOON).unwrap_err();
        assert_eq!(error.code, ErrorCode::ScheduleInvalid);
        error.message
    };
    assert!(refused(|new| new.jitter = -1).contains("jitter"));
    assert!(refused(|new| new.workflow = "no name".to_owned()).contains("'no name'"));
    assert!(refused(|new| new.workflow = String::new()).contains("1 to 255"));
    assert!(refused(|new| new.instance = Some("x".repeat(256))).contains("instance_name"));
    assert!(refused(|new| new.timezone = "Mars/Olympus".to_owned()).contains("IANA"));
    let backwards = refused(|new| {
        new.start_at = Some(NOON);
        new.end_at = Some(NOON);
    });
    assert!(backwards.contains("must come after"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No tick is processed twice or left out, even if the clock jumps forward or back.
    #[test]
    fn clock_jumps_do_not_repeat_or_lose_ticks(
        steps in proptest::collection::vec(-4_000_i64..4_000, 1..40),
        catchup in proptest::sample::select(Catchup::ALL),
    ) {
        let mut record = every_ten(|new| new.catchup = catchup);
        let cron = cron_of(&record).unwrap();
        let mut now = NOON;
        let mut seen: Vec<i64> = Vec::new();
        for step in steps {
            now = now + step * SECOND;
            let inputs = ScheduleInputs { online_since: NOON.min(now), ..at(now) };
            if let Decision::Change(after, ticks) = evaluate(&record, &cron, inputs) {
                seen.extend(ticks.iter().map(|tick| seconds(tick.due_at)));
                record = *after;
            }
        }
        let expected: Vec<i64> = (1..=i64::try_from(seen.len()).unwrap()).map(|n| n * 10).collect();
        prop_assert_eq!(seen, expected);
    }

    /// `last_between` finds the same tick as stepping through the span with `next_after`.
    #[test]
    fn last_between_finds_the_last_tick_of_a_span(
        expression in proptest::sample::select(vec![
            "* * * * * *", "*/7 * * * *", "0 9 * * MON-FRI", "0 0 L * *", "15 3 29 2 *",
        ]),
        span in 1_i64..40_000_000,
        start in 0_i64..100_000_000,
    ) {
        let cron = Cron::parse(expression, "America/New_York").unwrap();
        let (after, until) = (NOON + start * SECOND, NOON + (start + span.min(20_000)) * SECOND);
        let mut counted = None;
        let mut next = cron.next_after(after);
        while let Some(at) = next.filter(|at| *at <= until) {
            counted = Some(at);
            next = cron.next_after(at);
        }
        prop_assert_eq!(cron.last_between(after, until), counted);
    }
}

/// Returns a trigger that is polled every ten seconds and was registered at noon.
fn poller(change: impl FnOnce(&mut NewTrigger)) -> Result<ScheduleRecord, cloacina::types::Error> {
    let mut new = NewTrigger {
        name: "inbox".to_owned(),
        workflow: "etl".to_owned(),
        interval: Some(10 * SECOND),
        expression: None,
        timezone: "UTC".to_owned(),
        allow_concurrent: false,
        after: None,
    };
    change(&mut new);
    new.record(id(), NOON)
}

#[test]
fn g1_trigger_is_polled_at_its_interval_by_one_runner() {
    let record = poller(|_| {}).unwrap();
    assert_eq!(record.wake_at, Some(NOON));
    let taken = trigger::lease_taken(&record, NOON, 15 * SECOND);
    assert_eq!(taken.wake_at.map(seconds), Some(15));
    let held = trigger::lease_extended(&taken, NOON + 8 * SECOND, 15 * SECOND);
    assert_eq!(held.wake_at.map(seconds), Some(23));
    let (after, tick) = trigger::after_poll(&held, &PollOutcome::Skip, false, NOON + 2 * SECOND);
    assert_eq!((after.wake_at.map(seconds), tick), (Some(10), None));
    // The trigger is polled again immediately if its function took longer than the interval.
    let (late, _) = trigger::after_poll(&held, &PollOutcome::Skip, false, NOON + 17 * SECOND);
    assert_eq!(late.wake_at.map(seconds), Some(17));
    // A clock that was set back does not delay the next poll.
    let (early, _) = trigger::after_poll(&held, &PollOutcome::Skip, false, NOON - HOUR);
    assert_eq!(early.wake_at, Some(NOON - HOUR + 10 * SECOND));
}

#[test]
fn g1_poll_outcomes_start_executions_or_record_errors() {
    let taken = trigger::lease_taken(&poller(|_| {}).unwrap(), NOON, SECOND);
    let fire = PollOutcome::Fire(Context::new());
    let tick_of = |record: &ScheduleRecord, outcome: &PollOutcome, open| {
        trigger::after_poll(record, outcome, open, NOON).1
    };
    assert_eq!(tick_of(&taken, &fire, false), Some(Fired));
    assert_eq!(tick_of(&taken, &fire, true), Some(Overlapped));
    let failed = PollOutcome::Failed("ouch".to_owned());
    let (record, tick) = trigger::after_poll(&taken, &failed, false, NOON);
    assert_eq!(tick, Some(TickOutcome::Failed));
    assert_eq!(record.state.last_error.as_deref(), Some("ouch"));
    assert!(record.wake_at.is_some());
    let mut concurrent = taken;
    concurrent.spec.overlap = Overlap::Allow;
    concurrent.state.open = vec![ExecutionId::from_bytes([1; 16])];
    assert_eq!(tick_of(&concurrent, &fire, true), Some(Fired));
}

#[test]
fn g1_trigger_needs_either_an_interval_or_an_expression() {
    assert!(poller(|new| new.interval = None).is_err());
    assert!(poller(|new| new.interval = Some(0)).is_err());
    assert!(poller(|new| new.expression = Some("* * * * *".to_owned())).is_err());
    assert!(poller(|new| new.name = String::new()).is_err());
    let at_times = poller(|new| {
        new.interval = None;
        new.expression = Some("0 * * * *".to_owned());
    });
    assert_eq!(at_times.unwrap().wake_at.map(seconds), Some(3600));
}

mod explained {
    use super::*;
    use cloacina::engine::{ScheduleDiagnosisInput, ScheduleReason, explain_schedule};
    use cloacina::types::{Presence, RunnerId};

    fn runner(lease_until: Timestamp) -> Presence {
        Presence {
            id: RunnerId::from_bytes([1; 16]),
            host: "here".to_owned(),
            pid: 1,
            started_at: NOON,
            heartbeat_at: NOON,
            lease_until,
            vanished: false,
        }
    }

    fn sentences(record: &ScheduleRecord, is_workflow_known: bool, alive: bool) -> Vec<String> {
        let lease_until = NOON + if alive { HOUR } else { -HOUR };
        let input = ScheduleDiagnosisInput {
            pending: 0,
            is_workflow_known,
            runners: &[runner(lease_until)],
            now: NOON,
        };
        let reasons: Vec<ScheduleReason> = explain_schedule(record, &input);
        reasons.iter().map(|reason| reason.sentence(NOON)).collect()
    }

    #[test]
    fn reasons_why_a_schedule_does_not_fire_are_explained() {
        let record = every_ten(|_| ());
        let reasons = sentences(&record, true, true);
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        assert!(
            reasons[0].contains("next time: 2025-06-15 12:00:10 UTC (in 10 s)"),
            "{reasons:?}"
        );

        let reasons = sentences(&record, false, false);
        assert!(
            reasons[0].contains("no program has stored a definition"),
            "{reasons:?}"
        );
        assert_eq!(
            reasons[1],
            "There is no live runner to fire the schedule or trigger."
        );

        let off = switched(&record, false, NOON).unwrap();
        let reasons = sentences(&off, true, true);
        assert!(reasons[0].contains("is disabled"), "{reasons:?}");

        let gone = deleted(&record, NOON);
        let reasons = sentences(&gone, true, true);
        assert!(
            reasons[0].contains("was deleted at 2025-06-15 12:00:00 UTC"),
            "{reasons:?}"
        );
    }

    #[test]
    fn queued_ticks_and_the_schedules_end_are_explained() {
        let mut record = every_ten(|new| new.overlap = Overlap::Queue);
        let open = ExecutionId::from_bytes([9; 16]);
        record.state.open.push(open);
        record.state.queued.extend([NOON, NOON + SECOND]);
        let reasons = sentences(&record, true, true);
        assert_eq!(
            reasons[0],
            format!(
                "Because of the schedule's overlap rule, 2 ticks wait for the end of execution {open}."
            )
        );

        let mut over = every_ten(|new| new.end_at = Some(NOON + SECOND));
        over.next_due = None;
        let reasons = sentences(&over, true, true);
        assert!(
            reasons[0].contains("has no more ticks: it ended at"),
            "{reasons:?}"
        );
    }

    #[test]
    fn error_of_a_trigger_function_is_explained() {
        let mut record = every_ten(|_| ());
        record.kind = cloacina::types::ScheduleKind::Trigger;
        record.identity = "new_file".to_owned();
        record.state.last_error = Some("OSError: gone".to_owned());
        let reasons = sentences(&record, true, true);
        assert_eq!(
            reasons[0],
            "The trigger's function raised an error at the last poll: OSError: gone."
        );
        assert!(
            reasons[1].starts_with("Trigger 'new_file' starts workflow 'etl'"),
            "{reasons:?}"
        );
    }
}

#[test]
fn g4_trigger_follows_only_final_statuses_and_retries_with_growing_pauses() {
    use cloacina::engine::after;
    use cloacina::types::{After, ExecutionStatus, PendingEnd};

    let follow = |workflow: &str, statuses: &[ExecutionStatus]| NewTrigger {
        name: "follow".to_owned(),
        workflow: "load".to_owned(),
        interval: None,
        expression: None,
        timezone: "UTC".to_owned(),
        allow_concurrent: false,
        after: Some(After {
            workflow: workflow.to_owned(),
            statuses: statuses.to_vec(),
        }),
    };
    let record = |new: NewTrigger| new.record(ScheduleId::generate(), NOON);
    let refused = [
        follow("", &[ExecutionStatus::Completed]),
        follow("etl", &[]),
        follow("etl", &[ExecutionStatus::Running]),
        follow("etl", &[ExecutionStatus::Failed, ExecutionStatus::Failed]),
        NewTrigger {
            interval: Some(SECOND),
            ..follow("etl", &[ExecutionStatus::Completed])
        },
    ];
    for new in refused {
        assert!(record(new.clone()).is_err(), "{new:?}");
    }
    // The trigger is not polled. Each of its ticks has a later time than the previous tick, even if the clock stands
    // still.
    let known = record(follow("etl", &[ExecutionStatus::Completed])).unwrap();
    assert_eq!((known.next_due, known.wake_at), (None, None));
    let mut held = trigger::lease_taken(&known, NOON, SECOND);
    assert_eq!(held.wake_at, Some(NOON + SECOND));
    after::settled(&mut held, 3, NOON);
    assert_eq!((held.next_due, held.wake_at), (None, None));
    assert!(trigger::lease_taken(&held, NOON, SECOND).last_due > Some(NOON + 3));

    let mut end = PendingEnd {
        execution: cloacina::types::ExecutionId::generate(),
        ended_at: NOON,
        attempts: 0,
    };
    assert_eq!(after::again(&end, false, NOON), None);
    let mut pauses = Vec::new();
    while let Some((at, attempts)) = after::again(&end, true, NOON) {
        pauses.push(at.since(NOON) / SECOND);
        end.attempts = attempts;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256]);
    assert_eq!(end.attempts, after::MAX_CALLS - 1);
}
