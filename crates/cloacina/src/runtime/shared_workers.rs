//! Workers that serve several runners of a process in turn (semantics H4).
//!
//! Each runner keeps its own queues, so that giving back, cancelling and closing concern it alone. What is shared is who
//! takes from them: one task of each runner that has some, then the next one of the first. Priorities order the work of
//! one runner; they buy nothing against another.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use super::assignment::{Executor, Notice, Work, WorkToken, WorkerId};
use super::work::{Taken, WorkQueue, WorkQueues};
use super::{Mailbox, Message};
use crate::types::sync::{Condvar, Mutex};
use crate::types::{Clock, Timestamp};

/// What the workers' side must do.
pub trait Crew: Send + Sync {
    /// Start another worker thread.
    fn worker_wanted(&self);
    /// A worker overran its task's timeout: interrupt it. Another one has its place.
    fn interrupt(&self, worker: WorkerId, token: WorkToken);
    /// There is something for the event loop.
    fn loop_ready(&self);
    /// No runner is left: workers return.
    fn ended(&self);
}

/// A runner's place among those that share workers.
pub struct Seat {
    number: u64,
    queues: WorkQueues,
    mailbox: Arc<Mailbox>,
    clock: Arc<dyn Clock>,
}

impl Seat {
    /// The runner's queue of an executor.
    pub fn queue(&self, executor: Executor) -> &Arc<WorkQueue> {
        self.queues.of(executor)
    }

    /// Tells the runner's coordinator something. A closed one hears nothing.
    pub fn report(&self, message: Message) {
        drop(self.mailbox.send(message));
    }

    /// The time as the runner sees it.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn has_work(&self, executor: Executor) -> bool {
        self.queues.of(executor).load().1 > 0
    }
}

/// Whose turn it is, among the seats with work.
#[derive(Default)]
struct Turn {
    line: VecDeque<Arc<Seat>>,
    standing: FxHashSet<u64>,
}

impl Turn {
    fn join(&mut self, seat: &Arc<Seat>) {
        if self.standing.insert(seat.number) {
            self.line.push_back(Arc::clone(seat));
        }
    }

    /// Takes one piece of work; its seat goes to the end of the line if it has more.
    fn take(&mut self, executor: Executor, worker: WorkerId) -> Option<(Arc<Seat>, Taken)> {
        while let Some(seat) = self.line.pop_front() {
            self.standing.remove(&seat.number);
            if let Some(taken) = seat.queue(executor).try_take(worker, seat.now()) {
                if seat.has_work(executor) {
                    self.join(&seat);
                }
                return Some((seat, taken));
            }
        }
        None
    }
}

#[derive(Default)]
struct Threads {
    turn: Turn,
    seats: FxHashMap<u64, Arc<Seat>>,
    idle: usize,
    /// Wake-ups sent to idle workers that have not run yet.
    woken: usize,
    /// Workers that have their slot, those that were asked for included.
    workers: usize,
    max_workers: usize,
    /// Workers to ask for, once the lock is free.
    wanted: usize,
    ended: bool,
}

impl Threads {
    fn call(&mut self, available: &Condvar) {
        if self.turn.line.is_empty() {
            return;
        }
        if self.idle > self.woken {
            self.woken += 1;
            available.notify_one();
        } else if self.workers < self.max_workers {
            self.workers += 1;
            self.wanted += 1;
        }
    }
}

#[derive(Default)]
struct Loop {
    turn: Turn,
    noticed: FxHashMap<u64, Arc<Seat>>,
    running: usize,
}

/// The worker threads and the event loop of a runner and of its tenants.
pub struct SharedWorkers {
    threads: Mutex<Threads>,
    available: Condvar,
    event_loop: Mutex<Loop>,
    max_async: usize,
    crew: Option<Arc<dyn Crew>>,
    last_seat: Mutex<u64>,
}

impl SharedWorkers {
    /// Workers of a runner that shares them from now on.
    pub fn new(max_workers: usize, max_async: usize, crew: Option<Arc<dyn Crew>>) -> Arc<Self> {
        Arc::new(Self {
            threads: Mutex::new(Threads {
                max_workers: if crew.is_some() { max_workers } else { 0 },
                ..Threads::default()
            }),
            available: Condvar::new(),
            event_loop: Mutex::default(),
            max_async,
            crew,
            last_seat: Mutex::new(0),
        })
    }

    /// Queues for a runner that will join. Their tokens are no other runner's.
    pub fn queues(&self) -> (u64, WorkQueues) {
        let mut last = self.last_seat.lock();
        *last += 1;
        (*last, WorkQueues::numbered(*last))
    }

    /// Seats a runner; its queues are served from now on, until they are closed.
    pub fn join(
        self: &Arc<Self>,
        number: u64,
        queues: WorkQueues,
        mailbox: Arc<Mailbox>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Seat> {
        let seat = Arc::new(Seat {
            number,
            queues,
            mailbox,
            clock,
        });
        let hook = |attend: fn(&Self, &Arc<Seat>)| -> Arc<dyn Fn() + Send + Sync> {
            let (shared, seat) = (Arc::downgrade(self), Arc::downgrade(&seat));
            Arc::new(move || {
                if let Some((shared, seat)) = Weak::upgrade(&shared).zip(Weak::upgrade(&seat)) {
                    attend(&shared, &seat);
                }
            })
        };
        {
            let mut threads = self.threads.lock();
            threads.seats.insert(number, Arc::clone(&seat));
        }
        let queue = seat.queue(Executor::Threads);
        queue.on_arrival(hook(Self::attend_threads));
        self.threads.lock().workers += queue.share();
        let queue = seat.queue(Executor::Loop);
        queue.on_arrival(hook(Self::attend_loop));
        queue.share();
        // What came before the hooks were there.
        self.attend_threads(&seat);
        self.attend_loop(&seat);
        seat
    }

    /// The runners that share the workers.
    pub fn seats(&self) -> Vec<Arc<Seat>> {
        self.threads.lock().seats.values().cloned().collect()
    }

    /// Takes a thread's next work, waiting for it up to `patience`. `None`: nothing came.
    pub fn wait_take(&self, worker: WorkerId, patience: Duration) -> Option<(Arc<Seat>, Taken)> {
        let until = Instant::now() + patience;
        let mut threads = self.threads.lock();
        loop {
            if let Some(taken) = threads.turn.take(Executor::Threads, worker) {
                threads.call(&self.available);
                self.let_go(threads);
                return Some(taken);
            }
            if threads.ended {
                return None;
            }
            threads.idle += 1;
            let timed_out = self.available.wait_until(&mut threads, until).timed_out();
            threads.idle -= 1;
            threads.woken = threads.woken.saturating_sub(1);
            if timed_out && threads.turn.line.is_empty() {
                return None;
            }
        }
    }

    /// The same without waiting.
    pub fn try_take(&self, worker: WorkerId) -> Option<(Arc<Seat>, Taken)> {
        let mut threads = self.threads.lock();
        let taken = threads.turn.take(Executor::Threads, worker)?;
        threads.call(&self.available);
        self.let_go(threads);
        Some(taken)
    }

    /// What waits for the event loop, at most `limit`, and no more at once than it may run.
    pub fn take_async(&self, worker: WorkerId, limit: usize) -> Vec<(Arc<Seat>, Taken)> {
        let mut event_loop = self.event_loop.lock();
        let mut all = Vec::new();
        while all.len() < limit && event_loop.running < self.max_async {
            let Some(taken) = event_loop.turn.take(Executor::Loop, worker) else {
                break;
            };
            if matches!(taken.1.work, Work::Task(..)) {
                event_loop.running += 1;
            }
            all.push(taken);
        }
        all
    }

    /// A task that the event loop took has ended there.
    pub fn finished_async(&self) {
        let mut event_loop = self.event_loop.lock();
        let was_full = event_loop.running >= self.max_async;
        event_loop.running = event_loop.running.saturating_sub(1);
        let more = was_full && !event_loop.turn.line.is_empty();
        drop(event_loop);
        if let Some(crew) = self.crew.as_ref().filter(|_| more) {
            crew.loop_ready();
        }
    }

    /// What happened to tasks that the event loop runs.
    pub fn async_notices(&self) -> Vec<Notice> {
        let noticed = std::mem::take(&mut self.event_loop.lock().noticed);
        let notices = noticed
            .into_values()
            .flat_map(|seat| seat.queue(Executor::Loop).notices(Duration::ZERO));
        notices.collect()
    }

    /// Whether no runner is left.
    pub fn has_ended(&self) -> bool {
        self.threads.lock().ended
    }

    /// A queue of a runner has work or a notice, or was closed.
    fn attend_threads(&self, seat: &Arc<Seat>) {
        let queue = seat.queue(Executor::Threads);
        let notices = queue.notices(Duration::ZERO);
        let mut threads = self.threads.lock();
        for notice in &notices {
            match notice {
                Notice::Overrun { .. } | Notice::Cancelled { replaced: true, .. } => {
                    threads.workers = threads.workers.saturating_sub(1);
                }
                // Asked for and counted before the queue was shared.
                Notice::WorkerWanted => threads.wanted += 1,
                // A function learns of it from its handle.
                Notice::Cancelled { .. } => {}
            }
        }
        let is_closed = queue.is_closed();
        if is_closed {
            threads.seats.remove(&seat.number);
            threads.ended = threads.seats.is_empty();
        }
        if seat.has_work(Executor::Threads) {
            threads.turn.join(seat);
        }
        threads.call(&self.available);
        let ended = threads.ended;
        self.let_go(threads);
        let Some(crew) = &self.crew else {
            return;
        };
        for notice in notices {
            if let Notice::Overrun { worker, token } = notice {
                crew.interrupt(worker, token);
            }
        }
        if ended {
            self.available.notify_all();
            crew.ended();
        }
    }

    fn attend_loop(&self, seat: &Arc<Seat>) {
        let mut event_loop = self.event_loop.lock();
        event_loop.noticed.insert(seat.number, Arc::clone(seat));
        if seat.has_work(Executor::Loop) {
            event_loop.turn.join(seat);
        }
        drop(event_loop);
        if let Some(crew) = &self.crew {
            crew.loop_ready();
        }
    }

    /// Frees the lock, and asks for the workers that are wanted.
    fn let_go(&self, mut threads: crate::types::sync::MutexGuard<'_, Threads>) {
        let wanted = std::mem::take(&mut threads.wanted);
        drop(threads);
        if let Some(crew) = &self.crew {
            for _ in 0..wanted {
                crew.worker_wanted();
            }
        }
    }
}
