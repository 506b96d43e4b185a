use cloacina::{Context, TaskError, task, workflow};

#[task(dependencies = ["report"])]
async fn extract(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(dependencies = [extract])]
async fn total(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(trigger_rules = any(task_failed("total"), always))]
async fn report(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

fn main() {
    workflow! { name: "etl", tasks: [extract, total, report] };
}
