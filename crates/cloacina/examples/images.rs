//! Defines a workflow with an external task, `label`, which a Python program runs.
//!
//! `cargo run --example images -- URL` waits until the Python program has run the task, and then prints the final context.
//! If this program crashes and is started again, it continues the same execution.
#![expect(clippy::print_stdout, reason = "the program prints its results")]

use cloacina::{Context, DefaultRunner, Submission, TaskError, task, workflow};

#[task]
async fn fetch(context: &mut Context) -> Result<(), TaskError> {
    context.set("path", "cat.png")?;
    Ok(())
}

#[task(dependencies = ["label"])]
async fn publish(context: &mut Context) -> Result<(), TaskError> {
    let (path, label): (String, String) = (context.get("path")?, context.get("label")?);
    context.set("title", format!("{path}: {label}"))?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .ok_or("usage: images DATABASE_URL")?;
    let images = workflow! {
        name: "images",
        tasks: [
            fetch,
            external_task(id = "label", dependencies = [fetch], timeout_ms = 60_000),
            publish,
        ],
    };
    let runner = DefaultRunner::new(url).await?;
    let submission = Submission::new(&images, Context::new()).key("cat");
    let result = runner.submit_with(submission).await?.result().await?;
    println!("{} {}", result.status(), result.final_context().to_json());
    runner.shutdown().await?;
    Ok(())
}
