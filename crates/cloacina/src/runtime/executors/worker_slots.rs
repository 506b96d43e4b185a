//! Worker slots: counts the workers of a pool by state, and decides whether new work wakes or starts a worker.

/// The numbers of workers of a pool, by state. A worker needs a slot to take work. Only [`transition`](Self::transition)
/// and [`adopt`](Self::adopt) change the numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WorkerSlots {
    /// Maximum number of slots. Zero: the pool starts no workers.
    max: usize,
    /// The number of slots in use, including the slots of requested workers.
    held: usize,
    /// The number of workers that wait for work.
    idle: usize,
    /// The number of idle workers that were woken but have not run yet.
    woken: usize,
    /// The number of workers that will take work in a moment without being woken.
    incoming: usize,
    /// The number of workers that wait for a slot to continue a deferred task.
    reacquiring: usize,
    /// Whether a wake-up was omitted because the work is expected to be short.
    postponed: bool,
}

/// An event that changes the states of a pool's workers.
#[derive(Clone, Copy, Debug)]
pub(super) enum SlotEvent {
    /// Work is ready.
    WorkReady {
        /// The number of workers that are running a task.
        busy: usize,
        /// Whether the work is expected to take less time than waking a worker.
        is_short: bool,
        /// Whether a callback is ready. Callers wait for it, so one worker can be started beyond the maximum.
        is_callback: bool,
    },
    /// A worker begins to wait for work.
    Waits,
    /// A worker stops waiting for work, because it was woken or has waited long enough.
    StopsWaiting,
    /// A worker is about to take work.
    Approaches,
    /// A worker that was about to take work has arrived.
    Arrives,
    /// A worker releases its slot and keeps running.
    Releases,
    /// A worker begins to wait for a slot.
    WantsSlot,
    /// A worker stops waiting for a slot.
    StopsWanting,
    /// A worker reacquires a slot, even if this exceeds the maximum.
    Reacquires,
    /// A worker has lost its slot, has ended, or could not be started.
    Leaves,
}

/// The action that a pool must take after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotAction {
    /// Do nothing: a worker will take the work without a new wake-up, or no slot is free.
    Nothing,
    /// Wake an idle worker.
    Wake,
    /// Start a worker. Its slot is already counted as in use.
    Start,
}

impl WorkerSlots {
    pub(super) fn with_max(max: usize) -> Self {
        Self {
            max,
            ..Self::default()
        }
    }

    pub(super) const fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Moves all slots of another pool to this one.
    pub(super) const fn adopt(&mut self, other: &mut Self) {
        self.held += other.held;
        other.held = 0;
        other.max = 0;
        other.postponed = false;
    }

    /// Applies an event, and returns the action that the pool must take.
    pub(super) const fn transition(&mut self, event: SlotEvent) -> SlotAction {
        match event {
            SlotEvent::WorkReady {
                busy,
                is_short,
                is_callback,
            } => return self.call_worker(busy, is_short, is_callback),
            SlotEvent::Waits => self.idle += 1,
            SlotEvent::StopsWaiting => {
                self.idle -= 1;
                self.woken = self.woken.saturating_sub(1);
            }
            SlotEvent::Approaches => self.incoming += 1,
            SlotEvent::Arrives => self.incoming -= 1,
            SlotEvent::WantsSlot => self.reacquiring += 1,
            SlotEvent::StopsWanting => self.reacquiring -= 1,
            SlotEvent::Reacquires => self.held += 1,
            SlotEvent::Releases | SlotEvent::Leaves => self.held = self.held.saturating_sub(1),
        }
        SlotAction::Nothing
    }

    const fn call_worker(&mut self, busy: usize, is_short: bool, is_callback: bool) -> SlotAction {
        let extra = (is_callback && self.max > 0) as usize;
        if self.incoming > 0 {
            SlotAction::Nothing
        } else if is_short && busy + self.woken > 0 {
            self.postponed = true;
            SlotAction::Nothing
        } else if self.idle > self.woken {
            self.woken += 1;
            SlotAction::Wake
        } else if self.held < self.max + extra {
            self.held += 1;
            SlotAction::Start
        } else {
            SlotAction::Nothing
        }
    }

    /// Whether a wake-up has been omitted since the last call of [`take_postponed`](Self::take_postponed).
    pub(super) const fn has_postponed(&self) -> bool {
        self.postponed
    }

    pub(super) const fn take_postponed(&mut self) -> bool {
        std::mem::replace(&mut self.postponed, false)
    }

    pub(super) const fn postpone(&mut self) {
        self.postponed = true;
    }

    /// Whether a task can start while `busy` tasks are running. Workers that wait to reacquire a slot take precedence.
    pub(super) const fn has_room(&self, busy: usize) -> bool {
        self.max == 0 || busy + self.reacquiring < self.max
    }

    /// Whether a deferred task can continue while `busy` tasks are running.
    pub(super) const fn may_resume(&self, busy: usize) -> bool {
        busy < self.max
    }

    /// Whether at least one worker waits to reacquire a slot.
    pub(super) const fn is_wanted(&self) -> bool {
        self.reacquiring > 0
    }

    /// Whether the pool can start workers.
    pub(super) const fn starts_workers(&self) -> bool {
        self.max > 0
    }

    /// Whether new work can get a worker within the maximum: an idle worker or a new worker.
    pub(super) const fn has_free_worker(&self) -> bool {
        self.idle > self.woken || self.held < self.max
    }

    /// Whether there are more workers than allowed, because a worker reacquired a slot or was started for a callback.
    pub(super) const fn has_surplus(&self) -> bool {
        self.held > self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: SlotEvent = SlotEvent::WorkReady {
        busy: 0,
        is_short: false,
        is_callback: false,
    };

    #[test]
    fn c5_workers_are_started_up_to_the_maximum() {
        let mut slots = WorkerSlots::with_max(2);
        assert_eq!(slots.transition(READY), SlotAction::Start);
        assert_eq!(slots.transition(READY), SlotAction::Start);
        assert_eq!(slots.transition(READY), SlotAction::Nothing);
    }

    #[test]
    fn c5_idle_worker_is_woken_once_before_another_is_started() {
        let mut slots = WorkerSlots::with_max(2);
        slots.transition(READY);
        slots.transition(SlotEvent::Waits);
        assert_eq!(slots.transition(READY), SlotAction::Wake);
        assert_eq!(slots.transition(READY), SlotAction::Start);
        slots.transition(SlotEvent::StopsWaiting);
        assert_eq!(slots.transition(READY), SlotAction::Nothing);
    }

    #[test]
    fn a6_worker_that_could_not_be_started_is_requested_again() {
        let mut slots = WorkerSlots::with_max(1);
        assert_eq!(slots.transition(READY), SlotAction::Start);
        assert_eq!(slots.transition(READY), SlotAction::Nothing);
        slots.transition(SlotEvent::Leaves);
        assert_eq!(slots.transition(READY), SlotAction::Start);
    }

    #[test]
    fn c5_short_work_waits_for_a_busy_worker() {
        let mut slots = WorkerSlots::with_max(2);
        let short = |busy| SlotEvent::WorkReady {
            busy,
            is_short: true,
            is_callback: false,
        };
        assert_eq!(slots.transition(short(0)), SlotAction::Start);
        assert!(!slots.has_postponed());
        assert_eq!(slots.transition(short(1)), SlotAction::Nothing);
        assert!(slots.take_postponed());
        assert!(!slots.has_postponed());
    }

    #[test]
    fn c5_no_worker_is_woken_while_another_is_about_to_take_work() {
        let mut slots = WorkerSlots::with_max(1);
        slots.transition(SlotEvent::Approaches);
        assert_eq!(slots.transition(READY), SlotAction::Nothing);
        slots.transition(SlotEvent::Arrives);
        assert_eq!(slots.transition(READY), SlotAction::Start);
    }

    #[test]
    fn c5_callback_gets_one_worker_beyond_the_maximum() {
        let callback = SlotEvent::WorkReady {
            busy: 1,
            is_short: false,
            is_callback: true,
        };
        let mut slots = WorkerSlots::with_max(1);
        assert_eq!(slots.transition(READY), SlotAction::Start);
        assert_eq!(slots.transition(callback), SlotAction::Start);
        assert_eq!(slots.transition(callback), SlotAction::Nothing);
        assert!(slots.has_surplus());
    }

    #[test]
    fn g2_released_slot_is_reacquired_beyond_the_maximum() {
        let mut slots = WorkerSlots::with_max(1);
        slots.transition(READY);
        slots.transition(SlotEvent::Releases);
        assert_eq!(slots.transition(READY), SlotAction::Start);
        slots.transition(SlotEvent::WantsSlot);
        assert!(!slots.has_room(0), "the waiting worker goes first");
        assert!(slots.may_resume(0) && !slots.may_resume(1));
        slots.transition(SlotEvent::StopsWanting);
        slots.transition(SlotEvent::Reacquires);
        assert!(slots.has_surplus());
        slots.transition(SlotEvent::Leaves);
        assert!(!slots.has_surplus());
    }

    #[test]
    fn h4_pool_adopts_the_slots_of_another_pool() {
        let mut own = WorkerSlots::with_max(2);
        own.transition(READY);
        let mut shared = WorkerSlots::with_max(2);
        shared.adopt(&mut own);
        assert_eq!(own.transition(READY), SlotAction::Nothing);
        assert_eq!(shared.transition(READY), SlotAction::Start);
        assert_eq!(shared.transition(READY), SlotAction::Nothing);
    }
}
