use cloacina::{Context, TaskError, task};


#[task(retry_atempts = 3)]
async fn misspelled(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(retry_backoff = "exponentail")]
async fn backoff(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(retry_condition = "sometimes")]
async fn condition(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(timeout_ms = 0)]
async fn timeout(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(retry_delay_ms = -1)]
async fn delay(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(priority = 40_000)]
async fn priority(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(id = "a::b")]
async fn id(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(dependencies = "extract")]
async fn no_list(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(priority = 1, priority = 2)]
async fn twice(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(trigger_rule = "one_faild")]
async fn rule_name(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

fn main() {}
