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
    /// The execution is resumed after a pause. The due times of items that wait for another attempt move by the length
    /// of the pause (D7).
    Resume(Ordinal, Pause),
    /// Every item that did not complete runs again (K10).
    Reopen(Ordinal),
    /// Sends a note to the open children of the items, including those that an earlier run of the map left open. After a
    /// cancel, the items no longer wait for the ends of their children (M4).
    Tell(Ordinal, Note),
}

/// A pause that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The time at which the pause began.
    pub since: Timestamp,
    /// The length of the pause, in microseconds.
    pub held: Micros,
}
