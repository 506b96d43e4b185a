use std::rc::Rc;

use cloacina::{Context, TaskError, task};

#[task]
async fn shares(context: &mut Context) -> Result<(), TaskError> {
    let shared = Rc::new(1);
    std::future::ready(()).await;
    context.set("n", *shared)?;
    Ok(())
}

fn main() {}
