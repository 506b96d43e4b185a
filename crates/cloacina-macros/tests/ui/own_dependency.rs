use cloacina::{Context, TaskError, task};

#[task(dependencies = ["other", "extract"])]
async fn extract(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

fn main() {}
