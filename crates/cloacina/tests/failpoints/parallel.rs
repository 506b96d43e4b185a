//! Runs the scenario several times in parallel, because a run mostly waits.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Number of runs at the same time in each test.
const RUNS: usize = 3;

/// Calls a function for numbers, in order, until it returns `false`. Returns the lowest such number.
pub fn first_failing(
    numbers: Range<usize>,
    succeeds: impl Fn(usize) -> bool + Sync,
) -> Option<usize> {
    let next = AtomicUsize::new(numbers.start);
    let first = AtomicUsize::new(numbers.end);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if number >= first.load(Ordering::SeqCst) {
                break;
            }
            if !succeeds(number) {
                first.fetch_min(number, Ordering::SeqCst);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..RUNS {
            scope.spawn(work);
        }
    });
    let first = first.into_inner();
    (first < numbers.end).then_some(first)
}

/// Returns the items for which a function returns `true`.
pub fn that<T: Send + Sync + Clone, C: FromIterator<T>>(
    items: &[T],
    holds: impl Fn(&T) -> bool + Sync,
) -> C {
    let found = cloacina::types::sync::Mutex::new(Vec::new());
    first_failing(0..items.len(), |number| {
        let item = &items[number];
        if holds(item) {
            found.lock().push(item.clone());
        }
        true
    });
    let found = std::mem::take(&mut *found.lock());
    found.into_iter().collect()
}
