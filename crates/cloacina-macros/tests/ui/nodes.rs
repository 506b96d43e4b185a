use cloacina::{TaskError, task, workflow};

#[task]
async fn load(order: u32) -> Result<u32, TaskError> {
    Ok(order)
}

fn main() {
    workflow! { name: "n", tasks: [wait(id = "w")] };
    workflow! { name: "n", tasks: [wait(wait_for = delay("1h"))] };
    workflow! { name: "n", tasks: [wait(id = "w", wait_for = delay("1h"), retry_attempts = 2)] };
    workflow! { name: "n", tasks: [approval(id = "a", on_reject = "retry")] };
    workflow! { name: "n", tasks: [child(id = "c")] };
    workflow! { name: "n", tasks: [child(id = "c", workflow = "")] };
    workflow! { name: "n", tasks: [child(id = "c", workflow = "w", on_parent_end = "keep")] };
    workflow! { name: "n", tasks: [child(id = "c", workflow = "w", input = { a = "x", a = "y" })] };
    workflow! { name: "n", tasks: [child(id = "c", workflow = "w", parallel = 2)] };
    workflow! { name: "n", tasks: [child(id = "c", workflow = "w", timeout = "soon")] };
    workflow! { name: "n", tasks: [child(id = "c", workflow = "w", dependencies = ["lode"]), load] };
    workflow! { name: "n", tasks: [load, child(id = "load", workflow = "w")] };
    workflow! { name: "n", tasks: [call(id = "c")] };
    workflow! { name: "n", cancel_on: [], tasks: [load] };
    workflow! { name: "n", cancel_on: delay("1h"), tasks: [load] };
}
