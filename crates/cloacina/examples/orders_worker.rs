//! A worker for one typed task of a workflow that a Python program defines: `orders_worker DATABASE`. It runs until its
//! standard input ends.
//!
//! The parameters of a handler for an external task are keys of the context: here the result of the Python task `rows`, and a
//! field of the input.

use cloacina::{DefaultRunner, TaskError, task};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Row {
    price: u64,
}

#[derive(Serialize)]
struct Total {
    order_id: String,
    sum: u64,
    attempt: u32,
}

#[task]
async fn total(
    rows: Vec<Row>,
    order_id: String,
    #[default = 0] discount: u64,
    handle: &cloacina::TaskHandle,
) -> Result<Total, TaskError> {
    let prices: u64 = rows.iter().map(|row| row.price).sum();
    Ok(Total {
        order_id,
        sum: prices.saturating_sub(discount),
        attempt: handle.attempt(),
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .ok_or("usage: orders_worker DATABASE")?;
    let runner = DefaultRunner::new(url).await?;
    runner.register_external::<total>("order_in_two").await?;
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    runner.shutdown().await?;
    Ok(())
}
