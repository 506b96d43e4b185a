//! Computes figures from measured durations.

use std::time::Duration;

use serde_json::{Value, json};

/// The durations of single commits.
pub struct Commits(pub Vec<Duration>);

impl Commits {
    pub fn to_json(&self) -> Value {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let total: Duration = sorted.iter().sum();
        json!({
            "p50_us": tenths(micros(sorted[sorted.len() / 2])),
            "mean_us": tenths(micros(total) / count(sorted.len())),
            "p99_us": tenths(micros(sorted[sorted.len() * 99 / 100])),
        })
    }
}

/// The rates of several rounds, in executions per second. The figure is the median of the rates.
pub struct Rate {
    rounds: Vec<f64>,
    /// The number of tasks of each execution.
    tasks: usize,
}

impl Rate {
    pub fn new(tasks: usize) -> Self {
        Self {
            rounds: Vec::new(),
            tasks,
        }
    }

    pub fn add(&mut self, executions: usize, elapsed: Duration) {
        self.rounds.push(count(executions) / elapsed.as_secs_f64());
    }

    pub fn to_json(&self) -> Value {
        let mut sorted = self.rounds.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        json!({
            "executions_per_s": median.round(),
            "tasks_per_s": (median * count(self.tasks)).round(),
            "spread": [sorted[0].round(), sorted[sorted.len() - 1].round()],
        })
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the counts of a benchmark are small enough to be exact as f64"
)]
fn count(value: usize) -> f64 {
    value as f64
}
