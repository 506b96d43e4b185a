//! Where a pass over old executions goes on, so that those that never end are not read again for each batch.

use crate::types::sync::Mutex;
use crate::types::{ExecutionId, Micros, Timestamp};

/// A pass goes on while its limit of age moves by no more than this, in microseconds: it moves with the time.
const SAME_PASS: Micros = 60_000_000;

/// The place that a pass has reached, with its limit of age. A pass ends with a batch that is not full.
#[derive(Debug, Default)]
pub(super) struct PruneCursor(Mutex<Option<(ExecutionId, Timestamp)>>);

impl PruneCursor {
    /// The id after which the next batch begins.
    pub(super) fn after(&self, before: Timestamp) -> ExecutionId {
        let pass = *self.0.lock();
        pass.filter(|(_, limit)| before.since(*limit).abs() <= SAME_PASS)
            .map_or(ExecutionId::from_bytes([0; 16]), |(last, _)| last)
    }

    /// Notes a batch: `last` is its last id, if it is full.
    pub(super) fn note(&self, last: Option<ExecutionId>, before: Timestamp) {
        *self.0.lock() = last.map(|last| (last, before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);
    const FIRST: ExecutionId = ExecutionId::from_bytes([0; 16]);

    #[test]
    fn b22_a_pass_goes_on_after_its_last_batch_and_begins_again_at_its_end() {
        let (cursor, last) = (PruneCursor::default(), ExecutionId::from_bytes([7; 16]));
        assert_eq!(cursor.after(NOW), FIRST);
        cursor.note(Some(last), NOW);
        assert_eq!(cursor.after(NOW + 100_000), last);
        assert_eq!(cursor.after(NOW + 2 * SAME_PASS), FIRST, "another pass");
        cursor.note(None, NOW);
        assert_eq!(cursor.after(NOW), FIRST);
    }
}
