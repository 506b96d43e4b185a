//! Objects that a runner's Rust tasks share. An object exists from its first use until the runner's shutdown, or, if a
//! task still uses it then, until the task has ended (semantics J10).

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::types::sync::Mutex;

/// The resource slots of one runner: one slot for each type.
#[derive(Default)]
pub struct ResourceSlots(Mutex<State>);

#[derive(Default)]
struct State {
    /// The slots in the order of their first use.
    slots: Vec<Arc<dyn Any + Send + Sync>>,
    is_closed: bool,
}

impl ResourceSlots {
    /// Returns the slot of a type. The first call creates the slot. After [`close`](Self::close), each call creates a new slot
    /// that is not kept.
    pub fn slot<S: Any + Default + Send + Sync>(&self) -> Arc<S> {
        let mut state = self.0.lock();
        let known = state.slots.iter().find(|slot| (***slot).is::<S>());
        if let Some(Ok(slot)) = known.map(|slot| Arc::clone(slot).downcast()) {
            return slot;
        }
        let slot = Arc::new(S::default());
        if !state.is_closed {
            state.slots.push(Arc::clone(&slot) as Arc<_>);
        }
        slot
    }

    /// Drops all slots in the reverse order of their creation. A value that a task still uses is dropped when the task has
    /// ended.
    pub fn close(&self) {
        let mut slots = {
            let mut state = self.0.lock();
            state.is_closed = true;
            std::mem::take(&mut state.slots)
        };
        while let Some(slot) = slots.pop() {
            if catch_unwind(AssertUnwindSafe(|| drop(slot))).is_err() {
                tracing::error!("a resource panicked when it was dropped at the runner's shutdown");
            }
        }
    }
}

impl fmt::Debug for ResourceSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.lock().slots.len();
        f.debug_struct("ResourceSlots")
            .field("count", &count)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    type Log = Arc<Mutex<Vec<&'static str>>>;

    struct Noted(&'static str, Log);

    impl Drop for Noted {
        fn drop(&mut self) {
            self.1.lock().push(self.0);
            assert_ne!(self.0, "second", "this drop panics");
        }
    }

    /// A slot type for tests. Each `N` is a different type.
    #[derive(Default)]
    struct Slot<const N: u8>(OnceLock<Noted>);

    #[test]
    fn j10_slots_are_dropped_in_reverse_order_despite_a_panic() {
        let (slots, log) = (ResourceSlots::default(), Log::default());
        let fill = |slot: &OnceLock<Noted>, name| {
            assert!(slot.set(Noted(name, Arc::clone(&log))).is_ok());
        };
        fill(&slots.slot::<Slot<1>>().0, "first");
        fill(&slots.slot::<Slot<2>>().0, "second");
        fill(&slots.slot::<Slot<3>>().0, "third");
        assert!(
            slots.slot::<Slot<2>>().0.get().is_some(),
            "the same slot is returned"
        );
        let used = slots.slot::<Slot<1>>();
        slots.close();
        assert_eq!(*log.lock(), ["third", "second"]);
        drop(used);
        assert_eq!(*log.lock(), ["third", "second", "first"]);
        assert!(
            slots.slot::<Slot<2>>().0.get().is_none(),
            "a new slot is returned"
        );
    }
}
