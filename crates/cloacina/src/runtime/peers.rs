//! The liveness of other runners, derived from how their rows change over time (semantics E2, E3).

use rustc_hash::FxHashMap;

use super::process;
use crate::store::RunnerRow;
use crate::types::{Micros, Monotonic, RunnerId, Timestamp};

/// Time between two heartbeats, in microseconds, while peers cannot see this runner's session and might declare the
/// runner dead.
pub(super) const PROOF_INTERVAL: Micros = 400_000;

/// The reason to declare a runner dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// The runner's process no longer exists.
    ProcessGone,
    /// The database reports that the runner's session has ended.
    SessionGone,
    /// The runner has sent no heartbeat for the length of its lease.
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

/// The end of a runner's lease as last read from its row, and the instant at which this process first read this value.
struct Observed {
    lease_until: Timestamp,
    since: Monotonic,
}

/// The observed leases of the other runners.
///
/// Wall-clock times alone are never a reason to declare a runner dead, because a clock may have been set, and the clocks of two
/// machines differ. A lease has expired if the runner's row has not changed for the length of the lease, measured with
/// this process's monotonic clock. If the lease has also expired according to the wall clock, two thirds of this time
/// are enough.
#[derive(Default)]
pub(super) struct Peers {
    observed: FxHashMap<RunnerId, Observed>,
    /// Runners whose session has ended, according to the database.
    suspects: Vec<RunnerId>,
    /// The identity of this machine. It is read once.
    host: Option<String>,
}

impl Peers {
    /// Notes the current rows of all runners.
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

    /// Notes runners whose session has ended, according to the database.
    pub(super) fn suspect(&mut self, runners: Vec<RunnerId>) {
        self.suspects.extend(runners);
    }

    pub(super) fn clear_suspects(&mut self) {
        self.suspects.clear();
    }

    /// Returns the reason to declare a runner dead. `None` if there is none.
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
    fn e2_runner_with_heartbeats_survives_a_clock_set_forward() {
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
    fn e2_dead_runner_is_found_although_the_clock_was_set_back() {
        let mut peers = Peers::default();
        let row = row(NOW);
        peers.observe(std::slice::from_ref(&row), Monotonic(0));
        let now = NOW + -HOUR;
        let death = |peers: &mut Peers, at| peers.death(&row, now, Monotonic(at));
        assert_eq!(death(&mut peers, 14 * SECOND), None);
        assert_eq!(death(&mut peers, 15 * SECOND), Some(Death::LeaseExpired));
    }

    #[test]
    fn e2_wall_clock_expiry_makes_a_runner_dead_sooner() {
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
    fn b23_observations_of_a_runner_are_dropped_with_its_row() {
        let mut peers = Peers::default();
        peers.observe(&[row(NOW)], Monotonic(0));
        peers.observe(&[], Monotonic(1));
        assert!(peers.observed.is_empty());
    }
}
