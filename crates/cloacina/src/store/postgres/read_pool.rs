//! The pool of connections that only read.

use super::write_connection::Lane;
use crate::types::sync::{Condvar, Mutex};

/// Readers at the same time; they are opened when they are first needed.
const READERS: usize = 3;

/// Lanes that only read.
pub(super) struct Readers {
    limit: usize,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Lane>,
    open: usize,
    closed: bool,
    /// Connections end when their loans do.
    ended: bool,
}

impl Readers {
    /// At most so many; none may be enough.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.min(READERS),
            pool: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// Lends a lane; waits while all are lent. `None`: there are none.
    pub(super) fn borrow(&self) -> Option<Loan<'_>> {
        let mut pool = self.pool.lock();
        loop {
            if pool.closed || self.limit == 0 {
                return None;
            }
            let lane = match pool.idle.pop() {
                Some(lane) => lane,
                None if pool.open < self.limit => {
                    pool.open += 1;
                    Lane::new()
                }
                None => {
                    self.returned.wait(&mut pool);
                    continue;
                }
            };
            return Some(Loan {
                readers: self,
                lane: Some(lane),
            });
        }
    }

    /// Ends the idle connections, and the others when they come back; lends none any more.
    pub(super) fn end(&self) {
        let mut pool = self.pool.lock();
        pool.closed = true;
        pool.ended = true;
        pool.open -= pool.idle.len();
        let idle = std::mem::take(&mut pool.idle);
        drop(pool);
        drop(idle);
        self.returned.notify_all();
    }

    /// Ends all connections and lends none any more; the server's processes that end with them.
    pub(super) fn close(&self) -> Vec<i32> {
        let mut pool = self.pool.lock();
        pool.closed = true;
        let mut pids = Vec::new();
        loop {
            let idle = std::mem::take(&mut pool.idle);
            pool.open -= idle.len();
            pids.extend(idle.iter().filter_map(Lane::pid));
            self.returned.notify_all();
            if pool.open == 0 {
                return pids;
            }
            self.returned.wait(&mut pool);
        }
    }
}

/// A lane's place in the pool; it goes back when the loan ends, however it ends.
pub(super) struct Loan<'a> {
    readers: &'a Readers,
    lane: Option<Lane>,
}

impl Loan<'_> {
    pub(super) fn lane(&mut self) -> &mut Lane {
        self.lane.get_or_insert_with(Lane::new)
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.pool.lock();
        match self.lane.take() {
            Some(lane) if !pool.ended => pool.idle.push(lane),
            _ => pool.open -= 1,
        }
        // Not one: who closes waits here too.
        self.readers.returned.notify_all();
    }
}
