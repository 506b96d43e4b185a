//! Changes of a map's row that follow from decisions about its execution.

use super::{MapRow, Micros, Note, Ordinal, Timestamp};

/// A change of a map that follows from a decision about its execution. It is applied only if the execution's change is
/// applied.
#[derive(Clone, Debug, PartialEq)]
pub enum MapChange {
    /// The map has read its list (K1). The new row replaces the earlier row of the map, and the rows of earlier items are
    /// deleted.
    Expand(Box<MapRow>),
    /// The map ends before its items: no more items are claimed, and running items are cancelled (K7).
    Close(Ordinal),
    /// The execution is paused: no item is claimed.
    Pause(Ordinal),
    /// The execution is resumed after a pause. The due times of items that wait for another attempt move by its length (D7).
    Resume(Ordinal, Pause),
    /// Runs again all items that did not complete (K10).
    Reopen(Ordinal),
    /// Sends a note to the open children of the items, including those that an earlier run of the map left open. After a
    /// cancel, the items no longer wait for the ends of their children (M4).
    Tell(Ordinal, Note),
}

/// A pause that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// When it began.
    pub since: Timestamp,
    /// Its length, in microseconds.
    pub held: Micros,
}
