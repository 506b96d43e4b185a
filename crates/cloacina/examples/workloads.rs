//! Measures the workloads W1–W3 of `benchmarks/` through the Rust API, with tasks that do nothing.
//!
//! `cargo run --release --example workloads -- URL [--quick]` prints the results as one JSON object.
#![expect(clippy::print_stdout, reason = "the program prints its results")]

use std::time::{Duration, Instant};

use cloacina::{Context, DefaultRunner, Submission, TaskError, Workflow, task, workflow};

type AnyError = Box<dyn std::error::Error>;

macro_rules! nothing {
    ($($name:ident $(after $($dependency:ident)+)?;)*) => {
        $(#[task(dependencies = [$($($dependency),+)?])]
        async fn $name(_context: &mut Context) -> Result<(), TaskError> {
            Ok(())
        })*
    };
}

nothing! {
    one;
    two after one;
    three after two;
    first;
    m0 after first;
    m1 after first;
    m2 after first;
    m3 after first;
    m4 after first;
    m5 after first;
    m6 after first;
    m7 after first;
    last after m0 m1 m2 m3 m4 m5 m6 m7;
}

/// W1: runs a chain of three tasks `count` times, one execution at a time. Returns the sorted times from submission to
/// result.
async fn chain(
    runner: &DefaultRunner,
    workflow: &Workflow,
    count: usize,
) -> Result<Vec<Duration>, AnyError> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        runner
            .execute(workflow, Context::new())
            .await?
            .into_completed()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// W2 and W3: submits many executions at once and waits for all results. Returns executions per second.
async fn burst(runner: &DefaultRunner, workflow: &Workflow, count: u32) -> Result<f64, AnyError> {
    let start = Instant::now();
    let many = (0..count).map(|_| Submission::new(workflow, Context::new()));
    for handle in runner.submit_many(many).await? {
        handle.result().await?.into_completed()?;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let url = arguments.first().ok_or("usage: workloads URL [--quick]")?;
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let single = workflow! { name: "single", tasks: [one] };
    let three_in_a_row = workflow! { name: "chain", tasks: [one, two, three] };
    let fan = workflow! {
        name: "fan",
        tasks: [first, m0, m1, m2, m3, m4, m5, m6, m7, last],
    };
    let runner = DefaultRunner::new(url).await?;
    burst(&runner, &single, 200).await?; // warm up
    let times = chain(&runner, &three_in_a_row, if quick { 50 } else { 500 }).await?;
    let micros = |index: usize| times[index].as_secs_f64() * 1e6;
    let w2 = burst(&runner, &single, if quick { 200 } else { 2000 }).await?;
    let w3 = burst(&runner, &fan, if quick { 30 } else { 300 }).await? * 10.0;
    runner.shutdown().await?;
    println!(
        "{{\"W1\":{{\"p50_us\":{:.1},\"p99_us\":{:.1}}},\"W2\":{{\"executions_per_s\":{w2:.1}}},\"W3\":{{\"tasks_per_s\":{w3:.1}}}}}",
        micros(times.len() / 2),
        micros(times.len() * 99 / 100),
    );
    Ok(())
}
