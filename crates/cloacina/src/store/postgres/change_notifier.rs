//! State that a store shares with its listener: changes that peers report, and notifications to send to peers.
//!
//! See docs/explanation/decisions/013-changes-and-notifications.md

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::notify_rate_limiter::NotifyRateLimiter;
use super::runner::RunnerCache;
use super::watch_requests::WatchRequests;
use crate::store::Changes;
use crate::types::RunnerId;
use crate::types::sync::Mutex;

/// Time after which a store without an open LISTEN session reports a change even if it knows of none. Such a store does
/// not learn of its peers' changes.
const MAX_AGE_WITHOUT_LISTEN: Duration = Duration::from_millis(500);
/// Time after which a store with an open LISTEN session reports a change even if it knows of none, because it may have
/// missed a notification.
const MAX_AGE_WITH_LISTEN: Duration = Duration::from_mins(1);
/// How long a runner sends extra heartbeats after it has lost its LISTEN session. The session's advisory lock, which
/// proves that the runner is alive, is lost with the session.
const PROOF_OF_LIFE_PERIOD: Duration = Duration::from_secs(10);
/// Minimum time between two `busy` notifications of a store.
const BUSY_INTERVAL: Duration = Duration::from_secs(2);
/// How long the advisory locks of peers are checked after an event that shows that a peer may have claims.
const LOCK_CHECK_PERIOD: Duration = Duration::from_secs(5);

/// Payload: anything may have changed, including the set of runners. This payload, `WRITTEN` and `BUSY` can be followed by
/// the id of the sending runner.
pub(super) const CHANGED: &str = "news";
/// Payload: executions were written. None of them had ended before.
const WRITTEN: &str = "wrote";
/// Payload: the sender has claims.
const BUSY: &str = "busy";
/// Payload: the sender watches the database, and wants to know of the next write.
const WATCH: &str = "watch";
/// Payload: the answer to `WATCH`. The sender has written, but nothing that its peers must read.
const TOUCHED: &str = "touched";

pub(super) type Wake = Arc<dyn Fn() + Send + Sync>;

/// The state of the LISTEN session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SessionState {
    /// No session was opened yet.
    NotOpened,
    Open,
    LostAt(Instant),
}

struct ChangeState {
    marker: i64,
    /// The number of changes after which an ended execution may run again.
    revivals: u64,
    /// The time at which the marker last changed.
    changed_at: Instant,
    session: SessionState,
    wake: Option<Wake>,
    /// Runners whose advisory locks have vanished since the last call of [`ChangeNotifier::changes`].
    vanished: Vec<RunnerId>,
    /// The time until which the locks of peers are checked.
    locks_checked_until: Option<Instant>,
}

impl ChangeState {
    fn change(&mut self, revives: bool) {
        self.marker += 1;
        self.revivals += u64::from(revives);
        self.changed_at = Instant::now();
    }
}

/// Notifications that wait to be sent.
#[derive(Default)]
struct Outbox {
    payloads: BTreeSet<String>,
    limiter: NotifyRateLimiter,
    /// The time at which this store last sent `busy`.
    busy_at: Option<Instant>,
}

/// Changes that peers report, and notifications to send to peers.
pub(super) struct ChangeNotifier {
    state: Mutex<ChangeState>,
    outbox: Mutex<Outbox>,
    /// Wakes the listener when the outbox or the set of this store's runners has changed.
    outbox_changed: Mutex<Arc<Notify>>,
    watch_requests: WatchRequests,
    pub(super) runner_cache: Mutex<RunnerCache>,
}

impl ChangeNotifier {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(ChangeState {
                marker: 0,
                revivals: 0,
                changed_at: Instant::now(),
                session: SessionState::NotOpened,
                wake: None,
                vanished: Vec::new(),
                locks_checked_until: None,
            }),
            outbox: Mutex::default(),
            outbox_changed: Mutex::default(),
            watch_requests: WatchRequests::new(),
            runner_cache: Mutex::default(),
        }
    }

    pub(super) fn on_change(&self, wake: Wake) {
        self.state.lock().wake = Some(wake);
    }

    /// Sets the signal that wakes the listener.
    pub(super) fn set_outbox_signal(&self, outbox_changed: Arc<Notify>) {
        *self.outbox_changed.lock() = outbox_changed;
    }

    /// Returns the current marker, and the runners that have vanished since the last call. If the calling runner has
    /// claims, it passes its id as `busy`. Its peers are then notified, and check the runner's advisory lock.
    pub(super) fn changes(&self, busy: Option<RunnerId>) -> Changes {
        if let Some(runner) = busy {
            self.notify_busy(runner);
        }
        let mut state = self.state.lock();
        let max_age = if state.session == SessionState::Open {
            MAX_AGE_WITH_LISTEN
        } else {
            MAX_AGE_WITHOUT_LISTEN
        };
        if state.changed_at.elapsed() >= max_age {
            state.change(true);
        }
        Changes {
            marker: state.marker,
            revivals: Some(state.revivals),
            vanished: std::mem::take(&mut state.vanished),
            must_prove_life: matches!(state.session, SessionState::LostAt(at) if at.elapsed() < PROOF_OF_LIFE_PERIOD),
        }
    }

    fn notify_busy(&self, runner: RunnerId) {
        let mut outbox = self.outbox.lock();
        let is_due = outbox
            .busy_at
            .is_none_or(|at| at.elapsed() >= BUSY_INTERVAL);
        if is_due && self.runner_cache.lock().has_others() {
            outbox.busy_at = Some(Instant::now());
            outbox.payloads.insert(format!("{BUSY} {runner}"));
            self.outbox_changed.lock().notify_one();
        }
    }

    /// Records a change that the runners of this store must read, and calls the function that `on_change` has set.
    /// `revives` means that an execution that had ended can run again.
    fn signal_change(&self, revives: bool) {
        self.state.lock().change(revives);
        self.wake();
    }

    fn wake(&self) {
        let wake = self.state.lock().wake.clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Notifies other runners that a runner of this store has written `executions` executions. If the store has several
    /// runners, also signals the change to them at once.
    pub(super) fn notify_written(&self, runner: RunnerId, executions: usize, revives: bool) {
        let (sole, others) = {
            let runner_cache = self.runner_cache.lock();
            (runner_cache.is_sole(runner), runner_cache.has_others())
        };
        if !sole {
            self.signal_change(revives);
        }
        let mut outbox = self.outbox.lock();
        outbox.limiter.note_written(executions, Instant::now());
        if others {
            let kind = if revives { CHANGED } else { WRITTEN };
            outbox.payloads.insert(format!("{kind} {runner}"));
            self.outbox_changed.lock().notify_one();
        }
    }

    /// Notifies other runners that anything may have changed, e.g. runners, definitions, schedules or the inbox.
    /// `runner` is the runner that made the change, if it is known.
    pub(super) fn notify_changed(&self, runner: Option<RunnerId>) {
        let sender = runner.map_or_else(String::new, |runner| format!(" {runner}"));
        self.send(format!("{CHANGED}{sender}"));
    }

    /// Records a write of this store that a web page may show. Notifies the processes that watch the database.
    pub(super) fn note_write(&self) {
        if self.watch_requests.note_write() {
            self.send(TOUCHED.to_owned());
        }
    }

    /// Asks the other processes to report their next write. Returns `false` if there is no open LISTEN session that
    /// could receive the reports.
    pub(super) fn request_watch(&self) -> bool {
        let is_open = self.state.lock().session == SessionState::Open;
        if is_open {
            self.watch_requests.note_sent();
            self.send(WATCH.to_owned());
        }
        is_open
    }

    /// Records that another process watches the database, and answers it if this store has written.
    fn note_watch(&self) {
        if self.watch_requests.note_request() {
            self.send(TOUCHED.to_owned());
        }
    }

    /// Returns the number of changes that other processes have reported, and whether the next change will be reported.
    pub(super) fn watched_changes(&self) -> (i64, bool) {
        self.watch_requests.changes()
    }

    fn send(&self, payload: String) {
        self.outbox.lock().payloads.insert(payload);
        self.outbox_changed.lock().notify_one();
    }

    /// Returns when the next notification is due; `None` if the outbox is empty.
    pub(super) fn next_notification(&self) -> Option<Instant> {
        let outbox = self.outbox.lock();
        let next = || outbox.limiter.next().unwrap_or_else(Instant::now);
        (!outbox.payloads.is_empty()).then(next)
    }

    /// Takes the notifications out of the outbox.
    pub(super) fn take_notifications(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.outbox.lock().payloads)
    }

    /// Records that the notifications were sent, except those in `unsent`, which are put back into the outbox.
    pub(super) fn note_sent(&self, unsent: BTreeSet<String>) {
        let mut outbox = self.outbox.lock();
        if unsent.is_empty() {
            outbox.limiter.note_sent(Instant::now());
        }
        outbox.payloads.extend(unsent);
    }

    /// Handles a notification.
    pub(super) fn receive(&self, payload: &str) {
        let (kind, sender) = payload.split_once(' ').unwrap_or((payload, ""));
        match kind {
            BUSY => {}
            WATCH => {
                self.note_watch();
                return;
            }
            _ => self.watch_requests.note_change(),
        }
        let sender = sender.parse::<RunnerId>();
        if sender.is_ok_and(|sender| self.runner_cache.lock().is_sole(sender)) {
            return;
        }
        match kind {
            BUSY => self.start_lock_checks(),
            TOUCHED => {}
            WRITTEN => self.signal_change(false),
            _ => {
                self.runner_cache.lock().invalidate();
                self.start_lock_checks();
                self.signal_change(true);
            }
        }
    }

    /// Makes the listener check the advisory locks of peers during the next `LOCK_CHECK_PERIOD`.
    fn start_lock_checks(&self) {
        self.state.lock().locks_checked_until = Some(Instant::now() + LOCK_CHECK_PERIOD);
    }

    /// Returns whether the advisory locks of peers must be checked, because a peer may have claims.
    pub(super) fn needs_lock_checks(&self) -> bool {
        let until = self.state.lock().locks_checked_until;
        until.is_some_and(|until| Instant::now() < until) && self.runner_cache.lock().has_peers()
    }

    /// Records that the session is open and listens. This counts as a change, because notifications may have been
    /// missed before.
    pub(super) fn note_session_opened(&self) {
        self.state.lock().session = SessionState::Open;
        self.watch_requests.note_change();
        // A request may have been missed while no session was open.
        self.note_watch();
        self.start_lock_checks();
        self.signal_change(true);
    }

    /// Records the loss of an open session, and wakes the runner, which then sends heartbeats to show that it is alive.
    /// Returns whether the session was open.
    pub(super) fn note_session_lost(&self) -> bool {
        let was_open = {
            let mut state = self.state.lock();
            let was_open = state.session == SessionState::Open;
            if was_open {
                state.session = SessionState::LostAt(Instant::now());
            }
            was_open
        };
        if was_open {
            self.watch_requests.note_change();
            self.wake();
        }
        was_open
    }

    /// Reports runners whose locks have vanished.
    pub(super) fn report_vanished(&self, runners: Vec<RunnerId>) {
        self.state.lock().vanished.extend(runners);
        self.runner_cache.lock().invalidate();
        self.signal_change(true);
    }
}
