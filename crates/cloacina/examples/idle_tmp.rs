use cloacina::runner::{EngineHandle, OpenOptions};
fn main() {
    let url = std::env::args().nth(1).unwrap();
    let mut engines = Vec::new();
    for _ in 0..2 {
        engines.push(EngineHandle::open(&url, OpenOptions { auto_migrate: true, ..OpenOptions::default() }).unwrap());
    }
    std::thread::sleep(std::time::Duration::from_secs(25));
    drop(engines);
}
