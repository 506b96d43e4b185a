//! What a store and its listener share: what peers wrote, and what they are to be told of this store's writes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::notify_rate_limiter::NotifyRateLimiter;
use super::runner::Roster;
use crate::store::Changes;
use crate::types::RunnerId;
use crate::types::sync::Mutex;

/// Time after which a store without a session that listens assumes that something has changed.
const UNHEARD: Duration = Duration::from_millis(500);
/// The same for a store that listens, should a notification be missed.
const HEARD: Duration = Duration::from_mins(1);
/// How long a runner that lost its session proves by heartbeats that it lives.
const PROVE_LIFE: Duration = Duration::from_secs(10);
/// The time between two notifications of a runner that has claims.
const BUSY_INTERVAL: Duration = Duration::from_secs(2);
/// How long the locks of peers are looked at after a peer said that it has claims.
const WATCH: Duration = Duration::from_secs(5);

/// A notification: anything may have changed, also the set of runners. Its sender may follow, as after the two others.
pub(super) const NEWS: &str = "news";
/// A notification: executions were written, and none of them goes on after its end.
const WROTE: &str = "wrote";
/// A notification: the sender has claims.
const BUSY: &str = "busy";

pub(super) type Wake = Arc<dyn Fn() + Send + Sync>;

/// The session that listens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Not opened yet.
    New,
    Open,
    LostAt(Instant),
}

struct State {
    marker: i64,
    revivals: u64,
    /// When the marker changed last.
    changed_at: Instant,
    link: Link,
    wake: Option<Wake>,
    vanished: Vec<RunnerId>,
    /// Until when the locks of peers are worth a look.
    watch_until: Option<Instant>,
}

impl State {
    fn change(&mut self, revives: bool) {
        self.marker += 1;
        self.revivals += u64::from(revives);
        self.changed_at = Instant::now();
    }
}

/// What is to be sent.
#[derive(Default)]
struct Outbox {
    payloads: BTreeSet<String>,
    limiter: NotifyRateLimiter,
    /// When this store said last that a runner of it has claims.
    busy_at: Option<Instant>,
}

/// See the module.
pub(super) struct ChangeNotifier {
    state: Mutex<State>,
    outbox: Mutex<Outbox>,
    /// Notified when the outbox or the set of this store's runners has changed.
    posted: Mutex<Arc<Notify>>,
    pub(super) roster: Mutex<Roster>,
}

impl ChangeNotifier {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                marker: 0,
                revivals: 0,
                changed_at: Instant::now(),
                link: Link::New,
                wake: None,
                vanished: Vec::new(),
                watch_until: None,
            }),
            outbox: Mutex::default(),
            posted: Mutex::default(),
            roster: Mutex::default(),
        }
    }

    pub(super) fn on_change(&self, wake: Wake) {
        self.state.lock().wake = Some(wake);
    }

    /// Has a listener notified of what is to be sent.
    pub(super) fn post_to(&self, posted: Arc<Notify>) {
        *self.posted.lock() = posted;
    }

    /// What has changed. `busy`: the runner that asks, if it has claims; its peers are told, so that they watch it.
    pub(super) fn changes(&self, busy: Option<RunnerId>) -> Changes {
        if let Some(runner) = busy {
            self.tell_busy(runner);
        }
        let mut state = self.state.lock();
        let patience = if state.link == Link::Open {
            HEARD
        } else {
            UNHEARD
        };
        if state.changed_at.elapsed() >= patience {
            state.change(true);
        }
        Changes {
            marker: state.marker,
            revivals: Some(state.revivals),
            vanished: std::mem::take(&mut state.vanished),
            must_prove_life: matches!(state.link, Link::LostAt(at) if at.elapsed() < PROVE_LIFE),
        }
    }

    fn tell_busy(&self, runner: RunnerId) {
        let mut outbox = self.outbox.lock();
        let is_due = outbox
            .busy_at
            .is_none_or(|at| at.elapsed() >= BUSY_INTERVAL);
        if is_due && self.roster.lock().has_others() {
            outbox.busy_at = Some(Instant::now());
            outbox.payloads.insert(format!("{BUSY} {runner}"));
            self.posted.lock().notify_one();
        }
    }

    /// Another runner has written. `revives`: an execution that had ended may go on.
    fn ring(&self, revives: bool) {
        self.state.lock().change(revives);
        self.wake();
    }

    fn wake(&self) {
        let wake = self.state.lock().wake.clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Tells other runners that a runner of this store wrote so many executions.
    pub(super) fn tell_written(&self, runner: RunnerId, executions: usize, revives: bool) {
        let (sole, others) = {
            let roster = self.roster.lock();
            (roster.is_sole(runner), roster.has_others())
        };
        if !sole {
            self.ring(revives);
        }
        let mut outbox = self.outbox.lock();
        outbox.limiter.note_written(executions, Instant::now());
        if others {
            let kind = if revives { NEWS } else { WROTE };
            outbox.payloads.insert(format!("{kind} {runner}"));
            self.posted.lock().notify_one();
        }
    }

    /// Tells other runners that runners, definitions or schedules changed.
    pub(super) fn tell_news(&self, runner: Option<RunnerId>) {
        let sender = runner.map_or_else(String::new, |runner| format!(" {runner}"));
        self.outbox
            .lock()
            .payloads
            .insert(format!("{NEWS}{sender}"));
        self.posted.lock().notify_one();
    }

    /// When the next notification is to be sent; `None`: there is none.
    pub(super) fn next_notification(&self) -> Option<Instant> {
        let outbox = self.outbox.lock();
        let next = || outbox.limiter.next().unwrap_or_else(Instant::now);
        (!outbox.payloads.is_empty()).then(next)
    }

    /// The notifications to send now.
    pub(super) fn take_notifications(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.outbox.lock().payloads)
    }

    /// Notes whether the notifications were sent; if not, they are kept.
    pub(super) fn note_sent(&self, unsent: BTreeSet<String>) {
        let mut outbox = self.outbox.lock();
        if unsent.is_empty() {
            outbox.limiter.note_sent(Instant::now());
        }
        outbox.payloads.extend(unsent);
    }

    /// Takes a notification.
    pub(super) fn hear(&self, payload: &str) {
        let (kind, sender) = payload.split_once(' ').unwrap_or((payload, ""));
        let sender = sender.parse::<RunnerId>();
        if sender.is_ok_and(|sender| self.roster.lock().is_sole(sender)) {
            return;
        }
        match kind {
            BUSY => self.watch(),
            WROTE => self.ring(false),
            _ => {
                self.roster.lock().forget();
                self.watch();
                self.ring(true);
            }
        }
    }

    fn watch(&self) {
        self.state.lock().watch_until = Some(Instant::now() + WATCH);
    }

    /// Whether a peer may have claims.
    pub(super) fn is_watching(&self) -> bool {
        let until = self.state.lock().watch_until;
        until.is_some_and(|until| Instant::now() < until) && self.roster.lock().has_others()
    }

    /// The session listens: anything may have happened before.
    pub(super) fn open_link(&self) {
        self.state.lock().link = Link::Open;
        self.watch();
        self.ring(true);
    }

    /// The session is lost, if it was open: a heartbeat shows that the runner is not.
    pub(super) fn lose_link(&self) -> bool {
        let was_open = {
            let mut state = self.state.lock();
            let was_open = state.link == Link::Open;
            if was_open {
                state.link = Link::LostAt(Instant::now());
            }
            was_open
        };
        if was_open {
            self.wake();
        }
        was_open
    }

    /// The locks of runners are gone for good.
    pub(super) fn tell_vanished(&self, runners: Vec<RunnerId>) {
        self.state.lock().vanished.extend(runners);
        self.roster.lock().forget();
        self.ring(true);
    }
}
