//! Generates random conditions of waits, and checks them independently of the engine (semantics L3, L5, L7–L9).

use cloacina::types::{
    Condition, ExecutionId, ExecutionRecord, HistoryEvent, Leaf, Micros, OpenWait, Ordinal, Since,
    TaskRecord, Timestamp,
};
use cloacina::workflow::condition_problem;
use fastrand::Rng;

use super::oracle::{Coverage, Oracle};
use super::scenario::{MILLISECOND, SECOND};
use super::waits::{key, name_of};
use super::world::EPOCH;

/// Returns a random condition of a wait: a signal, a time, or a combination of conditions.
pub fn random(rng: &mut Rng) -> Condition {
    loop {
        let condition = draw(rng, 0);
        if condition_problem(&condition).is_none() {
            return condition;
        }
    }
}

/// Draws a condition, which may be invalid. Combinations are nested at most two levels deep.
fn draw(rng: &mut Rng, depth: u8) -> Condition {
    match rng.u8(0..if depth < 2 { 12 } else { 8 }) {
        0 => Condition::Delay {
            duration: rng.i64(100..10_000) * MILLISECOND,
        },
        1 => Condition::Until {
            at: Some(Timestamp(EPOCH + rng.i64(0..60_000) * MILLISECOND)),
            path: None,
        },
        8..=9 => Condition::AnyOf {
            conditions: (0..rng.usize(1..4)).map(|_| draw(rng, depth + 1)).collect(),
        },
        10..=11 => Condition::AllOf {
            conditions: (0..rng.usize(1..4)).map(|_| draw(rng, depth + 1)).collect(),
        },
        _ => {
            let key = key(rng);
            let mut signal = Condition::signal(name_of(key), key);
            if let Condition::Signal { since, .. } = &mut signal
                && rng.bool()
            {
                *since = Since::Ever;
            }
            signal
        }
    }
}

/// Returns a random timeout for a wait.
pub fn timeout(rng: &mut Rng) -> Micros {
    rng.i64(5..300) * SECOND / 10
}

/// A signal that a wait took, read from an event of the history.
#[derive(serde::Deserialize)]
pub struct TakenSignal {
    name: String,
    key: Option<String>,
    pub seq: i64,
}

impl TakenSignal {
    pub fn of(event: &HistoryEvent) -> Option<Self> {
        event.data.as_ref()?.decode().ok()
    }

    fn is_of(&self, leaf: &Leaf) -> bool {
        matches!(leaf, Leaf::Signal { name, key, taken: None, .. } if *name == self.name && *key == self.key)
    }
}

impl Oracle {
    /// L3: checks that each part of a wait takes the first signal after the positions of its cursors. Returns the sequence
    /// number of the signal that each part has afterwards.
    pub(super) fn check_taken(
        &mut self,
        id: ExecutionId,
        ordinal: Ordinal,
        open: &OpenWait,
        taken: &[TakenSignal],
    ) -> Vec<Option<i64>> {
        let firsts: Vec<Option<i64>> = (open.leaves.iter())
            .map(|leaf| self.signals.first_for(leaf).map(|signal| signal.seq))
            .collect();
        let has_taken = |(leaf, first): &(&Leaf, &Option<i64>), signal: &TakenSignal| {
            signal.is_of(leaf) && **first == Some(signal.seq)
        };
        let parts = || open.leaves.iter().zip(&firsts);
        for signal in taken {
            self.cover(Coverage::SignalTaken);
            let is_first = parts().any(|part| has_taken(&part, signal));
            self.check(is_first, || {
                format!(
                    "task {ordinal} of {id} took signal {}, but the first signals are {firsts:?}",
                    signal.seq
                )
            });
        }
        let taken_by_part = parts().map(|(leaf, first)| match leaf {
            Leaf::Signal {
                taken: Some(earlier),
                ..
            } => Some(earlier.seq),
            _ => first.filter(|_| taken.iter().any(|signal| has_taken(&(leaf, first), signal))),
        });
        taken_by_part.collect()
    }

    /// L7–L9: checks that a wait ended because its condition held.
    pub(super) fn check_held(
        &mut self,
        id: ExecutionId,
        ordinal: Ordinal,
        condition: Option<&Condition>,
        open: &OpenWait,
        taken: &[Option<i64>],
        now: Timestamp,
    ) {
        let soon = now + self.skew;
        let mut holds = (open.leaves.iter().zip(taken)).map(|(leaf, taken)| match leaf {
            Leaf::Signal { .. } => taken.is_some(),
            Leaf::Timer { at, fired, .. } => *fired || *at <= soon,
        });
        let has_ended = condition.is_some_and(|condition| condition.holds(&mut holds));
        self.check(has_ended, || {
            format!("the wait of task {ordinal} of {id} ended before its condition held: {open:?}")
        });
        let is_by_time = taken.iter().all(Option::is_none);
        self.cover(match condition {
            _ if is_by_time => Coverage::TimerFired,
            Some(Condition::AnyOf { .. }) => Coverage::AnyOfHeld,
            Some(Condition::AllOf { .. }) => Coverage::AllOfHeld,
            _ => Coverage::SignalHeld,
        });
    }

    /// L7: checks a wait that timed out: its condition did not hold with the signals stored so far, and its deadline
    /// has passed.
    pub(super) fn check_not_held(
        &mut self,
        id: ExecutionId,
        ordinal: Ordinal,
        condition: Option<&Condition>,
        open: &OpenWait,
        now: Timestamp,
    ) {
        let skew = self.skew;
        let holds: Vec<bool> = (open.leaves.iter())
            .map(|leaf| match leaf {
                Leaf::Signal { taken, .. } => {
                    taken.is_some() || self.signals.first_for(leaf).is_some()
                }
                // A timer that is due after the deadline does not count, because it can become due while a slow
                // transaction writes the timeout.
                Leaf::Timer { at, fired, .. } => {
                    *fired || open.deadline.is_some_and(|deadline| *at <= deadline)
                }
            })
            .collect();
        let held = condition.is_some_and(|condition| condition.holds(&mut holds.into_iter()));
        self.check(!held, || {
            format!("task {ordinal} of {id} timed out although its condition held: {open:?}")
        });
        let is_over = open.deadline.is_some_and(|deadline| deadline <= now + skew);
        self.check(is_over, || {
            format!(
                "task {ordinal} of {id} timed out before its deadline {:?}",
                open.deadline
            )
        });
    }

    /// L9, L14: checks that an open wait keeps its signals, that a fixed time does not move, and that other timers move only
    /// because of a pause.
    pub(super) fn check_kept(
        &mut self,
        record: &ExecutionRecord,
        ordinal: Ordinal,
        old: &TaskRecord,
        is_resumed: bool,
    ) {
        let (Some(before), Some(after)) =
            (old.open_wait(), record.tasks[ordinal as usize].open_wait())
        else {
            return;
        };
        let is_kept = before.leaves.len() == after.leaves.len()
            && before
                .leaves
                .iter()
                .zip(&after.leaves)
                .all(|pair| match pair {
                    (Leaf::Signal { taken: old, .. }, Leaf::Signal { taken: new, .. }) => {
                        old.is_none() || old == new
                    }
                    (
                        Leaf::Timer { at: old, .. },
                        Leaf::Timer {
                            at: new, shifts, ..
                        },
                    ) => old == new || (*shifts && is_resumed && new > old),
                    _ => false,
                });
        self.check(is_kept, || {
            format!(
                "the wait of task {ordinal} of {} changed from {before:?} to {after:?}",
                record.id
            )
        });
    }
}
