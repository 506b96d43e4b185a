//! Runs several scenarios at a time, because a scenario spends most of its time waiting.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of scenarios that a test runs at a time.
const RUNS: usize = 3;

/// Calls a function with increasing numbers, on several threads, until a call returns `false`. Returns the lowest number for
/// which a call returned `false`.
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
pub fn filter<T: Send + Sync + Clone, C: FromIterator<T>>(
    items: &[T],
    is_wanted: impl Fn(&T) -> bool + Sync,
) -> C {
    let found = cloacina::types::sync::Mutex::new(Vec::new());
    first_failing(0..items.len(), |number| {
        let item = &items[number];
        if is_wanted(item) {
            found.lock().push(item.clone());
        }
        true
    });
    let found = std::mem::take(&mut *found.lock());
    found.into_iter().collect()
}
