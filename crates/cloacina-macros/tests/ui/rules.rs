use cloacina::{Context, TaskError, task};

#[task(trigger_rules = all())]
async fn empty(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(trigger_rules = any(task_sucess("a")))]
async fn misspelled(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(trigger_rules = task_success)]
async fn no_arguments(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(trigger_rules = context_value("n", greater, 80))]
async fn operator(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(trigger_rules = context_value("n", exists, 80))]
async fn too_much(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(trigger_rules = context_value("n", >, limit))]
async fn no_literal(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

fn main() {}
