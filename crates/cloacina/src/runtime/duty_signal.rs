//! The internal signals that make duties run.

/// An internal signal that makes a duty run before the duty's timer is due, in this turn or a later one. Executions
/// do not receive such signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Poll for changes by other processes.
    PollChanges,
    /// Search for dead runners.
    Rescue,
    /// Compare the claims of this process with the database.
    Reconcile,
    /// Announce the workflows of this runner in the database, because handlers were registered, or because the runner
    /// has a new id.
    Announce,
    /// Register the runner's row.
    Register,
    /// Send a heartbeat soon, so that peers do not declare this runner dead.
    ProveLife,
    /// Write buffered log lines, because attempts have ended or the runner is stopping.
    AttemptsEnded,
    /// Query cron schedules, because this process has changed some of them.
    CronChanged,
    /// Query cron schedules soon, because other processes have written and may have changed some of them.
    CronMaybeChanged,
    /// Query triggers, because this process has changed some of them.
    TriggersChanged,
    /// Query triggers soon, because other processes have written and may have changed some of them.
    TriggersMaybeChanged,
    /// Check the waiting tasks that are due, and read the inbox.
    Waits,
}

/// The signals that are raised and that no duty has taken yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signals(u16);

impl Signals {
    pub(super) const fn raise(&mut self, signal: Signal) {
        self.0 |= 1 << signal as u16;
    }

    pub(super) const fn is_raised(self, signal: Signal) -> bool {
        self.0 & (1 << signal as u16) != 0
    }

    /// Clears a signal. Returns whether it was raised.
    pub(super) const fn take(&mut self, signal: Signal) -> bool {
        let raised = self.is_raised(signal);
        self.0 &= !(1 << signal as u16);
        raised
    }

    /// Raises the signals that make the duties query schedules and triggers.
    pub(super) const fn raise_schedules(&mut self) {
        self.raise(Signal::CronChanged);
        self.raise(Signal::TriggersChanged);
    }

    /// Raises the signals that make the duties query schedules and triggers soon, because other processes may have changed
    /// them.
    pub(super) const fn raise_maybe_changed(&mut self) {
        self.raise(Signal::CronMaybeChanged);
        self.raise(Signal::TriggersMaybeChanged);
    }
}
