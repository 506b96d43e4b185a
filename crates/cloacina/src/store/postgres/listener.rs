//! Wake-ups: a connection that listens for other runners' notifications and sends this process's own.
//!
//! NOTIFY takes a lock over the whole database until its transaction has committed, so it stays off the connection that
//! writes, and what happens within a few milliseconds is told once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::types::sync::Mutex;
use sha2::{Digest, Sha256};
use tokio::runtime::Builder;
use tokio::sync::Notify;

use super::connection::Session;
use super::runner::Roster;
use crate::store::StoreError;
use crate::types::RunnerId;

/// Own notifications are sent at most so often.
const PACE: Duration = Duration::from_millis(10);
/// Between attempts to connect again.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(5);
/// Without a listener, something may have changed after so long.
const DEAF_LOOK: Duration = Duration::from_millis(500);
/// With one, so long is trusted that nothing was missed.
const TRUST: Duration = Duration::from_mins(1);
/// What a notification says that is for everybody.
pub(super) const HELLO: &str = "hello ";

pub(super) type Wake = Arc<dyn Fn() + Send + Sync>;

/// What the store and its listener share.
pub(super) struct Bell {
    counter: AtomicI64,
    listening: AtomicBool,
    rung: Mutex<Instant>,
    wake: Mutex<Option<Wake>>,
    outbox: Mutex<BTreeSet<String>>,
    posted: Notify,
    stop: Notify,
    pub(super) roster: Mutex<Roster>,
}

impl Bell {
    pub(super) fn new() -> Self {
        Self {
            counter: AtomicI64::new(0),
            listening: AtomicBool::new(false),
            rung: Mutex::new(Instant::now()),
            wake: Mutex::new(None),
            outbox: Mutex::default(),
            posted: Notify::new(),
            stop: Notify::new(),
            roster: Mutex::default(),
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
            self.counter.fetch_add(1, Ordering::AcqRel);
        }
        self.counter.load(Ordering::Acquire)
    }

    /// Another runner may have written.
    pub(super) fn ring(&self) {
        *self.rung.lock() = Instant::now();
        self.counter.fetch_add(1, Ordering::AcqRel);
        let wake = self.wake.lock().clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Tells the others that a runner of this store wrote.
    pub(super) fn post(&self, runner: RunnerId) {
        let (sole, others) = {
            let roster = self.roster.lock();
            (roster.is_sole(runner), roster.has_others())
        };
        if !sole {
            self.ring();
        }
        if others {
            self.send(runner.to_string());
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
        let (greeting, sender) = match payload.strip_prefix(HELLO) {
            Some(sender) => (true, sender),
            None => (false, payload),
        };
        let sender = sender.parse::<RunnerId>().ok();
        if sender.is_some_and(|sender| self.roster.lock().is_sole(sender)) {
            return;
        }
        if greeting {
            self.roster.lock().forget();
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
    let channel = channel_of(session);
    let mut backoff = FIRST_BACKOFF;
    loop {
        let outcome = tokio::select! {
            biased;
            () = bell.stop.notified() => return,
            outcome = hear_and_tell(session, bell, &channel, &mut backoff) => outcome,
        };
        bell.listening.store(false, Ordering::Release);
        if let Err(error) = outcome {
            tracing::debug!(%error, "the listener lost its connection and tries again");
        }
        let pause = backoff.mul_f64(0.75 + 0.5 * fastrand::f64());
        backoff = (backoff * 2).min(LAST_BACKOFF);
        tokio::select! {
            biased;
            () = bell.stop.notified() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Listens and notifies until the connection ends.
async fn hear_and_tell(
    session: &Session,
    bell: &Bell,
    channel: &str,
    backoff: &mut Duration,
) -> Result<(), StoreError> {
    let limit = session.options.connect_timeout;
    let lost = |error: tokio_postgres::Error| super::error::connecting(&error, &session.location);
    let opening = async {
        let (client, notifications) = session.listen().await?;
        // A notification need not survive a power loss.
        let listen = format!("SET synchronous_commit = off; LISTEN \"{channel}\"");
        client.batch_execute(&listen).await.map_err(lost)?;
        Ok((client, notifications))
    };
    let (client, mut notifications) =
        tokio::time::timeout(limit, opening)
            .await
            .unwrap_or_else(|_| {
                Err(StoreError::Unavailable(format!(
                    "the database {} did not answer",
                    session.location
                )))
            })?;
    *backoff = FIRST_BACKOFF;
    bell.listening.store(true, Ordering::Release);
    // Whatever happened while nobody listened.
    bell.ring();
    let mut next_post = tokio::time::Instant::now();
    loop {
        let waiting = !bell.outbox.lock().is_empty();
        tokio::select! {
            notification = notifications.recv() => match notification {
                Some(notification) => bell.hear(notification.payload()),
                None => return Ok(()),
            },
            () = bell.posted.notified(), if !waiting => {}
            () = tokio::time::sleep_until(next_post), if waiting => {
                let payloads = std::mem::take(&mut *bell.outbox.lock());
                // The payloads are ids of ours: no quote is in them.
                let calls: Vec<String> =
                    payloads.iter().map(|payload| format!("pg_notify('{channel}', '{payload}')")).collect();
                if let Err(error) = client.batch_execute(&format!("SELECT {}", calls.join(", "))).await {
                    bell.outbox.lock().extend(payloads);
                    return Err(lost(error));
                }
                next_post = tokio::time::Instant::now() + PACE;
            }
        }
    }
}

/// The channel of a schema: notifications are for a whole database.
pub(super) fn channel_of(session: &Session) -> String {
    let schema = session.options.schema.as_deref().unwrap_or("");
    let digest = Sha256::digest(schema.as_bytes());
    let short = (digest.iter().take(8)).fold(0, |short, byte| short << 8 | u64::from(*byte));
    format!("cloacina_{short:016x}")
}
