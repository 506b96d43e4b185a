//! The connections of many tenants' stores under one limit (semantics H4).
//!
//! A connection belongs to one schema for life, so a tenant that finds no idle one of its own gets a new one in the place
//! of another tenant's idle one. Who waits is served in turn, tenant by tenant.
//!
//! The limit holds for what the server counts, and a session that was closed here may take a while to end there. So
//! closed ones are counted until they are seen to be gone, and one place is kept free to open a connection that can look.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::sql_types::{Array, Integer};
use rustc_hash::FxHashMap;

use super::listener::Listener;
use super::session::Session;
use super::statement::query;
use super::write_connection::Lane;
use crate::store::StoreError;
use crate::types::sync::{Condvar, Mutex};

/// A store's membership in a pool.
pub(super) struct PoolSlot {
    pub(super) pool: Arc<Pool>,
    pub(super) key: Key,
    /// Listens for all stores of the pool.
    pub(super) listener: Option<Arc<Listener>>,
}

/// A connection stays with its tenant for so long although others wait: opening one costs some milliseconds, and who
/// has got one mostly has more than one thing to do.
const QUANTUM: Duration = Duration::from_millis(20);
/// A session that does not end for so long hangs; it is the server's to end.
const LINGER: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(1);

query! {
    /// Which of these sessions the server still has.
    Alive { pids: Vec<i32> => Array<Integer> } -> Integer;
    "SELECT a.pid FROM pg_catalog.pg_stat_get_activity(NULL) AS a WHERE a.pid = ANY ($1::int[])"
}

/// Names a store within its pool.
pub(super) type Key = u64;

/// Connections of many stores.
pub(super) struct Pool {
    /// Of connections here and sessions that still end there; the place kept free is not in it.
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    last_key: Key,
    /// The one that was used last at the end.
    idle: Vec<Parked>,
    /// Connections here, the idle ones among them.
    open: usize,
    /// Server processes of connections that were closed here.
    ending: Vec<i32>,
    /// Somebody uses the place that is kept free.
    looking: bool,
    /// Who waits, by store.
    waiting: FxHashMap<Key, VecDeque<Arc<Condvar>>>,
    /// Stores for which somebody waits, the next one first.
    turn: VecDeque<Key>,
}

struct Parked {
    key: Key,
    lane: Lane,
    opened: Instant,
}

/// A way to the database, as far as it was granted.
struct Grant {
    lane: Lane,
    opened: Instant,
    /// It uses the place that is kept free, until a session has ended.
    looks: bool,
    /// The connection in whose place it is opened.
    victim: Option<Lane>,
}

enum Verdict {
    Granted(Box<Grant>),
    /// Look again then, or when something comes back.
    Wait(Option<Instant>),
}

impl Inner {
    /// An idle connection of the store, the one that was used last.
    fn own(&mut self, key: Key) -> Option<Grant> {
        let at = self.idle.iter().rposition(|parked| parked.key == key)?;
        let parked = self.idle.remove(at);
        Some(Grant {
            lane: parked.lane,
            opened: parked.opened,
            looks: false,
            victim: None,
        })
    }

    /// The same without waiting for a turn: while nobody waits, and for a while after it was opened.
    fn own_at_once(&mut self, key: Key, now: Instant) -> Option<Grant> {
        let fresh = |parked: &Parked| now < parked.opened + QUANTUM;
        let newest = self.idle.iter().rfind(|parked| parked.key == key)?;
        if self.turn.is_empty() || fresh(newest) {
            return self.own(key);
        }
        None
    }

    /// What the one whose turn it is may have.
    fn admit(&mut self, key: Key, limit: usize, now: Instant) -> Verdict {
        if let Some(grant) = self.own(key) {
            return Verdict::Granted(Box::new(grant));
        }
        let mut grant = Grant {
            lane: Lane::new(),
            opened: now,
            looks: false,
            victim: None,
        };
        if self.open + self.ending.len() >= limit {
            if self.looking {
                return Verdict::Wait(None);
            }
            if self.ending.is_empty() {
                let ripe = |parked: &Parked| parked.opened + QUANTUM <= now;
                let Some(at) = self.idle.iter().position(ripe) else {
                    let next = self.idle.iter().map(|parked| parked.opened + QUANTUM);
                    return Verdict::Wait(next.min());
                };
                let victim = self.idle.remove(at).lane;
                self.open -= 1;
                self.ending.extend(victim.pid());
                grant.victim = Some(victim);
            }
            grant.looks = !self.ending.is_empty();
            self.looking = grant.looks;
        }
        self.open += 1;
        Verdict::Granted(Box::new(grant))
    }

    fn enqueue(&mut self, key: Key) -> Arc<Condvar> {
        let bell = Arc::new(Condvar::new());
        let waiting = self.waiting.entry(key).or_default();
        waiting.push_back(Arc::clone(&bell));
        if waiting.len() == 1 {
            self.turn.push_back(key);
        }
        bell
    }

    fn next(&self) -> Option<&Arc<Condvar>> {
        self.waiting.get(self.turn.front()?)?.front()
    }

    /// The next one was served: its store goes to the end of the line.
    fn dequeue(&mut self) {
        let Some(key) = self.turn.pop_front() else {
            return;
        };
        if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.pop_front();
            if waiting.is_empty() {
                self.waiting.remove(&key);
            } else {
                self.turn.push_back(key);
            }
        }
    }

    fn wake_next(&self) {
        if let Some(bell) = self.next() {
            bell.notify_one();
        }
    }
}

impl Pool {
    /// A pool of at most `connections`, two at least.
    pub(super) fn new(connections: usize) -> Self {
        Self {
            limit: connections.saturating_sub(1).max(1),
            inner: Mutex::default(),
        }
    }

    /// A place for a store.
    pub(super) fn join(&self) -> Key {
        let mut inner = self.inner.lock();
        inner.last_key += 1;
        inner.last_key
    }

    /// Closes the idle connections of a store.
    pub(super) fn leave(&self, key: Key) {
        let mut inner = self.inner.lock();
        let mut left = Vec::new();
        while let Some(grant) = inner.own(key) {
            inner.open -= 1;
            inner.ending.extend(grant.lane.pid());
            left.push(grant.lane);
        }
        inner.wake_next();
        drop(inner);
    }

    /// Waits until sessions have ended that were opened beside the pool.
    pub(super) fn await_ends(
        &self,
        key: Key,
        session: &Session,
        pids: Vec<i32>,
    ) -> Result<(), StoreError> {
        self.inner.lock().ending.extend(pids);
        let mut loan = self.borrow(key);
        loan.open(session)?;
        loan.look(session, 0);
        Ok(())
    }

    /// Lends a connection to `work`; waits while all are lent.
    pub(super) fn lend<T>(
        &self,
        key: Key,
        session: &Session,
        work: impl FnOnce(&mut Lane) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut loan = self.borrow(key);
        loan.open(session)?;
        work(&mut loan.lane)
    }

    fn borrow(&self, key: Key) -> Loan<'_> {
        let grant = self.take(key);
        // Closed before another one is opened in its place.
        drop(grant.victim);
        Loan {
            pool: self,
            key,
            lane: grant.lane,
            opened: grant.opened,
            looks: grant.looks,
        }
    }

    fn take(&self, key: Key) -> Grant {
        let mut inner = self.inner.lock();
        if let Some(grant) = inner.own_at_once(key, Instant::now()) {
            return grant;
        }
        let bell = inner.enqueue(key);
        loop {
            let is_next = inner.next().is_some_and(|next| Arc::ptr_eq(next, &bell));
            if !is_next {
                bell.wait(&mut inner);
                continue;
            }
            match inner.admit(key, self.limit, Instant::now()) {
                Verdict::Granted(grant) => {
                    inner.dequeue();
                    inner.wake_next();
                    return *grant;
                }
                Verdict::Wait(Some(until)) => {
                    bell.wait_until(&mut inner, until);
                }
                Verdict::Wait(None) => bell.wait(&mut inner),
            }
        }
    }
}

/// A connection that is lent; it goes back when the loan ends, however it ends.
struct Loan<'a> {
    pool: &'a Pool,
    key: Key,
    lane: Lane,
    opened: Instant,
    looks: bool,
}

impl Loan<'_> {
    fn open(&mut self, session: &Session) -> Result<(), StoreError> {
        if !self.lane.is_open() {
            self.lane.run(session, async |_, _| Ok(()))?;
            self.opened = Instant::now();
        }
        if self.looks {
            let others = self.pool.limit;
            self.look(session, others);
        }
        Ok(())
    }

    /// Waits until sessions that end have ended, and the place that is kept free is free again.
    ///
    /// `allowed`: how many connections and ending sessions there may be then, or 0 for no ending ones.
    fn look(&mut self, session: &Session, allowed: usize) {
        let until = Instant::now() + LINGER;
        loop {
            let mut inner = self.pool.inner.lock();
            let enough = inner.ending.is_empty() || inner.open + inner.ending.len() <= allowed;
            if !enough && Instant::now() >= until {
                inner.ending.clear();
                continue;
            }
            if enough {
                if std::mem::take(&mut self.looks) {
                    inner.looking = false;
                }
                inner.wake_next();
                return;
            }
            let pids = inner.ending.clone();
            drop(inner);
            let asked = pids.clone();
            let alive: Vec<i32> = self
                .lane
                .run(session, async |connection, session| {
                    let alive: Vec<i32> = session.fetch(connection, Alive { pids: asked }).await?;
                    if !alive.is_empty() {
                        tokio::time::sleep(LOOK).await;
                    }
                    Ok(alive)
                })
                .unwrap_or_default();
            let gone = |pid: &i32| pids.contains(pid) && !alive.contains(pid);
            self.pool.inner.lock().ending.retain(|pid| !gone(pid));
        }
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let lane = std::mem::replace(&mut self.lane, Lane::new());
        let mut inner = self.pool.inner.lock();
        if self.looks {
            inner.looking = false;
        }
        if lane.is_open() {
            inner.idle.push(Parked {
                key: self.key,
                lane,
                opened: self.opened,
            });
        } else {
            inner.open -= 1;
        }
        inner.wake_next();
    }
}
