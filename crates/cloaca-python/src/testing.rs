//! `Bench`: a database in memory and a clock that only moves when it is told, for `cloaca.testing`.

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
use crate::runner::Runner;

/// A coordinator that waits for something later than now sleeps so long, or until it is woken.
const LONG: Duration = Duration::from_hours(1);
/// How often a waiting thread looks whether the coordinator has ended.
const LOOK: Duration = Duration::from_millis(5);
/// A coordinator that does not come to rest within this real time never will.
const PATIENCE: Duration = Duration::from_secs(30);

/// One runner's view of the virtual time, which also tells when its coordinator sleeps.
struct RunnerClock {
    now: Arc<AtomicI64>,
    /// Once its end is wanted, time runs away under it.
    hurries: AtomicBool,
    ahead: AtomicI64,
    sleep: Mutex<Sleep>,
    slept: Condvar,
}

#[derive(Default)]
struct Sleep {
    /// How often the coordinator has asked how long to sleep.
    times: u64,
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
        // What is due must be said to be due: a coordinator that is only told to sleep makes no step.
        if left > 0 && self.hurries.load(Ordering::Acquire) {
            self.ahead.fetch_add(left.min(60_000_000), Ordering::AcqRel);
            return Duration::from_millis(1); // worker threads are not hurried
        }
        if left <= 0 { Duration::ZERO } else { LONG }
    }

    fn is_watched(&self) -> bool {
        true
    }
}

/// Ends a runner's life at one of its transactions.
#[derive(Default)]
struct Crash {
    commits: AtomicU64,
    /// The transaction, counted from 1, and whether it is still applied.
    planned: Mutex<Option<(u64, bool)>>,
    happened: AtomicBool,
}

impl Failpoints for Crash {
    fn reach(&self, point: Failpoint) -> Result<(), StoreError> {
        let dead = || Err(StoreError::Unavailable("the runner was killed".to_owned()));
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

/// A database in memory, its time, and what may befall its runners.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Bench {
    store: SqliteStore,
    now: Arc<AtomicI64>,
}

/// One runner on a bench, as its tester sees it.
#[pyclass(frozen, module = "cloaca._core")]
pub struct BenchRunner {
    core: Py<Runner>,
    clock: Arc<RunnerClock>,
    crash: Arc<Crash>,
}

#[pymethods]
impl Bench {
    /// An empty database. Its time begins now.
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let store = SqliteStore::open(&SqliteOptions::memory());
        Ok(Self {
            store: store.map_err(Error::from).raise(py)?,
            now: Arc::new(AtomicI64::new(SystemClock.now().0)),
        })
    }

    /// The virtual time.
    #[getter]
    fn now_us(&self) -> i64 {
        self.now.load(Ordering::Acquire)
    }

    /// Moves the time on; it never goes back. Runners notice when they are settled.
    fn move_to(&self, now_us: i64) {
        self.now.fetch_max(now_us, Ordering::AcqRel);
    }

    /// Starts a runner.
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
        let runner = Runner::assemble(py, config, |options| {
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

    /// Has the runner die at its nth transaction from now: before it is applied, or after.
    fn crash_at(&self, number: u64, applied: bool) {
        let begun = self.crash.commits.load(Ordering::Acquire);
        *self.crash.planned.lock() = Some((begun + number, applied));
    }

    /// Transactions that were begun.
    #[getter]
    fn commits(&self) -> u64 {
        self.crash.commits.load(Ordering::Acquire)
    }

    /// Whether it died as planned.
    #[getter]
    fn crashed(&self) -> bool {
        self.crash.happened.load(Ordering::Acquire)
    }

    /// Waits until the coordinator has done all that it can do now; when it wants to be woken next.
    fn settle(&self, py: Python<'_>) -> i64 {
        let engine = self.core.get().engine();
        py.detach(|| {
            let end = Instant::now() + PATIENCE;
            loop {
                // One message may fall into a step under way: after the second everything sent before is done.
                self.nudge(engine, end);
                let due = self.nudge(engine, end);
                let rests = due > self.clock.monotonic() || engine.is_closed();
                if rests || Instant::now() >= end {
                    return due.0;
                }
            }
        })
    }

    /// Tasks and callbacks that run or wait for a worker: of threads, of the event loop.
    fn work(&self) -> ((usize, usize), (usize, usize)) {
        let queues = self.core.get().engine().queues();
        (
            queues.of(Executor::Threads).load(),
            queues.of(Executor::Loop).load(),
        )
    }

    /// Claimed tasks whose end the coordinator has not heard of: more than `work` tells while a worker reports one.
    #[getter]
    fn in_flight(&self) -> usize {
        self.core.get().engine().in_flight()
    }

    /// Begins to stop, and then lets the time run away under this runner alone, so that its end needs no real time.
    fn hurry(&self, py: Python<'_>, grace_us: u64) {
        let engine = self.core.get().engine();
        drop(engine.begin_stop(Duration::from_micros(grace_us)));
        py.detach(|| {
            // Only a runner that stops may be hurried: any other would do now what is due later.
            let end = Instant::now() + PATIENCE;
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
                self.clock.slept.wait_for(&mut sleep, LOOK);
            }
            let (slept, due) = (sleep.times != before, sleep.due);
            // The coordinator asks this clock while it holds its mailbox: never look at that with the clock in hand.
            drop(sleep);
            // One that has stopped does not sleep any more.
            if slept || engine.is_closed() || Instant::now() >= end {
                return due;
            }
        }
    }
}
