use cloacina::{Context, TaskError, task, workflow};

#[task]
async fn extract(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(id = "extract")]
async fn other(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

fn main() {
    workflow! { name: "etl", tasks: [extract, other] };
    workflow! { name: "twice", tasks: [extract, extract] };
}
