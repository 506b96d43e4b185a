//! Leases, heartbeats, rescue, and what other processes changed (semantics E).

use std::sync::Arc;

use super::assignment::Executor;
use super::coordinator::{Coordinator, fresh_runner};
use super::draft::Draft;
use super::{Message, process, submitting::micros};
use crate::store::{RunnerRow, StoreError};
use crate::types::{Claim, ExecutionId, Micros, Offer, Ordinal, RunnerId, Timestamp};

/// How often dead processes of this host are looked for.
const DEATH_CHECK: Micros = 1_000_000;
/// After another process wrote, more may follow at once: so long it is looked for more often.
const BUSY_SPAN: Micros = 1_000_000;
const BUSY_POLL: Micros = 5_000;
/// How often old executions are looked for, and how many go at once: small enough not to be felt.
const PRUNE_INTERVAL: Micros = 60_000_000;
const PRUNE_PAUSE: Micros = 100_000;
const PRUNE_BATCH: usize = 200;
/// Workflows that are registered within this time are announced together.
const ANNOUNCE_DELAY: Micros = 50_000;
/// Executions taken from a dead runner per step.
const RESCUE_BATCH: usize = 200;

/// What a runner has to do at its own times.
#[derive(Default)]
pub(super) struct Liveness {
    next_heartbeat: Timestamp,
    next_death_check: Timestamp,
    next_look: Timestamp,
    busy_until: Timestamp,
    next_prune: Timestamp,
    marker: Option<i64>,
    /// What the store said last of executions that go on after their end.
    revivals: Option<u64>,
    /// The machine's name, once it was read.
    host: Option<String>,
    /// Runners declared dead whose claims are not all taken back.
    dead: Vec<RunnerId>,
    /// Runners that the database takes for gone.
    vanished: Vec<RunnerId>,
    /// What the store was told last: whether this runner has claims.
    at_work: bool,
    reconcile: bool,
    /// The runner's row is to be written anew.
    register: bool,
    /// When its workflows are to be announced.
    announce_at: Option<Timestamp>,
}

impl Liveness {
    pub(super) fn next_wake(&self) -> Timestamp {
        if self.register || self.reconcile || !self.dead.is_empty() {
            return Timestamp(0);
        }
        self.next_heartbeat
            .min(self.next_death_check)
            .min(self.next_look)
            .min(self.next_prune)
            .min(self.announce_at.unwrap_or(Timestamp(i64::MAX)))
    }

    /// Look for other processes' changes at the next step.
    pub(super) fn look_now(&mut self) {
        self.next_look = Timestamp(0);
        self.marker = None;
    }

    /// Look for dead runners at the next step.
    pub(super) fn rescue_now(&mut self) {
        self.next_death_check = Timestamp(0);
    }

    /// Compare this process's books with the database at the next step.
    pub(super) fn reconcile_now(&mut self) {
        self.reconcile = true;
    }

    /// Tell soon which workflows and tasks the runner has: they changed.
    pub(super) fn announce(&mut self, now: Timestamp) {
        self.announce_at.get_or_insert(now + ANNOUNCE_DELAY);
    }
}

impl Coordinator {
    pub(super) fn register_runner(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let (pid, pid_started) = process::current();
        self.store.register_runner(&RunnerRow {
            id: self.runner,
            host: process::host(),
            pid,
            pid_started,
            started_at: now,
            heartbeat_at: now,
            lease_until: now + micros(self.config.lease_ttl),
            workflows: self.registry.registered(),
        })?;
        self.liveness.register = false;
        self.liveness.next_heartbeat = now + micros(self.config.heartbeat_interval);
        Ok(())
    }

    /// Tells which workflows and tasks this runner has, for `explain` and for people.
    pub(super) fn announce(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let (host, (pid, _)) = (process::host(), process::current());
        let offers: Vec<Offer> = self
            .registry
            .unannounced()
            .into_iter()
            .map(|(workflow, tasks)| Offer {
                workflow,
                runner: self.runner,
                host: process::name_of(&host).to_owned(),
                pid,
                tasks,
                seen_at: now,
            })
            .collect();
        self.store
            .announce(self.runner, &self.registry.registered(), &offers)?;
        self.registry.announced();
        self.liveness.announce_at = None;
        Ok(())
    }

    /// What is left of this runner when it goes: who had its tasks last.
    pub(super) fn withdraw(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if self.liveness.announce_at.is_some() {
            self.announce(now)?;
        }
        if self.registry.registered().is_empty() {
            return Ok(());
        }
        self.store.withdraw(self.runner, Some(now))
    }

    /// E1, E4: extends the lease, or finds that it was lost.
    pub(super) fn keep_alive(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if self.liveness.register {
            self.register_runner(now)?;
        }
        if self.liveness.announce_at.is_some_and(|at| at <= now) {
            self.announce(now)?;
        }
        // In an outage each try is a heartbeat: a write that tells whether the database takes writes again.
        let wanted = self.store.take_wants_heartbeat();
        if now < self.liveness.next_heartbeat && self.outage.is_none() && !wanted {
            return Ok(());
        }
        if !self
            .store
            .heartbeat(self.runner, now, now + micros(self.config.lease_ttl))?
        {
            return Err(StoreError::RunnerLost);
        }
        self.liveness.next_heartbeat = now + micros(self.config.heartbeat_interval);
        Ok(())
    }

    /// Tells the store whether this runner has claims.
    pub(super) fn tell_work(&mut self) {
        let at_work = !self.in_flight.is_empty();
        if at_work != self.liveness.at_work {
            self.liveness.at_work = at_work;
            self.store.at_work(self.runner, at_work);
        }
    }

    /// E8: deletes executions that ended longer ago than the retention, a few at a time.
    pub(super) fn prune(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if now < self.liveness.next_prune {
            return Ok(());
        }
        if self.config.retention.is_none() {
            self.liveness.next_prune = Timestamp(i64::MAX);
            return Ok(());
        }
        let mut pause = PRUNE_INTERVAL;
        if let Some(retention) = self.config.retention.filter(|_| self.stopping.is_none())
            && self.store.prune(now - micros(retention), PRUNE_BATCH)? == PRUNE_BATCH
        {
            pause = PRUNE_PAUSE;
        }
        self.liveness.next_prune = now + pause;
        Ok(())
    }

    /// E4: declared dead while it was paused. What runs here runs for nothing; go on under a new name.
    pub(super) fn start_anew(&mut self) {
        let old = self.runner;
        self.store.at_work(old, false);
        self.runner = fresh_runner(&*self.clock, &mut self.random);
        tracing::warn!(old_runner_id = %old, runner_id = %self.runner, "this runner was taken for dead while it was paused; its results are dropped, it goes on under a new id");
        for executor in Executor::ALL {
            let queue = Arc::clone(self.queues.of(executor));
            drop(queue.take_waiting());
            queue.abandon();
        }
        for ((id, task), (_, executor)) in std::mem::take(&mut self.in_flight) {
            self.free_slot(id, task, executor);
        }
        self.cache.clear();
        for backlog in &mut self.backlogs {
            backlog.look_again();
        }
        self.registry.announce_again();
        self.liveness = Liveness {
            register: true,
            announce_at: Some(Timestamp(0)),
            ..Liveness::default()
        };
    }

    /// Notices what other processes wrote: new work, new definitions, executions that ended there.
    pub(super) fn look_around(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if now < self.liveness.next_look {
            return Ok(());
        }
        let marker = self.store.change_marker()?;
        let changed = self.liveness.marker != Some(marker);
        if changed {
            if self.liveness.marker.is_some() {
                self.liveness.busy_until = now + BUSY_SPAN;
            }
            self.liveness.marker = Some(marker);
            let vanished = self.store.take_vanished();
            if !vanished.is_empty() {
                self.liveness.vanished.extend(vanished);
                self.liveness.rescue_now();
            }
            let revivals = self.store.revivals();
            if revivals.is_none() || revivals != self.liveness.revivals {
                self.liveness.revivals = revivals;
                self.waiters.forget_recent(None);
            }
            for backlog in &mut self.backlogs {
                backlog.look_again();
            }
            self.read_definitions()?;
            self.scheduling.others_wrote(now);
            let due = self.store.overdue(now)?;
            self.deadlines
                .extend(due.executions.into_iter().map(|id| (now, id)));
            self.look_for_ends()?;
        }
        let poll = micros(self.config.poll_interval);
        let busy = now < self.liveness.busy_until;
        self.liveness.next_look = now + if busy { poll.min(BUSY_POLL) } else { poll };
        Ok(())
    }

    /// Executions that ended elsewhere: wakes who waits for them, stops what still runs here.
    fn look_for_ends(&mut self) -> Result<(), StoreError> {
        let mut ids = self.waiters.awaited();
        ids.extend(self.in_flight.keys().map(|(id, _)| *id));
        ids.sort_unstable();
        ids.dedup();
        let states = if ids.is_empty() {
            Vec::new()
        } else {
            self.store.statuses(&ids)?
        };
        let ended: Vec<ExecutionId> = states
            .into_iter()
            .filter(|(_, status)| status.is_terminal())
            .map(|(id, _)| id)
            .collect();
        self.load(&ended)?;
        for id in ended {
            let claims: Vec<_> = self
                .in_flight
                .iter()
                .filter(|((held, _), _)| *held == id)
                .map(|((_, task), (claim, _))| (*task, *claim))
                .collect();
            for (task, claim) in claims {
                let priority = self
                    .cache
                    .get(id)
                    .map_or(0, |cached| cached.execution.priority(task));
                self.interrupt(id, task, claim, priority);
            }
            if let Some(cached) = self.cache.remove(id) {
                self.waiters.notify(&Arc::new(cached.execution));
            }
        }
        Ok(())
    }

    /// After an outage: claims that the database says are ours and this process does not know of. Those whose end is
    /// among the messages have run already.
    pub(super) fn reconcile(&mut self, messages: &[Message]) -> Result<(), StoreError> {
        if !self.liveness.reconcile {
            return Ok(());
        }
        let ended: Vec<(ExecutionId, Ordinal, Claim)> = messages
            .iter()
            .filter_map(|message| match message {
                Message::Finished {
                    execution, finish, ..
                } => Some((*execution, finish.task, finish.claim)),
                Message::Overdue {
                    execution,
                    task,
                    claim,
                    ..
                } => Some((*execution, *task, *claim)),
                _ => None,
            })
            .collect();
        let ids = self.store.claims_of(self.runner)?;
        for id in &ids {
            self.cache.remove(*id);
        }
        self.load(&ids)?;
        for id in ids {
            self.adopt(id, &ended);
        }
        self.look_for_ends()?;
        self.liveness.reconcile = false;
        Ok(())
    }

    /// E2, E3: finds dead runners and takes their work back. Any runner does it; the fences make doing it twice harmless.
    pub(super) fn rescue(&mut self, draft: &mut Draft, now: Timestamp) -> Result<(), StoreError> {
        if !self.config.enable_recovery || self.stopping.is_some() {
            self.liveness.next_death_check = Timestamp(i64::MAX);
            self.liveness.dead.clear();
            return Ok(());
        }
        if now >= self.liveness.next_death_check {
            self.find_dead(now)?;
            self.liveness.next_death_check = now + DEATH_CHECK;
        }
        let Some(dead) = self.liveness.dead.first().copied() else {
            return Ok(());
        };
        let mut ids = self.store.claims_of(dead)?;
        if ids.is_empty() {
            self.store.withdraw(dead, None)?;
            self.store.retire_runner(dead)?;
            self.liveness.dead.remove(0);
            return Ok(());
        }
        ids.truncate(RESCUE_BATCH);
        for id in ids.iter().filter(|id| !draft.touched.contains_key(*id)) {
            self.cache.remove(*id);
        }
        let missing: Vec<ExecutionId> = ids
            .iter()
            .copied()
            .filter(|id| !self.cache.contains(*id))
            .collect();
        self.load(&missing)?;
        let limits = self.limits();
        let mut rescued = 0;
        for id in ids {
            let Some(cached) = self.cache.get_mut(id) else {
                continue;
            };
            let touched = draft.touch(&cached.execution);
            let recovery = cached.execution.rescue(dead, limits, now);
            rescued += recovery.rescued;
            touched.changes.absorb(recovery.changes);
            touched.rescued = true;
        }
        if rescued == 0 {
            // None of them can be read now: look again at the next check, not at once.
            self.liveness.dead.remove(0);
        } else {
            self.metrics.rescued(rescued);
            tracing::info!(dead_runner_id = %dead, tasks = rescued, "took tasks back from a dead runner");
        }
        Ok(())
    }

    fn find_dead(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let rows = self.store.runners()?;
        let host = self.liveness.host.get_or_insert_with(process::host);
        let mut others = 0;
        for row in rows {
            if row.id == self.runner {
                continue;
            }
            others += 1;
            let expired = row.lease_until < now;
            let killed = row.host == *host && process::is_dead(row.pid, row.pid_started);
            let vanished = self.liveness.vanished.contains(&row.id);
            if (expired || killed || vanished)
                && self.store.declare_dead(row.id, row.lease_until, now)?
            {
                others -= 1;
                let why = if killed {
                    "its process is gone"
                } else if vanished {
                    "its session is gone"
                } else {
                    "its lease ran out"
                };
                tracing::info!(dead_runner_id = %row.id, pid = row.pid, "declared a runner dead: {why}");
            }
        }
        self.liveness.vanished.clear();
        self.share(others == 0);
        self.liveness.dead = self.store.dead_runners()?;
        Ok(())
    }
}
