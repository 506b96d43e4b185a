use cloacina::{Context, TaskError, TaskHandle, task};

#[task]
async fn other_context(_context: &mut String) -> Result<(), TaskError> {
    Ok(())
}

#[task]
async fn other_handle(_context: &mut Context, _handle: &Context) -> Result<(), TaskError> {
    Ok(())
}

#[task]
async fn other_result(_context: &mut Context, _handle: &TaskHandle) -> Result<u32, TaskError> {
    Ok(1)
}

#[task]
async fn other_error(_context: &mut Context) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {}
