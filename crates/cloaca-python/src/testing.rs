//! `Bench`: an in-memory database with a virtual clock, for `cloaca.testing`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cloacina::runner::EngineHandle;
use cloacina::runtime::{Executor, Message};
use cloacina::store::StoreError;
use cloacina::store::failpoint::{Failpoint, FailpointStore, Failpoints, Moment, Verb};
use cloacina::store::sqlite::{SqliteOptions, SqliteStore};
use cloacina::types::sync::{Condvar, Mutex};
use cloacina::types::{Clock, Error, Monotonic, SystemClock, Timestamp};
use pyo3::prelude::*;

use crate::errors::Raise;
use crate::records::BenchLoad;
use crate::runner::Runner;

/// Real time that a coordinator sleeps while its next work is due later on the virtual clock. A message wakes the
/// coordinator earlier.
const SLEEP: Duration = Duration::from_hours(1);
/// Interval at which a waiting thread checks whether the coordinator has ended.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// Maximum real time for a coordinator to become idle.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A runner's view of the virtual time. It also counts how often the runner's coordinator begins to sleep.
struct RunnerClock {
    now: Arc<AtomicI64>,
    /// Whether the runner is stopping and skips waits: when the coordinator is about to sleep, the runner's time moves towards
    /// the next due time instead.
    hurries: AtomicBool,
    /// This runner's time minus the bench's time, in microseconds. It is positive after the runner has skipped waits.
    ahead: AtomicI64,
    sleep: Mutex<Sleep>,
    slept: Condvar,
}

/// The sleeps of a coordinator, as its clock records them.
#[derive(Default)]
struct Sleep {
    /// Number of times that the coordinator has asked how long to sleep.
    times: u64,
    /// The time at which the coordinator's next work is due.
    due: Monotonic,
}

impl Clock for RunnerClock {
    fn now(&self) -> Timestamp {
        let now = self.now.load(Ordering::Acquire);
        Timestamp(now.saturating_add(self.ahead.load(Ordering::Acquire)))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.now().0)
    }

    fn until(&self, due: Monotonic) -> Duration {
        let mut sleep = self.sleep.lock();
        sleep.times += 1;
        sleep.due = due;
        drop(sleep);
        self.slept.notify_all();
        let left = due.since(self.monotonic());
        // For due work the result must be zero, because the coordinator sleeps whenever the result is positive.
        if left > 0 && self.hurries.load(Ordering::Acquire) {
            self.ahead.fetch_add(left.min(60_000_000), Ordering::AcqRel);
            return Duration::from_millis(1); // gives worker threads, which run in real time, time to finish
        }
        if left <= 0 { Duration::ZERO } else { SLEEP }
    }

    fn is_watched(&self) -> bool {
        true
    }
}

/// Simulates a crash of a runner at one of its transactions.
#[derive(Default)]
struct Crash {
    commits: AtomicU64,
    /// The number of the transaction, from 1, and whether it is applied before the crash.
    planned: Mutex<Option<(u64, bool)>>,
    happened: AtomicBool,
}

impl Failpoints for Crash {
    fn reach(&self, point: Failpoint) -> Result<(), StoreError> {
        let dead = || Err(StoreError::Unavailable("the runner was killed".into()));
        if self.happened.load(Ordering::Acquire) {
            return dead();
        }
        if point.verb != Verb::Commit {
            return Ok(());
        }
        let number = match point.moment {
            Moment::Before => self.commits.fetch_add(1, Ordering::AcqRel) + 1,
            Moment::After => self.commits.load(Ordering::Acquire),
        };
        let applied = point.moment == Moment::After;
        if *self.planned.lock() == Some((number, applied)) {
            self.happened.store(true, Ordering::Release);
            return dead();
        }
        Ok(())
    }
}

/// An in-memory database with a virtual clock. Its runners can be made to crash at a chosen transaction.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Bench {
    store: SqliteStore,
    now: Arc<AtomicI64>,
}

/// A runner on a bench, with control over its time and its crash.
#[pyclass(frozen, module = "cloaca._core")]
pub struct BenchRunner {
    core: Py<Runner>,
    clock: Arc<RunnerClock>,
    crash: Arc<Crash>,
}

#[pymethods]
impl Bench {
    /// Creates an empty database. The virtual clock starts at the current time.
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let store = SqliteStore::open(&SqliteOptions::memory());
        Ok(Self {
            store: store.map_err(Error::from).raise(py)?,
            now: Arc::new(AtomicI64::new(SystemClock.now().0)),
        })
    }

    /// The virtual time in microseconds since 1970.
    #[getter]
    fn now_us(&self) -> i64 {
        self.now.load(Ordering::Acquire)
    }

    /// Moves the virtual clock forward, never back. Runners notice the new time when `settle` is called.
    fn move_to(&self, now_us: i64) {
        self.now.fetch_max(now_us, Ordering::AcqRel);
    }

    /// Starts a runner on the bench.
    fn open(&self, py: Python<'_>, config: &str) -> PyResult<BenchRunner> {
        let clock = Arc::new(RunnerClock {
            now: Arc::clone(&self.now),
            hurries: AtomicBool::new(false),
            ahead: AtomicI64::new(0),
            sleep: Mutex::default(),
            slept: Condvar::new(),
        });
        let crash = Arc::new(Crash::default());
        let points: Arc<dyn Failpoints> = Arc::clone(&crash) as _;
        let store = Arc::new(FailpointStore::new(Arc::new(self.store.share()), points));
        let view: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let runner = Runner::open(py, config, |options| {
            EngineHandle::start(store, view, options)
        })?;
        Ok(BenchRunner {
            core: Py::new(py, runner)?,
            clock,
            crash,
        })
    }
}

#[pymethods]
impl BenchRunner {
    /// The runner.
    #[getter]
    fn core(&self, py: Python<'_>) -> Py<Runner> {
        self.core.clone_ref(py)
    }

    /// Plans a crash at a transaction. `number` counts the transactions from now, starting at 1. `applied` says whether the
    /// transaction is applied before the crash.
    fn crash_at(&self, number: u64, applied: bool) {
        let begun = self.crash.commits.load(Ordering::Acquire);
        *self.crash.planned.lock() = Some((begun + number, applied));
    }

    /// The number of transactions that the runner has begun.
    #[getter]
    fn commits(&self) -> u64 {
        self.crash.commits.load(Ordering::Acquire)
    }

    /// Whether the planned crash has happened.
    #[getter]
    fn crashed(&self) -> bool {
        self.crash.happened.load(Ordering::Acquire)
    }

    /// Waits until the coordinator has done all work that is due, or for at most 30 seconds of real time. Returns the time of
    /// the coordinator's next wake-up.
    fn settle(&self, py: Python<'_>) -> i64 {
        let engine = self.core.get().engine();
        py.detach(|| {
            let end = Instant::now() + SETTLE_TIMEOUT;
            loop {
                // A step that is running can miss the first message, so the first sleep can be too early. After the
                // second sleep, the coordinator has handled all messages that were sent before.
                self.nudge(engine, end);
                let due = self.nudge(engine, end);
                let is_idle = due > self.clock.monotonic() || engine.is_closed();
                if is_idle || Instant::now() >= end {
                    return due.0;
                }
            }
        })
    }

    /// Returns the number of running tasks, and the number of waiting tasks and callbacks, for worker threads and for
    /// the event loop.
    fn work(&self) -> BenchLoad {
        let queues = self.core.get().engine().queues();
        BenchLoad {
            threads: queues.of(Executor::Threads).load().into(),
            event_loop: queues.of(Executor::Loop).load().into(),
        }
    }

    /// The number of claimed tasks whose end the coordinator has not processed. It is higher than the sum of `work` while a
    /// worker's report is on its way.
    #[getter]
    fn in_flight(&self) -> usize {
        self.core.get().engine().in_flight()
    }

    /// Begins to stop the runner, and from then on lets it skip waits, so that its grace period takes no real time.
    fn hurry(&self, py: Python<'_>, grace_us: u64) {
        let engine = self.core.get().engine();
        drop(engine.begin_stop(Duration::from_micros(grace_us)));
        py.detach(|| {
            // Waits until the coordinator is stopping, because a coordinator that starts tasks must not skip waits.
            let end = Instant::now() + SETTLE_TIMEOUT;
            self.nudge(engine, end);
            self.nudge(engine, end);
        });
        self.clock.hurries.store(true, Ordering::Release);
        engine.report(Message::Poke);
    }
}

impl BenchRunner {
    /// Wakes the coordinator and waits until it sleeps again.
    fn nudge(&self, engine: &EngineHandle, end: Instant) -> Monotonic {
        let before = self.clock.sleep.lock().times;
        engine.report(Message::Poke);
        loop {
            let mut sleep = self.clock.sleep.lock();
            if sleep.times == before {
                self.clock.slept.wait_for(&mut sleep, CHECK_INTERVAL);
            }
            let (slept, due) = (sleep.times != before, sleep.due);
            // The coordinator locks its mailbox before it calls this clock. So this thread unlocks the clock before it uses
            // the mailbox: the opposite order could deadlock.
            drop(sleep);
            // A stopped coordinator does not sleep again.
            if slept || engine.is_closed() || Instant::now() >= end {
                return due;
            }
        }
    }
}
