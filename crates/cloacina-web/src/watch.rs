//! The change marker that clients see. It is computed from the database's own marker, which is read only when a client asks.

use std::time::{Duration, Instant};

use cloacina::Error;
use cloacina::runner::Inspector;
use cloacina::types::sync::Mutex;
use cloacina::types::{Clock, SystemClock};

/// Minimum time between two reads of the database's marker, for any number of clients.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Counts the changes of a database: those that the database's own marker shows, and those that this server makes.
pub(crate) struct Watcher {
    inspector: Inspector,
    state: Mutex<State>,
}

struct State {
    /// The start time of this watcher. It distinguishes this watcher's markers from the markers of an earlier process.
    start: i64,
    count: u64,
    /// The database's own marker, and when it was read.
    last: Option<(i64, Instant)>,
}

impl Watcher {
    pub(crate) fn new(inspector: Inspector) -> Self {
        let state = State {
            start: SystemClock.now().0,
            count: 0,
            last: None,
        };
        Self {
            inspector,
            state: Mutex::new(state),
        }
    }

    /// Returns the marker: a text that differs from an earlier marker if the database may have changed in between. May block.
    pub(crate) fn marker(&self) -> Result<String, Error> {
        let mut state = self.state.lock();
        let is_fresh = state
            .last
            .is_some_and(|(_, at)| at.elapsed() < MIN_INTERVAL);
        if !is_fresh {
            let marker = self.inspector.change_marker()?;
            if state.last.is_some_and(|(last, _)| last != marker) {
                state.count += 1;
            }
            state.last = Some((marker, Instant::now()));
        }
        Ok(format!("{:x}-{}", state.start, state.count))
    }

    /// Records a change that this server made, because the database's marker may not show it.
    pub(crate) fn note_own_change(&self) {
        self.state.lock().count += 1;
    }
}
