use cloacina::{Context, TaskError, TaskHandle, task, workflow};

struct Opaque;

#[task]
async fn borrowed(rows: &[u32]) -> Result<u32, TaskError> {
    Ok(rows.iter().sum())
}

#[task]
async fn pattern((rows, _more): (u32, u32)) -> Result<u32, TaskError> {
    Ok(rows)
}

#[task]
async fn owned_handle(_handle: TaskHandle) -> Result<u32, TaskError> {
    Ok(1)
}

#[task]
async fn two_handles(_a: &TaskHandle, _b: &TaskHandle) -> Result<u32, TaskError> {
    Ok(1)
}

#[task]
async fn context_later(_rows: u32, _context: &Context) -> Result<u32, TaskError> {
    Ok(1)
}

#[task]
async fn twice(#[default = 1] #[default] rows: u32) -> Result<u32, TaskError> {
    Ok(rows)
}

#[task]
async fn default_context(#[default] _context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task]
async fn opaque_parameter(_rows: Opaque) -> Result<u32, TaskError> {
    Ok(1)
}

#[task]
async fn opaque_result(rows: u32) -> Result<Opaque, TaskError> {
    let _ = rows;
    Ok(Opaque)
}

#[task]
async fn bare_result(rows: u32) -> u32 {
    rows
}

#[task(output = "total")]
async fn no_result(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task(output = "")]
async fn empty_output(rows: u32) -> Result<u32, TaskError> {
    Ok(rows)
}

#[task]
async fn a(b: u32) -> Result<u32, TaskError> {
    Ok(b)
}

#[task]
async fn b(a: u32) -> Result<u32, TaskError> {
    Ok(a)
}

#[task(output = "b")]
async fn c() -> Result<u32, TaskError> {
    Ok(1)
}

#[task]
async fn d(#[result_of("lode")] rows: u32) -> Result<u32, TaskError> {
    Ok(rows)
}

fn main() {
    workflow! { name: "cycle", tasks: [a, b] };
    workflow! { name: "same", tasks: [b, c] };
    workflow! { name: "unknown", tasks: [c, d] };
    workflow! { name: "output", output: "dd", tasks: [c, a, d] };
    workflow! { name: "output", output: [], tasks: [c] };
    workflow! { name: "output", output: 1, tasks: [c] };
    workflow! { name: "input", input: Opaque, tasks: [c] };
}
