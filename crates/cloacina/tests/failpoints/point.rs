//! The actions that a test takes at a failpoint: record it, fail once, or kill the process.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloacina::store::StoreError;
use cloacina::store::failpoint::{Failpoint, Failpoints};
use cloacina::types::sync::Mutex;

/// Records each failpoint that is reached.
#[derive(Default)]
pub struct Reached(Mutex<BTreeSet<Failpoint>>);

impl Reached {
    pub fn points(&self) -> BTreeSet<Failpoint> {
        self.0.lock().clone()
    }
}

impl Failpoints for Reached {
    fn reach(&self, point: Failpoint) -> Result<(), StoreError> {
        self.0.lock().insert(point);
        Ok(())
    }
}

/// Makes a request fail when a failpoint is reached for the nth time.
pub struct FailOnce {
    point: Failpoint,
    occurrence: usize,
    count: AtomicUsize,
}

impl FailOnce {
    pub fn new(point: Failpoint, occurrence: usize) -> Self {
        Self {
            point,
            occurrence,
            count: AtomicUsize::new(0),
        }
    }

    pub fn has_failed(&self) -> bool {
        self.count.load(Ordering::SeqCst) >= self.occurrence
    }
}

impl Failpoints for FailOnce {
    fn reach(&self, point: Failpoint) -> Result<(), StoreError> {
        if point == self.point && self.count.fetch_add(1, Ordering::SeqCst) + 1 == self.occurrence {
            return Err(StoreError::Unavailable(format!("failed at {point}").into()));
        }
        Ok(())
    }
}

/// Kills this process with SIGKILL when a failpoint is reached for the nth time.
pub struct KillOnce {
    point: String,
    occurrence: usize,
    count: AtomicUsize,
}

impl KillOnce {
    /// Parses a string such as `commit.after:3`.
    pub fn parse(text: &str) -> Self {
        let (point, occurrence) = text.split_once(':').expect("the text contains a colon");
        Self {
            point: point.to_owned(),
            occurrence: occurrence.parse().expect("the occurrence is a number"),
            count: AtomicUsize::new(0),
        }
    }
}

impl Failpoints for KillOnce {
    fn reach(&self, point: Failpoint) -> Result<(), StoreError> {
        if point.to_string() == self.point
            && self.count.fetch_add(1, Ordering::SeqCst) + 1 == self.occurrence
        {
            let pid = std::process::id().to_string();
            Command::new("kill").args(["-KILL", &pid]).status().unwrap();
            loop {
                std::thread::park(); // until SIGKILL arrives
            }
        }
        Ok(())
    }
}
