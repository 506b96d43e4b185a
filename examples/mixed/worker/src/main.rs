//! The Rust side: serves the task `aggregate` of the workflow `traffic`, which `pipeline.py` defines.
//!
//! Usage: `mixed-worker DATABASE`. The program runs until its standard input ends.

mod access_log;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use cloacina::{Context, DefaultRunner, TaskError, TaskHandle, task};

use access_log::Summary;

/// Reads every line of the log. The definition of the workflow contains the options of this task.
#[task]
async fn aggregate(context: &mut Context, handle: &TaskHandle) -> Result<(), TaskError> {
    let files: Vec<PathBuf> = context.get("files")?;
    let output: PathBuf = context.get("output")?;
    let handle = handle.clone();
    // A long computation gets a thread of its own, so that it does not delay other tasks.
    let summary =
        tokio::task::spawn_blocking(move || summarize(&files, &output, &handle)).await??;
    context.set("summary", summary.report())?;
    Ok(())
}

fn summarize(files: &[PathBuf], output: &Path, handle: &TaskHandle) -> Result<Summary, TaskError> {
    let mut summary = Summary::default();
    for (done, file) in files.iter().enumerate() {
        if handle.is_cancelled() {
            return Err(TaskError::abort("cancelled"));
        }
        summary.add_file(file)?;
        note(output, &format!("{} of {} files", done + 1, files.len()))?;
    }
    Ok(summary)
}

/// Records which process ran which task, so that repeated runs are visible.
fn note(output: &Path, text: &str) -> std::io::Result<()> {
    let path = output.join("journal.tsv");
    let mut journal = OpenOptions::new().create(true).append(true).open(path)?;
    let process = std::process::id();
    journal.write_all(format!("{process}\tRust\taggregate\t{text}\n").as_bytes())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .ok_or("usage: mixed-worker DATABASE")?;
    let runner = DefaultRunner::new(url).await?;
    runner.register_external::<aggregate>("traffic").await?;
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    runner.shutdown().await?;
    Ok(())
}
