//! Requests to report the next write, which let a process watch an idle database without queries, e.g. for an open web
//! page.
//!
//! A watching process sends `watch`. Each other process answers once: immediately if it has written since its last
//! answer, otherwise after its next write. The watching process sends `watch` again the next time its caller asks for
//! the change marker. A write between an answer and the next `watch` is therefore reported by the next answer.

use crate::types::sync::Mutex;

struct WatchState {
    /// The number of changes that other processes have reported.
    changes: i64,
    /// Whether this store has sent `watch` and has not received an answer since.
    is_waiting: bool,
    /// Whether another process waits for this store's next write.
    owes_answer: bool,
    /// Whether this store has written since its last answer.
    has_written: bool,
}

/// The requests that a store has sent and received.
pub(super) struct WatchRequests {
    state: Mutex<WatchState>,
}

impl WatchRequests {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(WatchState {
                changes: 0,
                is_waiting: false,
                owes_answer: false,
                has_written: true,
            }),
        }
    }

    /// Records a write of this store. Returns whether an answer must be sent.
    pub(super) fn note_write(&self) -> bool {
        let mut state = self.state.lock();
        let answers = std::mem::take(&mut state.owes_answer);
        state.has_written = !answers;
        answers
    }

    /// Records a `watch`. Returns whether an answer must be sent at once.
    pub(super) fn note_request(&self) -> bool {
        let mut state = self.state.lock();
        let answers = std::mem::take(&mut state.has_written);
        state.owes_answer = !answers;
        answers
    }

    /// Records that something may have changed.
    pub(super) fn note_change(&self) {
        let mut state = self.state.lock();
        state.changes += 1;
        state.is_waiting = false;
    }

    /// Records that this store sends `watch`.
    pub(super) fn note_sent(&self) {
        self.state.lock().is_waiting = true;
    }

    /// Returns the number of changes, and whether the next change will be reported.
    pub(super) fn changes(&self) -> (i64, bool) {
        let state = self.state.lock();
        (state.changes, state.is_waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_is_reported_whether_it_comes_before_or_after_the_request() {
        let writer = WatchRequests::new();
        assert!(
            writer.note_request(),
            "writes before the first request count"
        );
        assert!(!writer.note_request());
        assert!(writer.note_write(), "the request was waiting");
        assert!(!writer.note_write(), "each request is answered once");
        assert!(
            writer.note_request(),
            "the second write was not reported yet"
        );
    }

    #[test]
    fn answer_ends_the_wait() {
        let watcher = WatchRequests::new();
        assert_eq!(watcher.changes(), (0, false));
        watcher.note_sent();
        assert_eq!(watcher.changes(), (0, true));
        watcher.note_change();
        assert_eq!(watcher.changes(), (1, false));
    }
}
