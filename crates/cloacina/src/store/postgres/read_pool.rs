//! A pool of connections that only read.

use super::blocking_connection::BlockingConnection;
use crate::types::sync::{Condvar, Mutex};

/// Maximum number of connections. They are opened when they are first needed.
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
    /// Whether borrowed connections are closed when they come back.
    close_returned: bool,
}

impl ReadPool {
    /// Creates a pool of at most `limit` connections; 0 is allowed.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.min(MAX_READERS),
            state: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// Borrows a connection, waiting while all are in use. `None` if the pool is closed or has no connections.
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

    /// Closes the idle connections now, and the others when they come back. Later calls of `borrow` return `None`.
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

    /// Closes all connections, waiting for borrowed ones, and returns the process ids of the sessions that end. Later
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
        // Wakes all: `close_and_wait` waits here too.
        self.pool.returned.notify_all();
    }
}
