//! Connections shared by the stores of many tenants, under one limit (semantics H4).
//!
//! A connection belongs to one schema for life. A tenant without an idle connection of its own gets a new one, which
//! replaces another tenant's idle connection. Waiting callers are served in turn, tenant by tenant.
//!
//! The limit applies to the sessions that the server counts, and a session that was closed here takes a while to end
//! there. Closed sessions are therefore counted until the server no longer lists them, and one slot is kept spare for
//! the connection that asks the server.
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

/// A store's membership in a shared pool.
pub(super) struct PoolSlot {
    pub(super) pool: Arc<SharedPool>,
    pub(super) key: StoreKey,
    /// The listener that serves all stores of the pool.
    pub(super) listener: Option<Arc<Listener>>,
}

/// Minimum time a tenant keeps a connection while others wait: reconnecting costs milliseconds, and requests come in
/// bursts.
const MIN_HOLD: Duration = Duration::from_millis(20);
/// Time after which a closed session that has not ended counts as hung. It is left to the server.
const SESSION_END_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(1);

query! {
    /// Returns which of these sessions the server still lists.
    LivePids { pids: Vec<i32> => Array<Integer> } -> Integer;
    "SELECT a.pid FROM pg_catalog.pg_stat_get_activity(NULL) AS a WHERE a.pid = ANY ($1::int[])"
}

/// Identifies a store within its pool.
pub(super) type StoreKey = u64;

/// Connections shared by many stores.
pub(super) struct SharedPool {
    /// Maximum number of open connections and ending sessions together, without the spare slot.
    limit: usize,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    last_key: StoreKey,
    /// Idle connections, the most recently used one last.
    idle: Vec<IdleConnection>,
    /// Number of connections that are open here, including idle ones.
    open: usize,
    /// Process ids of sessions that were closed here and may not have ended on the server.
    ending: Vec<i32>,
    /// Whether the spare slot is in use.
    spare_in_use: bool,
    /// Waiting callers, by store.
    waiting: FxHashMap<StoreKey, VecDeque<Arc<Condvar>>>,
    /// Stores with waiting callers, the next one to serve first.
    turns: VecDeque<StoreKey>,
}

struct IdleConnection {
    key: StoreKey,
    connection: BlockingConnection,
    opened: Instant,
}

/// A connection that a caller may use, not necessarily open yet.
struct Grant {
    connection: BlockingConnection,
    opened: Instant,
    /// Whether it uses the spare slot until a session has ended.
    uses_spare: bool,
    /// The idle connection that it replaces, to be closed first.
    replaced: Option<BlockingConnection>,
}

enum Admission {
    Granted(Box<Grant>),
    /// Try again at this time, or when a connection comes back.
    Wait(Option<Instant>),
}

impl PoolState {
    /// Takes the store's most recently used idle connection.
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

    /// Like [`Self::take_own`], without waiting for a turn: if no caller waits, or if the connection was opened
    /// recently.
    fn take_own_at_once(&mut self, key: StoreKey, now: Instant) -> Option<Grant> {
        let is_new = |idle: &IdleConnection| now < idle.opened + MIN_HOLD;
        let newest = self.idle.iter().rfind(|idle| idle.key == key)?;
        if self.turns.is_empty() || is_new(newest) {
            return self.take_own(key);
        }
        None
    }

    /// Decides what the next waiting caller gets.
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

    /// Removes the caller that was served, and moves its store to the end of the queue.
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
    /// Creates a pool of at most `connections` connections, and at least two.
    pub(super) fn new(connections: usize) -> Self {
        Self {
            limit: connections.saturating_sub(1).max(1),
            state: Mutex::default(),
        }
    }

    /// Adds a store.
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

    /// Waits until these sessions, which were opened outside the pool, have ended.
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

    /// Runs `work` on a connection, waiting while all are in use.
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
        // Closed before its replacement is opened.
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
    /// `allowed` is the number of open connections and ending sessions that may remain; 0 waits for all ending
    /// sessions.
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
