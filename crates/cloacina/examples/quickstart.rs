#![expect(clippy::print_stdout, reason = "the program prints its results")]

use cloacina::{Context, DefaultRunner, TaskError, task, workflow};

#[task(retry_attempts = 3, retry_delay_ms = 500)]
async fn extract(context: &mut Context) -> Result<(), TaskError> {
    context.set("rows", [1, 2, 3])?;
    Ok(())
}

#[task(dependencies = [extract])] // functions or ids
async fn total(context: &mut Context) -> Result<(), TaskError> {
    let rows: Vec<i64> = context.get("rows")?;
    context.set("total", rows.iter().sum::<i64>())?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let etl = workflow! {
        name: "etl",
        description: "Load the daily file",
        tags: { "team": "data" },
        tasks: [extract, total],
    };

    // To keep the state, use a file ("sqlite:///etl.db") or a server ("postgresql://user@host/name").
    let runner = DefaultRunner::new("sqlite://:memory:").await?;
    let mut input = Context::new();
    input.set("day", "2026-01-01")?;
    let result = runner.execute(&etl, input).await?.into_completed()?;
    println!(
        "{} {}",
        result.status(),
        result.final_context().get::<i64>("total")?
    );
    runner.shutdown().await?;
    Ok(())
}
