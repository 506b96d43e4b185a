use cloacina::{Context, TaskError, TaskHandle, task};

#[task]
fn not_async(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task]
async fn by_value(_context: Context) -> Result<(), TaskError> {
    Ok(())
}

#[task]
async fn no_result(_context: &mut Context) {}

#[task]
async fn handle_first(_handle: &TaskHandle, _context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task]
async fn generic<T: Default>(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

struct Owner;

impl Owner {
    #[task]
    async fn method(&self, _context: &mut Context) -> Result<(), TaskError> {
        Ok(())
    }
}

#[task]
struct NotAFunction;

fn main() {}
