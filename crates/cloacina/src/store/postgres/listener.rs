//! Wake-ups: a connection that listens for other runners' notifications and sends this process's own.
//!
//! NOTIFY takes a lock over the whole database until its transaction has committed, so it stays off the connection that
//! writes, and what happens within a few milliseconds is told once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::types::sync::Mutex;
use tokio::runtime::Builder;
use tokio::sync::Notify;

use super::pace::Pace;
use super::presence::{Loss, Presence, Watch};
use super::runner::Roster;
use super::session::Session;
use crate::store::StoreError;
use crate::types::RunnerId;

/// Between attempts to connect again.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(5);
/// Without a listener, something may have changed after so long.
const DEAF_LOOK: Duration = Duration::from_millis(500);
/// With one, so long is trusted that nothing was missed.
const TRUST: Duration = Duration::from_mins(1);
/// What a notification says that is for everybody.
pub(super) const HELLO: &str = "hello ";
/// A runner wrote, and nothing that had ended goes on. Its id alone says that it may have written anything.
const WROTE: &str = "wrote ";
/// A runner says that it has claims.
const BUSY: &str = "busy ";
/// And that it has none any more.
const REST: &str = "rest ";
/// Without its session, a runner shows this often that it lives.
const PROOF: Duration = Duration::from_millis(400);

pub(super) type Wake = Arc<dyn Fn() + Send + Sync>;

/// What the store and its listener share.
pub(super) struct Bell {
    counter: AtomicI64,
    revivals: AtomicU64,
    listening: AtomicBool,
    rung: Mutex<Instant>,
    wake: Mutex<Option<Wake>>,
    outbox: Mutex<BTreeSet<String>>,
    pace: Mutex<Pace>,
    posted: Notify,
    stop: Notify,
    pub(super) roster: Mutex<Roster>,
    pub(super) presence: Presence,
}

impl Bell {
    pub(super) fn new() -> Self {
        Self {
            counter: AtomicI64::new(0),
            revivals: AtomicU64::new(0),
            listening: AtomicBool::new(false),
            rung: Mutex::new(Instant::now()),
            wake: Mutex::new(None),
            outbox: Mutex::default(),
            pace: Mutex::default(),
            posted: Notify::new(),
            stop: Notify::new(),
            roster: Mutex::default(),
            presence: Presence::default(),
        }
    }

    pub(super) fn on_change(&self, wake: Wake) {
        *self.wake.lock() = Some(wake);
    }

    /// The number that changes when another runner may have written.
    pub(super) fn marker(&self) -> i64 {
        let patience = if self.listening.load(Ordering::Acquire) {
            TRUST
        } else {
            DEAF_LOOK
        };
        let mut rung = self.rung.lock();
        if rung.elapsed() >= patience {
            *rung = Instant::now();
            self.revivals.fetch_add(1, Ordering::AcqRel);
            self.counter.fetch_add(1, Ordering::AcqRel);
        }
        self.counter.load(Ordering::Acquire)
    }

    /// The number that changes when an execution that had ended may go on.
    pub(super) fn revivals(&self) -> u64 {
        self.revivals.load(Ordering::Acquire)
    }

    /// Another runner may have written anything.
    pub(super) fn ring(&self) {
        self.revivals.fetch_add(1, Ordering::AcqRel);
        self.ring_for_writes();
    }

    /// Another runner has written, and nothing that had ended goes on.
    fn ring_for_writes(&self) {
        *self.rung.lock() = Instant::now();
        self.counter.fetch_add(1, Ordering::AcqRel);
        self.wake();
    }

    fn wake(&self) {
        let wake = self.wake.lock().clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// A runner of this store has claims, or has none any more.
    pub(super) fn at_work(&self, runner: RunnerId, at_work: bool) {
        if self.presence.at_work(runner, at_work) {
            self.posted.notify_one();
        }
    }

    /// Puts down that runners of this store work, if anybody could watch over them.
    fn announce(&self) {
        let news = self.presence.announce();
        if self.roster.lock().has_others() {
            let mut outbox = self.outbox.lock();
            outbox.extend(news.busy.iter().map(|runner| format!("{BUSY}{runner}")));
            outbox.extend(news.resting.iter().map(|runner| format!("{REST}{runner}")));
        }
    }

    /// Without its session, the runner shows that it lives.
    fn prove_life(&self) {
        self.presence.prove_life();
        self.wake();
    }

    /// Tells the others that a runner of this store wrote so many executions. `revives`: one that had ended goes on.
    pub(super) fn post(&self, runner: RunnerId, executions: usize, revives: bool) {
        self.pace.lock().wrote(executions);
        let (sole, others) = {
            let roster = self.roster.lock();
            (roster.is_sole(runner), roster.has_others())
        };
        if !sole {
            if revives {
                self.ring();
            } else {
                self.ring_for_writes();
            }
        }
        if others {
            let what = if revives { "" } else { WROTE };
            self.send(format!("{what}{runner}"));
        }
    }

    /// Tells the others that the set of runners or definitions changed.
    pub(super) fn greet(&self, runner: Option<RunnerId>) {
        self.send(format!(
            "{HELLO}{}",
            runner.map_or_else(String::new, |runner| runner.to_string())
        ));
    }

    fn send(&self, payload: String) {
        self.outbox.lock().insert(payload);
        self.posted.notify_one();
    }

    fn hear(&self, payload: &str) {
        if let Some(runner) = payload.strip_prefix(BUSY) {
            if let Ok(runner) = runner.parse() {
                self.presence.hear(runner);
            }
            return;
        }
        if let Some(runner) = payload.strip_prefix(REST) {
            if let Ok(runner) = runner.parse() {
                self.presence.hear_rest(runner);
            }
            return;
        }
        let (greeting, sender) = match payload.strip_prefix(HELLO) {
            Some(sender) => (true, sender),
            None => (false, payload),
        };
        let (ordinary, sender) = match sender.strip_prefix(WROTE) {
            Some(sender) => (true, sender),
            None => (false, sender),
        };
        let sender = sender.parse::<RunnerId>().ok();
        if sender.is_some_and(|sender| self.roster.lock().is_sole(sender)) {
            return;
        }
        if ordinary {
            return self.ring_for_writes();
        }
        if greeting {
            self.roster.lock().forget();
            self.presence.announce_again();
        }
        self.ring();
    }
}

/// The thread of the listener; it ends with this value.
pub(super) struct Listener {
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Starts listening. Failures to connect are retried for as long as it lives.
    pub(super) fn start(session: Arc<Session>, bell: Arc<Bell>) -> Result<Self, StoreError> {
        let failed = |error: std::io::Error| {
            StoreError::Failed(format!(
                "the system gives no thread to listen to the database: {error}"
            ))
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let shared = Arc::clone(&bell);
        let run = move || runtime.block_on(listen(&session, &shared));
        let thread = std::thread::Builder::new()
            .name("cloacina-listen".to_owned())
            .spawn(run)
            .map_err(failed)?;
        Ok(Self {
            bell,
            thread: Some(thread),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.bell.stop.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic in there has been reported by the hook; it has nothing to say here.
            drop(thread.join());
        }
    }
}

async fn listen(session: &Session, bell: &Bell) {
    let channel = session.channel();
    let mut backoff = FIRST_BACKOFF;
    let mut loss = Loss::default();
    loop {
        let attempt = hear_and_tell(session, bell, &channel);
        let Some(outcome) = alive(bell, &mut loss, attempt).await else {
            return;
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "the listener lost its connection and tries again");
        }
        if bell.listening.swap(false, Ordering::AcqRel) {
            backoff = FIRST_BACKOFF;
            loss.begin();
            bell.prove_life();
        }
        let pause = tokio::time::sleep(backoff.mul_f64(0.75 + 0.5 * fastrand::f64()));
        if alive(bell, &mut loss, pause).await.is_none() {
            return;
        }
        backoff = (backoff * 2).min(LAST_BACKOFF);
    }
}

/// Waits for `work` and, while the session is lost, shows meanwhile that the runner lives. `None`: the listener is to end.
async fn alive<T>(bell: &Bell, loss: &mut Loss, work: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(work);
    loop {
        if bell.listening.load(Ordering::Acquire) {
            loss.end();
        }
        tokio::select! {
            biased;
            () = bell.stop.notified() => return None,
            value = &mut work => return Some(value),
            () = tokio::time::sleep(PROOF), if loss.needs_proof() => {
                if !bell.listening.load(Ordering::Acquire) {
                    bell.prove_life();
                }
            }
        }
    }
}

/// Listens and notifies until the connection ends.
async fn hear_and_tell(session: &Session, bell: &Bell, channel: &str) -> Result<(), StoreError> {
    let limit = session.options.connect_timeout;
    let lost = |error: tokio_postgres::Error| super::error::connecting(&error, &session.location);
    let opening = async {
        let (client, notifications) = session.listen().await?;
        // A notification need not survive a power loss.
        let listen = format!("SET synchronous_commit = off; LISTEN \"{channel}\"");
        client.batch_execute(&listen).await.map_err(lost)?;
        let mut watch = Watch::over(session.options.schema.as_deref());
        watch.hold(&client, bell).await.map_err(lost)?;
        Ok((client, notifications, watch))
    };
    let (client, mut notifications, mut watch) = tokio::time::timeout(limit, opening)
        .await
        .unwrap_or_else(|_| {
            Err(StoreError::Unavailable(format!(
                "the database {} did not answer",
                session.location
            )))
        })?;
    bell.listening.store(true, Ordering::Release);
    // Whatever happened while nobody listened.
    bell.ring();
    bell.presence.announce_again();
    loop {
        watch.hold(&client, bell).await.map_err(lost)?;
        let waiting = !bell.outbox.lock().is_empty();
        let next_post = bell.pace.lock().next().unwrap_or_else(Instant::now);
        let next_look = watch.next_look(bell);
        let next_announcement = bell.presence.next_announcement();
        tokio::select! {
            notification = notifications.recv() => match notification {
                Some(notification) => bell.hear(notification.payload()),
                None => return Ok(()),
            },
            () = bell.posted.notified(), if !waiting => {}
            () = tokio::time::sleep_until(next_post.into()), if waiting => {
                let payloads = std::mem::take(&mut *bell.outbox.lock());
                // The payloads are ids of ours: no quote is in them.
                let calls: Vec<String> =
                    payloads.iter().map(|payload| format!("pg_notify('{channel}', '{payload}')")).collect();
                if let Err(error) = client.batch_execute(&format!("SELECT {}", calls.join(", "))).await {
                    bell.outbox.lock().extend(payloads);
                    return Err(lost(error));
                }
                bell.pace.lock().told(Instant::now());
            }
            () = until(next_announcement) => bell.announce(),
            () = until(next_look) => watch.look(&client, bell).await.map_err(lost)?,
        }
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
