//! Judges whether the other runners live, from their rows as this runner sees them over time (semantics E2, E3).

use rustc_hash::FxHashMap;

use super::process;
use crate::store::RunnerRow;
use crate::types::{Micros, Monotonic, RunnerId, Timestamp};

/// The time between two heartbeats in microseconds while they alone prove that a runner lives.
pub(super) const PROOF_INTERVAL: Micros = 400_000;

/// Why a runner is taken for dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// Its process does not exist any more.
    ProcessGone,
    /// The database reports that its session has ended.
    SessionGone,
    /// It has not sent a heartbeat for as long as its lease lasts.
    LeaseExpired,
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ProcessGone => "its process is gone",
            Self::SessionGone => "its session is gone",
            Self::LeaseExpired => "its lease expired",
        })
    }
}

/// The last change of a runner's lease, and when this runner first saw it.
struct Observed {
    lease_until: Timestamp,
    since: Monotonic,
}

/// What this runner knows of the others.
///
/// A lease is not judged by comparing wall clocks of two machines, nor of one machine at two times: a step of either would
/// make a living runner look dead. A runner is dead when its row has not changed for as long as its lease lasts, measured on
/// this process's monotonic clock. Where the wall clock says that the lease has expired too, two thirds of that are enough.
#[derive(Default)]
pub(super) struct Peers {
    observed: FxHashMap<RunnerId, Observed>,
    /// Runners whose session has ended, says the database.
    suspects: Vec<RunnerId>,
    /// The machine's name, once it was read.
    host: Option<String>,
}

impl Peers {
    /// Notes the rows as they are now. `rows` are those of all runners.
    pub(super) fn observe(&mut self, rows: &[RunnerRow], monotonic: Monotonic) {
        let mut observed = std::mem::take(&mut self.observed);
        for row in rows {
            let seen = observed
                .remove(&row.id)
                .filter(|seen| seen.lease_until == row.lease_until)
                .unwrap_or(Observed {
                    lease_until: row.lease_until,
                    since: monotonic,
                });
            self.observed.insert(row.id, seen);
        }
    }

    /// Notes runners whose session has ended, says the database.
    pub(super) fn suspect(&mut self, runners: Vec<RunnerId>) {
        self.suspects.extend(runners);
    }

    pub(super) fn clear_suspects(&mut self) {
        self.suspects.clear();
    }

    /// Why a runner is dead, if it is.
    pub(super) fn death(
        &mut self,
        row: &RunnerRow,
        now: Timestamp,
        monotonic: Monotonic,
    ) -> Option<Death> {
        let host = self.host.get_or_insert_with(process::host);
        if row.host == *host && process::is_dead(row.pid, row.pid_started) {
            return Some(Death::ProcessGone);
        }
        if self.suspects.contains(&row.id) {
            return Some(Death::SessionGone);
        }
        let lease = row.lease_until.since(row.heartbeat_at).max(0);
        let unchanged = self
            .observed
            .get(&row.id)
            .map_or(0, |seen| monotonic.since(seen.since));
        let patience = if row.lease_until < now {
            lease - lease / 3
        } else {
            lease
        };
        (unchanged >= patience.max(1)).then_some(Death::LeaseExpired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;
    const HOUR: Micros = 3_600 * SECOND;
    const NOW: Timestamp = Timestamp(1_800_000_000 * SECOND);

    fn row(heartbeat_at: Timestamp) -> RunnerRow {
        RunnerRow {
            id: RunnerId::from_bytes([1; 16]),
            host: "another".to_owned(),
            pid: 1,
            pid_started: 1,
            started_at: NOW,
            heartbeat_at,
            lease_until: heartbeat_at + 15 * SECOND,
            workflows: Vec::new(),
        }
    }

    #[test]
    fn b1_a_clock_set_forward_kills_nobody_who_sends_heartbeats() {
        let mut peers = Peers::default();
        for beat in 0..4 {
            let at = Monotonic(beat * 5 * SECOND);
            let row = row(NOW + beat * 5 * SECOND);
            peers.observe(std::slice::from_ref(&row), at);
            let later = at + 5 * SECOND;
            let now = NOW + HOUR + later.0;
            assert_eq!(peers.death(&row, now, later), None);
        }
    }

    #[test]
    fn b1_a_clock_set_back_does_not_keep_a_dead_runner_alive() {
        let mut peers = Peers::default();
        let row = row(NOW);
        peers.observe(std::slice::from_ref(&row), Monotonic(0));
        let now = NOW + -HOUR;
        let death = |peers: &mut Peers, at| peers.death(&row, now, Monotonic(at));
        assert_eq!(death(&mut peers, 14 * SECOND), None);
        assert_eq!(death(&mut peers, 15 * SECOND), Some(Death::LeaseExpired));
    }

    #[test]
    fn e2_an_expired_lease_of_an_unchanged_row_is_noticed_sooner() {
        let mut peers = Peers::default();
        let row = row(NOW);
        peers.observe(std::slice::from_ref(&row), Monotonic(0));
        let now = NOW + 20 * SECOND;
        assert_eq!(peers.death(&row, now, Monotonic(9 * SECOND)), None);
        assert_eq!(
            peers.death(&row, now, Monotonic(10 * SECOND)),
            Some(Death::LeaseExpired)
        );
    }

    #[test]
    fn b23_what_is_known_of_a_runner_goes_with_its_row() {
        let mut peers = Peers::default();
        peers.observe(&[row(NOW)], Monotonic(0));
        peers.observe(&[], Monotonic(1));
        assert!(peers.observed.is_empty());
    }
}
