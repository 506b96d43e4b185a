//! A pool of connections that the stores of many tenants share, with one limit (semantics H4).
//!
//! A connection belongs to one schema until it is closed. If a tenant needs a connection and has no idle one, it opens
//! a new connection, which replaces an idle connection of another tenant. Waiting callers are served tenant by tenant,
//! in turn.
//!
//! The limit applies to the sessions that the server counts. A session that was closed by the client takes a while to
//! end on the server. Closed sessions are therefore counted until the server no longer lists them. One slot is kept
//! spare for the connection that queries the server for its sessions.
//!
//! See docs/explanation/decisions/061-shared-workers.md

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::sql_types::{Array, Integer};
use rustc_hash::FxHashMap;

use super::blocking_connection::BlockingConnection;
use super::listener::Listener;
use super::session::Session;
use super::statement::query;
use crate::store::StoreError;
use crate::types::sync::{Condvar, Mutex};

/// The membership of a store in a shared pool.
pub(super) struct PoolSlot {
    pub(super) pool: Arc<SharedPool>,
    pub(super) key: StoreKey,
    /// The listener that serves all stores of the pool.
    pub(super) listener: Option<Arc<Listener>>,
}

/// Minimum time that a tenant keeps a connection while other tenants wait. Without this minimum, tenants with bursts
/// of requests would reconnect too often, which costs milliseconds.
const MIN_HOLD: Duration = Duration::from_millis(20);
/// How long the pool waits for closed sessions to end on the server before it stops counting them.
const SESSION_END_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two queries for the sessions that have not ended.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

query! {
    /// Returns each given process id whose session the server still lists.
    LivePids { pids: Vec<i32> => Array<Integer> } -> Integer;
    "SELECT a.pid FROM pg_catalog.pg_stat_get_activity(NULL) AS a WHERE a.pid = ANY ($1::int[])"
}

/// Identifies a store within its pool.
pub(super) type StoreKey = u64;

/// A pool of connections that many stores share.
pub(super) struct SharedPool {
    /// Maximum number of open connections and ending sessions together, not counting the spare slot.
    limit: usize,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    last_key: StoreKey,
    /// Idle connections. The most recently used one is last.
    idle: Vec<IdleConnection>,
    /// Number of connections that are open in this process, including idle ones.
    open: usize,
    /// Process ids of sessions that were closed by this process and may not have ended on the server.
    ending: Vec<i32>,
    /// Whether the spare slot is in use.
    spare_in_use: bool,
    /// Waiting callers, by store.
    waiting: FxHashMap<StoreKey, VecDeque<Arc<Condvar>>>,
    /// Stores with waiting callers. The store to serve next is first.
    turns: VecDeque<StoreKey>,
}

struct IdleConnection {
    key: StoreKey,
    connection: BlockingConnection,
    opened: Instant,
}

/// A connection that a caller can use. The connection may not be open yet.
struct Grant {
    connection: BlockingConnection,
    opened: Instant,
    /// Whether the connection uses the spare slot until another session has ended.
    uses_spare: bool,
    /// The idle connection that this connection replaces. It must be closed first.
    replaced: Option<BlockingConnection>,
}

enum Admission {
    Granted(Box<Grant>),
    /// Try again when a connection is returned, or at this time if one is given.
    Wait(Option<Instant>),
}

impl PoolState {
    /// Takes the store's most recently used idle connection; `None` if it has no idle connection.
    fn take_own(&mut self, key: StoreKey) -> Option<Grant> {
        let at = self.idle.iter().rposition(|idle| idle.key == key)?;
        let idle = self.idle.remove(at);
        Some(Grant {
            connection: idle.connection,
            opened: idle.opened,
            uses_spare: false,
            replaced: None,
        })
    }

    /// Takes an idle connection of the store for a caller that has not queued. If other callers wait, takes only a
    /// connection that was opened recently. Returns `None` if no connection can be taken.
    fn take_own_at_once(&mut self, key: StoreKey, now: Instant) -> Option<Grant> {
        let is_new = |idle: &IdleConnection| now < idle.opened + MIN_HOLD;
        let newest = self.idle.iter().rfind(|idle| idle.key == key)?;
        if self.turns.is_empty() || is_new(newest) {
            return self.take_own(key);
        }
        None
    }

    /// Decides whether the next waiting caller gets a connection.
    fn admit(&mut self, key: StoreKey, limit: usize, now: Instant) -> Admission {
        if let Some(grant) = self.take_own(key) {
            return Admission::Granted(Box::new(grant));
        }
        let mut grant = Grant {
            connection: BlockingConnection::new(),
            opened: now,
            uses_spare: false,
            replaced: None,
        };
        if self.open + self.ending.len() >= limit {
            if self.spare_in_use {
                return Admission::Wait(None);
            }
            if self.ending.is_empty() {
                let replaceable = |idle: &IdleConnection| idle.opened + MIN_HOLD <= now;
                let Some(at) = self.idle.iter().position(replaceable) else {
                    let next = self.idle.iter().map(|idle| idle.opened + MIN_HOLD);
                    return Admission::Wait(next.min());
                };
                let replaced = self.idle.remove(at).connection;
                self.open -= 1;
                self.ending.extend(replaced.pid());
                grant.replaced = Some(replaced);
            }
            grant.uses_spare = !self.ending.is_empty();
            self.spare_in_use = grant.uses_spare;
        }
        self.open += 1;
        Admission::Granted(Box::new(grant))
    }

    fn enqueue(&mut self, key: StoreKey) -> Arc<Condvar> {
        let waiter = Arc::new(Condvar::new());
        let waiting = self.waiting.entry(key).or_default();
        waiting.push_back(Arc::clone(&waiter));
        if waiting.len() == 1 {
            self.turns.push_back(key);
        }
        waiter
    }

    fn next(&self) -> Option<&Arc<Condvar>> {
        self.waiting.get(self.turns.front()?)?.front()
    }

    /// Removes the caller that was served. If more callers of the same store wait, moves the store to the end of the queue.
    fn dequeue(&mut self) {
        let Some(key) = self.turns.pop_front() else {
            return;
        };
        if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.pop_front();
            if waiting.is_empty() {
                self.waiting.remove(&key);
            } else {
                self.turns.push_back(key);
            }
        }
    }

    fn wake_next(&self) {
        if let Some(waiter) = self.next() {
            waiter.notify_one();
        }
    }
}

impl SharedPool {
    /// Creates a pool of at most `connections` connections, but at least two.
    pub(super) fn new(connections: usize) -> Self {
        Self {
            limit: connections.saturating_sub(1).max(1),
            state: Mutex::default(),
        }
    }

    /// Adds a store to the pool.
    pub(super) fn join(&self) -> StoreKey {
        let mut state = self.state.lock();
        state.last_key += 1;
        state.last_key
    }

    /// Closes the idle connections of a store.
    pub(super) fn leave(&self, key: StoreKey) {
        let mut state = self.state.lock();
        let mut closed = Vec::new();
        while let Some(grant) = state.take_own(key) {
            state.open -= 1;
            state.ending.extend(grant.connection.pid());
            closed.push(grant.connection);
        }
        state.wake_next();
        drop(state);
    }

    /// Waits until these sessions, which were opened outside of the pool, have ended on the server, but not longer than
    /// [`SESSION_END_TIMEOUT`].
    pub(super) fn await_ends(
        &self,
        key: StoreKey,
        session: &Session,
        pids: Vec<i32>,
    ) -> Result<(), StoreError> {
        self.state.lock().ending.extend(pids);
        let mut borrowed = self.borrow(key);
        borrowed.open(session)?;
        borrowed.await_session_ends(session, 0);
        Ok(())
    }

    /// Runs `work` on a connection. Waits while all connections are in use.
    pub(super) fn run<T>(
        &self,
        key: StoreKey,
        session: &Session,
        work: impl FnOnce(&mut BlockingConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut borrowed = self.borrow(key);
        borrowed.open(session)?;
        work(&mut borrowed.connection)
    }

    fn borrow(&self, key: StoreKey) -> BorrowedConnection<'_> {
        let grant = self.take(key);
        // The replaced connection is closed before the new one is opened.
        drop(grant.replaced);
        BorrowedConnection {
            pool: self,
            key,
            connection: grant.connection,
            opened: grant.opened,
            uses_spare: grant.uses_spare,
        }
    }

    fn take(&self, key: StoreKey) -> Grant {
        let mut state = self.state.lock();
        if let Some(grant) = state.take_own_at_once(key, Instant::now()) {
            return grant;
        }
        let waiter = state.enqueue(key);
        loop {
            let is_next = state.next().is_some_and(|next| Arc::ptr_eq(next, &waiter));
            if !is_next {
                waiter.wait(&mut state);
                continue;
            }
            match state.admit(key, self.limit, Instant::now()) {
                Admission::Granted(grant) => {
                    state.dequeue();
                    state.wake_next();
                    return *grant;
                }
                Admission::Wait(Some(until)) => {
                    waiter.wait_until(&mut state, until);
                }
                Admission::Wait(None) => waiter.wait(&mut state),
            }
        }
    }
}

/// A borrowed connection. Dropping it returns the connection to the pool.
struct BorrowedConnection<'a> {
    pool: &'a SharedPool,
    key: StoreKey,
    connection: BlockingConnection,
    opened: Instant,
    uses_spare: bool,
}

impl BorrowedConnection<'_> {
    fn open(&mut self, session: &Session) -> Result<(), StoreError> {
        if !self.connection.is_open() {
            self.connection.run(session, async |_, _| Ok(()))?;
            self.opened = Instant::now();
        }
        if self.uses_spare {
            let others = self.pool.limit;
            self.await_session_ends(session, others);
        }
        Ok(())
    }

    /// Waits until enough ending sessions have ended, and then frees the spare slot.
    ///
    /// `allowed` is the number of open connections and ending sessions that can remain. If it is 0, waits for all
    /// ending sessions. After [`SESSION_END_TIMEOUT`], all of them count as ended.
    fn await_session_ends(&mut self, session: &Session, allowed: usize) {
        let until = Instant::now() + SESSION_END_TIMEOUT;
        loop {
            let mut state = self.pool.state.lock();
            let enough = state.ending.is_empty() || state.open + state.ending.len() <= allowed;
            if !enough && Instant::now() >= until {
                state.ending.clear();
                continue;
            }
            if enough {
                if std::mem::take(&mut self.uses_spare) {
                    state.spare_in_use = false;
                }
                state.wake_next();
                return;
            }
            let pids = state.ending.clone();
            drop(state);
            let queried = pids.clone();
            let alive: Vec<i32> = self
                .connection
                .run(session, async |connection, session| {
                    let alive: Vec<i32> = session
                        .fetch(connection, LivePids { pids: queried })
                        .await?;
                    if !alive.is_empty() {
                        tokio::time::sleep(POLL_INTERVAL).await;
                    }
                    Ok(alive)
                })
                .unwrap_or_default();
            let gone = |pid: &i32| pids.contains(pid) && !alive.contains(pid);
            self.pool.state.lock().ending.retain(|pid| !gone(pid));
        }
    }
}

impl Drop for BorrowedConnection<'_> {
    fn drop(&mut self) {
        let connection = std::mem::replace(&mut self.connection, BlockingConnection::new());
        let mut state = self.pool.state.lock();
        if self.uses_spare {
            state.spare_in_use = false;
        }
        if connection.is_open() {
            state.idle.push(IdleConnection {
                key: self.key,
                connection,
                opened: self.opened,
            });
        } else {
            state.open -= 1;
        }
        state.wake_next();
    }
}
