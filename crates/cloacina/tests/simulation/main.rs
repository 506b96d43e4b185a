//! Deterministic simulation of coordinators with a virtual clock, a seeded scheduler and injected faults.
//!
//! `CLOACINA_SEED=n cargo test -p cloacina --test simulation one_seed -- --nocapture` replays a seed and prints its
//! events. `CLOACINA_SEEDS=n` sets the number of seeds, and `CLOACINA_FIRST_SEED=n` the first seed.
//! `CLOACINA_MUTANT=name` checks only one mutant: a defect that is injected to check that the oracle detects it.
#![cfg(feature = "sqlite")]
#![expect(clippy::expect_used, reason = "a test may panic")]

mod approvals;
mod callers;
mod children;
mod conditions;
mod coverage;
mod finals;
mod interleavings;
mod map_rules;
mod maps;
mod observed;
mod oracle;
mod parking;
mod points;
mod runners;
mod scenario;
mod steps;
mod timeline;
mod waits;
mod workers;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use observed::Mutant;
use oracle::Coverage;
use world::World;

/// The default number of seeds. An unoptimised build runs them in seconds. `make simulate` runs 10,000 seeds, and `make soak`
/// runs a million.
const SEEDS: u64 = 300;
/// The smallest number of seeds for which the test requires that every kind of event in `Coverage` occurs.
const MANY_SEEDS: u64 = 5_000;
/// The number of seeds within which a mutant must be detected.
const MUTANT_SEEDS: u64 = 1_000;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .expect("the environment variable is a whole number"),
    )
}

/// Runs seeds on all cores until a seed fails. Returns the lowest failing seed with its error, and the coverage.
fn explore(
    seeds: std::ops::Range<u64>,
    mutant: Option<Mutant>,
) -> (Option<(u64, String)>, BTreeMap<Coverage, u64>) {
    let next = AtomicU64::new(seeds.start);
    let end = AtomicU64::new(seeds.end);
    let work = || {
        let mut coverage: BTreeMap<Coverage, u64> = BTreeMap::new();
        let mut broken = None;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end.load(Ordering::Relaxed) {
                return (broken, coverage);
            }
            let report = World::run(seed, mutant, false);
            for (covered, times) in report.coverage {
                *coverage.entry(covered).or_default() += times;
            }
            if let Some(what) = report.broken {
                end.fetch_min(seed, Ordering::Relaxed);
                broken = Some((seed, what));
            }
        }
    };
    let threads = thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let parts: Vec<_> = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().expect("a simulation does not panic"))
            .collect()
    });
    let mut coverage: BTreeMap<Coverage, u64> = BTreeMap::new();
    let mut broken = Vec::new();
    for (part, seen) in parts {
        broken.extend(part);
        for (covered, times) in seen {
            *coverage.entry(covered).or_default() += times;
        }
    }
    (broken.into_iter().min(), coverage)
}

#[test]
fn every_seed_satisfies_the_oracle() {
    let count = from_environment("CLOACINA_SEEDS").unwrap_or(SEEDS);
    let first = from_environment("CLOACINA_FIRST_SEED").unwrap_or(0);
    let (broken, coverage) = explore(first..first + count, None);
    println!("{count} seeds from {first}: {coverage:?}");
    if let Some((seed, what)) = broken {
        panic!("seed {seed}: {what}\nreplay it with CLOACINA_SEED={seed} and the test one_seed");
    }
    // If an event never occurs, the rules for it are not tested.
    if count >= MANY_SEEDS {
        let absent: Vec<Coverage> = Coverage::ALL
            .into_iter()
            .filter(|covered| !coverage.contains_key(covered))
            .collect();
        assert!(absent.is_empty(), "these events never occurred: {absent:?}");
    }
}

#[test]
fn seed_replays_exactly() {
    for seed in 0..40 {
        let (first, second) = (World::run(seed, None, true), World::run(seed, None, true));
        assert!(
            first.trace == second.trace,
            "seed {seed} replayed differently"
        );
        assert_eq!(
            first.coverage, second.coverage,
            "seed {seed} replayed differently"
        );
    }
}

#[test]
fn every_mutant_is_detected() {
    let only = std::env::var("CLOACINA_MUTANT").ok();
    for mutant in Mutant::ALL {
        if only
            .as_ref()
            .is_some_and(|only| *only != format!("{mutant:?}"))
        {
            continue;
        }
        let (broken, _) = explore(0..MUTANT_SEEDS, Some(mutant));
        match broken {
            Some((seed, what)) => println!("{mutant:?}: seed {seed}: {what}"),
            None => panic!("{mutant:?} was not detected within {MUTANT_SEEDS} seeds"),
        }
    }
}

#[test]
fn one_seed() {
    let Some(seed) = from_environment("CLOACINA_SEED") else {
        return; // nothing to replay
    };
    let report = World::run(seed, None, true);
    for line in &report.trace {
        println!("{line}");
    }
    if let Some(what) = report.broken {
        panic!("seed {seed}: {what}");
    }
}
