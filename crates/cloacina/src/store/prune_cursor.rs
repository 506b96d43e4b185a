//! The position of a pruning pass, which consists of several batches. Each batch continues at this position, so that it
//! does not reread the old executions that earlier batches had to keep.

use crate::types::sync::Mutex;
use crate::types::{ExecutionId, Micros, Timestamp};

/// Maximum change of the age limit between two batches of one pass, in microseconds. The limit changes a little with
/// each batch, because it depends on the current time.
const SAME_PASS: Micros = 60_000_000;

/// The last id of a pass's last batch, and the age limit of this batch. A pass ends with a batch that is not full.
#[derive(Debug, Default)]
pub(super) struct PruneCursor(Mutex<Option<(ExecutionId, Timestamp)>>);

impl PruneCursor {
    /// Returns the id after which the next batch starts; the lowest id if the batch starts a new pass.
    pub(super) fn after(&self, before: Timestamp) -> ExecutionId {
        let pass = *self.0.lock();
        pass.filter(|(_, limit)| before.since(*limit).abs() <= SAME_PASS)
            .map_or(ExecutionId::from_bytes([0; 16]), |(last, _)| last)
    }

    /// Records the last batch. `last` is the last id of the batch, or `None` if the batch was not full.
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
    fn e8_pruning_pass_continues_after_its_last_batch() {
        let (cursor, last) = (PruneCursor::default(), ExecutionId::from_bytes([7; 16]));
        assert_eq!(cursor.after(NOW), FIRST);
        cursor.note(Some(last), NOW);
        assert_eq!(cursor.after(NOW + 100_000), last);
        assert_eq!(cursor.after(NOW + 2 * SAME_PASS), FIRST, "another pass");
        cursor.note(None, NOW);
        assert_eq!(cursor.after(NOW), FIRST);
    }
}
