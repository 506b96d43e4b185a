//! The Rust program of an order system whose other program is written in Python. `orders_worker DATABASE` runs until its
//! standard input ends.
//!
//! This program runs `total`, an external task of a workflow that the Python program defines. The parameters of an external
//! task are keys of the context: here the result of the Python task `rows`, and fields of the input.
//!
//! Both programs define the workflow `weights`, and share the items of its map.
//!
//! This program also defines the workflow `ship`. The Python program runs `ship` as a child. The task of `ship` runs the
//! Python workflow `label` as a child.

use std::time::Duration;

use cloacina::{Context, DefaultRunner, TaskError, TaskHandle, Workflow, task, workflow};
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

/// Packs an order. Fails if the label is not printed within 10 minutes.
#[task]
async fn parcel(context: &mut Context, cx: &TaskHandle) -> Result<(), TaskError> {
    let order: String = context.get("order_id")?;
    let input = serde_json::json!({ "order_id": order });
    let label: String = cx
        .run("label", "label", &input)
        .timeout(Duration::from_mins(10))
        .await?;
    context.set("parcel", format!("parcel with {label}"))?;
    Ok(())
}

fn ship() -> Workflow {
    workflow! { name: "ship", output: "parcel", tasks: [parcel] }
}

#[task(over = "parcels")]
async fn weigh(number: u64) -> Result<String, TaskError> {
    Ok(format!("rust {number}"))
}

#[task]
async fn all_weights(weigh: Vec<String>) -> Result<Vec<String>, TaskError> {
    Ok(weigh)
}

fn weights() -> Workflow {
    workflow! { name: "weights", output: "all_weights", tasks: [weigh, all_weights] }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .ok_or("usage: orders_worker DATABASE")?;
    let _ = (ship(), weights());
    let runner = DefaultRunner::new(url).await?;
    runner.register_external::<total>("order_in_two").await?;
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    runner.shutdown().await?;
    Ok(())
}
