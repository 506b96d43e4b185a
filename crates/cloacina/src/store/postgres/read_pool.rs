//! A pool of connections that only read.

use super::blocking_connection::BlockingConnection;
use crate::types::sync::{Condvar, Mutex};

/// Maximum number of connections. A connection is opened when it is first needed.
const MAX_READERS: usize = 3;

/// Connections that only read.
pub(super) struct ReadPool {
    limit: usize,
    state: Mutex<ReadPoolState>,
    returned: Condvar,
}

#[derive(Default)]
struct ReadPoolState {
    idle: Vec<BlockingConnection>,
    open: usize,
    closed: bool,
    /// Whether borrowed connections are closed when they are returned.
    close_returned: bool,
}

impl ReadPool {
    /// Creates a pool of at most `limit` connections, which can be 0.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.min(MAX_READERS),
            state: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// Borrows a connection. Waits while all are in use. Returns `None` if the pool is closed or has a limit of 0.
    pub(super) fn borrow(&self) -> Option<PooledConnection<'_>> {
        let mut state = self.state.lock();
        loop {
            if state.closed || self.limit == 0 {
                return None;
            }
            let connection = match state.idle.pop() {
                Some(connection) => connection,
                None if state.open < self.limit => {
                    state.open += 1;
                    BlockingConnection::new()
                }
                None => {
                    self.returned.wait(&mut state);
                    continue;
                }
            };
            return Some(PooledConnection {
                pool: self,
                connection: Some(connection),
            });
        }
    }

    /// Closes the idle connections now, and the borrowed ones when they are returned. Later calls of `borrow` return
    /// `None`.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.close_returned = true;
        state.open -= state.idle.len();
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        drop(idle);
        self.returned.notify_all();
    }

    /// Closes all connections; waits for borrowed ones. Returns the process ids of the sessions on the server. Later
    /// calls of `borrow` return `None`.
    pub(super) fn close_and_wait(&self) -> Vec<i32> {
        let mut state = self.state.lock();
        state.closed = true;
        let mut pids = Vec::new();
        loop {
            let idle = std::mem::take(&mut state.idle);
            state.open -= idle.len();
            pids.extend(idle.iter().filter_map(BlockingConnection::pid));
            self.returned.notify_all();
            if state.open == 0 {
                return pids;
            }
            self.returned.wait(&mut state);
        }
    }
}

/// A borrowed connection. Dropping it returns the connection to the pool.
pub(super) struct PooledConnection<'a> {
    pool: &'a ReadPool,
    connection: Option<BlockingConnection>,
}

impl PooledConnection<'_> {
    pub(super) fn connection(&mut self) -> &mut BlockingConnection {
        self.connection.get_or_insert_with(BlockingConnection::new)
    }
}

impl Drop for PooledConnection<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        match self.connection.take() {
            Some(connection) if !state.close_returned => state.idle.push(connection),
            _ => state.open -= 1,
        }
        // Wakes all waiting threads, because `close_and_wait` also waits for `returned`.
        self.pool.returned.notify_all();
    }
}
