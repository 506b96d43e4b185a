//! Presence: a runner's listener holds an advisory lock made from the runner's id, for as long as its session lives
//! (semantics E3). A lock that vanishes tells other machines of a death long before the lease ends.
//!
//! A vanished lock proves nothing: sessions break, and servers restart. So it makes a runner a suspect only where this very
//! session of the watcher saw the lock held, and the verdict waits for a second look: a living runner takes its lock again
//! at once, and until it has, sends heartbeats. Nothing is asked while nobody works: runners that have claims say so.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Statement};

use super::listener::Bell;
use crate::types::RunnerId;
use crate::types::sync::Mutex;

/// How often the locks of runners that work are looked at, and those of suspects.
const LOOK: Duration = Duration::from_millis(750);
const SECOND_LOOK: Duration = Duration::from_millis(250);
/// So long a suspect has to show that it lives. Longer than a new connection and a heartbeat take.
const GRACE: Duration = Duration::from_secs(1);
/// A runner that works says so this often, and is believed so long.
const ANNOUNCE: Duration = Duration::from_secs(5);
const BELIEVE: Duration = Duration::from_secs(12);
/// Who has had nothing to do for so long says so.
const REST: Duration = Duration::from_secs(1);
/// A lock that was not seen in so many looks is not looked for any more: that runner does not listen.
const LOOKS: u32 = 5;
/// So long after it lost its session a runner proves by heartbeats that it lives, if it cannot listen again.
const PROVE: Duration = Duration::from_secs(10);

/// In a session that stores of several schemas may share; an empty `schema` stands for the session's own.
fn held(schema: Option<&str>) -> String {
    // The name was checked when the options were made: no quote is in it.
    let schema = schema.map_or_else(String::new, |schema| format!("\"{schema}\"."));
    format!(
        "\
    WITH held AS MATERIALIZED (\
        SELECT l.classid::bigint << 32 | l.objid::bigint AS key FROM pg_locks AS l \
        WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted \
        AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())\
    ) \
    SELECT r.id::text, r.heartbeat_at, \
    ('x' || right(replace(r.id::text, '-', ''), 16))::bit(64)::bigint IN (SELECT key FROM held) \
    FROM {schema}cloacina_runners AS r WHERE r.dead_at IS NULL AND r.id::text = ANY ($1::text[])"
    )
}

/// What the store and its listener share about who works and who is gone.
#[derive(Default)]
pub(super) struct Presence {
    own: Mutex<Own>,
    /// When others said that they work.
    busy: Mutex<HashMap<RunnerId, Instant>>,
    vanished: Mutex<Vec<RunnerId>>,
    wants_heartbeat: AtomicBool,
}

#[derive(Default)]
struct Own {
    at_work: HashSet<RunnerId>,
    /// Whom the others take to be at work.
    told: HashSet<RunnerId>,
    announced: Option<Instant>,
    rests_since: Option<Instant>,
}

/// What is to be told of runners of this store.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) busy: Vec<RunnerId>,
    pub(super) resting: Vec<RunnerId>,
}

impl Presence {
    /// A runner of this store has claims, or has none any more. Whether others must be told now.
    pub(super) fn at_work(&self, runner: RunnerId, at_work: bool) -> bool {
        let mut own = self.own.lock();
        if at_work {
            own.at_work.insert(runner);
            return own.is_due();
        }
        own.at_work.remove(&runner);
        own.rests_since = Some(Instant::now());
        // The listener is to look at its clock.
        own.at_work.is_empty() && own.told.contains(&runner)
    }

    /// When something is to be told of the runners of this store; `None`: nothing.
    pub(super) fn next_announcement(&self) -> Option<Instant> {
        let own = self.own.lock();
        if !own.at_work.is_empty() {
            return Some(
                own.announced
                    .map_or_else(Instant::now, |announced| announced + ANNOUNCE),
            );
        }
        let rests_since = own.rests_since.filter(|_| !own.told.is_empty());
        rests_since.map(|since| since + REST)
    }

    /// What is to be told, which counts as done.
    pub(super) fn announce(&self) -> News {
        let mut own = self.own.lock();
        let busy = own.at_work.clone();
        let told = std::mem::replace(&mut own.told, busy.clone());
        own.announced = (!busy.is_empty()).then(Instant::now);
        News {
            resting: told.difference(&busy).copied().collect(),
            busy: busy.into_iter().collect(),
        }
    }

    /// Somebody came who has not heard any announcement.
    pub(super) fn announce_again(&self) {
        self.own.lock().announced = None;
    }

    /// Another runner says that it works.
    pub(super) fn hear(&self, runner: RunnerId) {
        let mut busy = self.busy.lock();
        busy.retain(|_, said| said.elapsed() < BELIEVE);
        busy.insert(runner, Instant::now());
    }

    /// Another runner says that it has nothing to do.
    pub(super) fn hear_rest(&self, runner: RunnerId) {
        self.busy.lock().remove(&runner);
    }

    fn is_busy(&self, runner: RunnerId) -> bool {
        let busy = self.busy.lock();
        busy.get(&runner)
            .is_some_and(|said| said.elapsed() < BELIEVE)
    }

    /// Runners whose sessions are gone for good, each told once.
    pub(super) fn take_vanished(&self) -> Vec<RunnerId> {
        std::mem::take(&mut *self.vanished.lock())
    }

    /// Whether the runner should show now that it lives; told once.
    pub(super) fn take_wants_heartbeat(&self) -> bool {
        self.wants_heartbeat.swap(false, Ordering::AcqRel)
    }

    /// The session is lost, and with it the lock: a heartbeat shows that the runner is not.
    pub(super) fn prove_life(&self) {
        self.wants_heartbeat.store(true, Ordering::Release);
    }
}

impl Own {
    fn is_due(&self) -> bool {
        self.announced
            .is_none_or(|announced| announced.elapsed() >= ANNOUNCE)
    }
}

/// Since when a listener is without its session.
#[derive(Default)]
pub(super) struct Loss(Option<Instant>);

impl Loss {
    pub(super) fn begin(&mut self) {
        self.0.get_or_insert_with(Instant::now);
    }

    pub(super) fn end(&mut self) {
        self.0 = None;
    }

    /// Whether heartbeats are to prove that the runner lives.
    pub(super) fn needs_proof(&self) -> bool {
        self.0.is_some_and(|since| since.elapsed() < PROVE)
    }
}

/// What a look told of a runner.
struct Sight {
    runner: RunnerId,
    heartbeat_at: i64,
    is_locked: bool,
}

/// What one session of a listener holds and saw.
#[derive(Default)]
pub(super) struct Watch {
    schema: Option<String>,
    held: HashSet<RunnerId>,
    seen: HashSet<RunnerId>,
    suspects: HashMap<RunnerId, (Instant, i64)>,
    looks: HashMap<RunnerId, u32>,
    looked: Option<Instant>,
    statement: Option<Statement>,
    /// The server does not answer the question.
    is_blind: bool,
}

impl Watch {
    /// A watch over the runners of a schema.
    pub(super) fn over(schema: Option<&str>) -> Self {
        Self {
            schema: schema.map(str::to_owned),
            ..Self::default()
        }
    }

    /// Takes the locks of this store's runners that the session does not hold.
    pub(super) async fn hold(
        &mut self,
        client: &Client,
        bell: &Bell,
    ) -> Result<(), tokio_postgres::Error> {
        let own = bell.roster.lock().own();
        for runner in own {
            if !self.held.insert(runner) {
                continue;
            }
            // Shared: it never waits, not even for a dead session of our own that the server has not noticed.
            let lock = format!("SELECT pg_advisory_lock_shared({})", key(runner));
            match client.batch_execute(&lock).await {
                Err(error) if error.code().is_none() => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "this runner's death would be noticed only by the end of its lease");
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// When the others are to be looked at; `None`: there is nobody to look at.
    pub(super) fn next_look(&self, bell: &Bell) -> Option<Instant> {
        if self.is_blind || self.targets(bell).is_empty() {
            return None;
        }
        let pause = if self.suspects.is_empty() {
            LOOK
        } else {
            SECOND_LOOK
        };
        Some(
            self.looked
                .map_or_else(Instant::now, |looked| looked + pause),
        )
    }

    fn targets(&self, bell: &Bell) -> Vec<RunnerId> {
        let mut others = bell.roster.lock().others();
        others.retain(|runner| {
            self.suspects.contains_key(runner)
                || if self.seen.contains(runner) {
                    bell.presence.is_busy(*runner)
                } else {
                    self.looks.get(runner).is_none_or(|looks| *looks < LOOKS)
                }
        });
        others
    }

    /// Looks at the others' locks; those who are gone are told to the store.
    pub(super) async fn look(
        &mut self,
        client: &Client,
        bell: &Bell,
    ) -> Result<(), tokio_postgres::Error> {
        let targets = self.targets(bell);
        match self.sights(client, &targets).await {
            Ok(sights) => self.conclude(bell, &targets, &sights),
            Err(error) if error.code().is_none() => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "deaths on other machines are noticed only by the end of a lease");
                self.is_blind = true;
            }
        }
        Ok(())
    }

    async fn sights(
        &mut self,
        client: &Client,
        targets: &[RunnerId],
    ) -> Result<Vec<Sight>, tokio_postgres::Error> {
        let statement = match &self.statement {
            Some(statement) => statement.clone(),
            None => self
                .statement
                .insert(client.prepare(&held(self.schema.as_deref())).await?)
                .clone(),
        };
        let ids: Vec<String> = targets.iter().map(ToString::to_string).collect();
        let mut sights = Vec::with_capacity(ids.len());
        for row in client.query(&statement, &[&ids]).await? {
            let id: String = row.try_get(0)?;
            if let Ok(runner) = id.parse() {
                sights.push(Sight {
                    runner,
                    heartbeat_at: row.try_get(1)?,
                    is_locked: row.try_get(2)?,
                });
            }
        }
        Ok(sights)
    }

    fn conclude(&mut self, bell: &Bell, targets: &[RunnerId], sights: &[Sight]) {
        let now = Instant::now();
        self.looked = Some(now);
        let vanished = self.judge(targets, sights, now);
        if !vanished.is_empty() {
            bell.presence.vanished.lock().extend(vanished);
            bell.roster.lock().forget();
            bell.ring();
        }
    }

    /// The runners that are gone, as far as locks and heartbeats tell.
    fn judge(&mut self, targets: &[RunnerId], sights: &[Sight], now: Instant) -> Vec<RunnerId> {
        for runner in targets {
            *self.looks.entry(*runner).or_default() += 1;
            if !sights.iter().any(|sight| sight.runner == *runner) {
                // It retired, or was declared dead already.
                self.suspects.remove(runner);
                self.seen.remove(runner);
            }
        }
        let mut vanished = Vec::new();
        for sight in sights {
            let runner = sight.runner;
            if sight.is_locked {
                self.seen.insert(runner);
                self.suspects.remove(&runner);
            } else if self.seen.contains(&runner) {
                let (since, beat) = *self
                    .suspects
                    .entry(runner)
                    .or_insert((now, sight.heartbeat_at));
                let lives = beat != sight.heartbeat_at;
                if !lives && now.duration_since(since) < GRACE {
                    continue;
                }
                vanished.extend((!lives).then_some(runner));
                self.suspects.remove(&runner);
                self.seen.remove(&runner);
                // Where it lives, its lock may come back.
                self.looks.remove(&runner);
            }
        }
        vanished
    }
}

/// The half of the id that is random.
fn key(runner: RunnerId) -> i64 {
    let bytes = runner.as_bytes();
    bytes[8..]
        .iter()
        .fold(0, |key, byte| key << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_rest_are_told_once() {
        let (presence, runner) = (Presence::default(), RunnerId::generate());
        assert_eq!(presence.next_announcement(), None);
        assert!(presence.at_work(runner, true));
        assert!(presence.next_announcement().is_some());
        let busy = News {
            busy: vec![runner],
            resting: vec![],
        };
        assert_eq!(presence.announce(), busy);
        assert!(
            presence.at_work(runner, false),
            "the clock is to be looked at"
        );
        assert!(!presence.at_work(runner, true), "short rests are not told");
        assert!(presence.at_work(runner, false));
        let resting = News {
            busy: vec![],
            resting: vec![runner],
        };
        assert_eq!(presence.announce(), resting);
        assert_eq!(presence.next_announcement(), None);
    }

    fn look(
        watch: &mut Watch,
        runner: RunnerId,
        heartbeat_at: i64,
        is_locked: bool,
        now: Instant,
    ) -> Vec<RunnerId> {
        let sight = Sight {
            runner,
            heartbeat_at,
            is_locked,
        };
        watch.judge(&[runner], &[sight], now)
    }

    #[test]
    fn e3_a_lock_that_vanished_is_judged_at_the_second_look() {
        let (mut watch, runner, start) = (Watch::default(), RunnerId::generate(), Instant::now());
        assert_eq!(look(&mut watch, runner, 1, true, start), []);
        assert_eq!(look(&mut watch, runner, 1, false, start), []);
        assert_eq!(look(&mut watch, runner, 1, false, start + GRACE / 2), []);
        assert_eq!(look(&mut watch, runner, 1, false, start + GRACE), [runner]);
        assert_eq!(
            look(&mut watch, runner, 1, false, start + GRACE * 2),
            [],
            "told once"
        );
    }

    #[test]
    fn e3_a_lock_that_this_session_never_saw_tells_nothing() {
        let (mut watch, runner, start) = (Watch::default(), RunnerId::generate(), Instant::now());
        for round in 0..10 {
            assert_eq!(
                look(&mut watch, runner, 1, false, start + GRACE * round),
                []
            );
        }
    }

    #[test]
    fn e3_a_runner_that_lost_its_session_and_lives_is_no_suspect() {
        let (mut watch, runner, start) = (Watch::default(), RunnerId::generate(), Instant::now());
        look(&mut watch, runner, 1, true, start);
        look(&mut watch, runner, 1, false, start);
        assert_eq!(
            look(&mut watch, runner, 1, true, start + GRACE),
            [],
            "it listens again"
        );
        look(&mut watch, runner, 1, false, start + GRACE);
        assert_eq!(
            look(&mut watch, runner, 2, false, start + GRACE * 2),
            [],
            "its heart beats"
        );
        assert_eq!(look(&mut watch, runner, 2, false, start + GRACE * 9), []);
    }
}
