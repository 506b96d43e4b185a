use cloacina::{Context, TaskError, task, workflow};

mod tasks {
    use super::*;

    #[task]
    pub async fn extract(_context: &mut Context) -> Result<(), TaskError> {
        Ok(())
    }

    #[task(dependencies = ["exract"])]
    pub async fn total(_context: &mut Context) -> Result<(), TaskError> {
        Ok(())
    }
}

#[task(dependencies = ["extract"], trigger_rules = task_success("somewhere_else"))]
async fn report(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

fn main() {
    workflow! {
        name: "etl",
        tasks: [
            tasks::extract,
            tasks::total,
            report,
            external_task(id = "send", dependencies = ["reprot"]),
        ],
    };
}
