//! Typed tasks: the name of a parameter says which value it receives, and the value that a task returns is its result.

use cloacina::{Context, DefaultRunner, TaskError, task, workflow};
use serde::{Deserialize, Serialize};

/// The input. It is validated when an execution is submitted.
#[derive(Serialize, Deserialize)]
struct Order {
    id: String,
    prices: Vec<u64>,
    #[serde(default)]
    discount: u64,
}

#[derive(Serialize, Deserialize)]
struct Total {
    order: String,
    sum: u64,
}

/// `prices` and `discount` are fields of the input.
#[task]
async fn rows(prices: Vec<u64>, discount: u64) -> Result<Vec<u64>, TaskError> {
    Ok(prices
        .iter()
        .map(|price| price.saturating_sub(discount))
        .collect())
}

/// `rows` is a task, so `total` depends on it.
#[task]
async fn total(rows: Vec<u64>, id: String) -> Result<Total, TaskError> {
    let sum = rows.iter().sum();
    Ok(Total { order: id, sum })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let order = workflow! {
        name: "order",
        input: Order,
        output: "total",
        tasks: [rows, total],
    };
    let runner = DefaultRunner::new("sqlite://:memory:").await?;
    let input = Context::encode(&Order {
        id: "o-1".to_owned(),
        prices: vec![3, 4],
        discount: 1,
    })?;
    let result = runner.execute(&order, input).await?;
    let total: Total = result.output()?;
    assert_eq!((total.order.as_str(), total.sum), ("o-1", 5));
    let rows: Vec<u64> = result.of("rows")?;
    assert_eq!(rows, [2, 3]);
    // An input that is not an `Order` is refused, and nothing is stored.
    let wrong = Context::from_json(r#"{"id": "o-2", "prices": [3, "4"]}"#)?;
    let refused = runner.submit(&order, wrong).await;
    assert!(refused.is_err_and(|error| error.message.contains("`prices[1]`: invalid type")));
    runner.shutdown().await?;
    Ok(())
}
