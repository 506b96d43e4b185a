use std::sync::Arc;

use cloacina::{TaskError, task};

struct Smtp;

async fn open() -> Result<Smtp, TaskError> {
    Ok(Smtp)
}

fn open_here(_host: &str) -> Result<Smtp, TaskError> {
    Ok(Smtp)
}

#[task]
async fn borrowed(#[resource(open)] _smtp: &Smtp) -> Result<u32, TaskError> {
    Ok(1)
}

#[task]
async fn owned(#[resource(open)] _smtp: Smtp) -> Result<u32, TaskError> {
    Ok(1)
}

#[task]
async fn with_default(#[resource(open)] #[default] _smtp: Arc<Smtp>) -> Result<u32, TaskError> {
    Ok(1)
}

#[task]
async fn no_function(#[resource] _smtp: Arc<Smtp>) -> Result<u32, TaskError> {
    Ok(1)
}

#[task]
async fn with_parameters(#[resource(open_here)] _smtp: Arc<Smtp>) -> Result<u32, TaskError> {
    Ok(1)
}

fn open_at(host: &'static str) -> impl Fn() -> Result<Smtp, TaskError> {
    move || open_here(host)
}

#[task]
async fn made_function(#[resource(open_at("a"))] _smtp: Arc<Smtp>) -> Result<u32, TaskError> {
    Ok(1)
}

fn main() {}
