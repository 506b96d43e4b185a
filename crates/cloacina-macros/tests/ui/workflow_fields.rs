use cloacina::{Context, TaskError, task, workflow};

#[task]
async fn extract(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

async fn plain(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

fn main() {
    workflow! { name: "etl", tasks: [] };
    workflow! { tasks: [extract] };
    workflow! { name: "etl" };
    workflow! { name: "my etl", tasks: [extract] };
    workflow! { name: "etl", task: [extract] };
    workflow! { name: "etl", tasks: [extract(1)] };
    workflow! { name: "etl", tasks: [external_task(timeout_ms = 1)] };
    workflow! { name: "etl", tasks: [plain] };
}
