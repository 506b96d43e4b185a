//! Measures the maximum speed of this machine's databases, so that the engine's speed can be stated as a ratio.
//!
//! `cloacina-limits [--sqlite DIR] [--postgres URL] [--quick]` prints one JSON object on stdout and a table on stderr.
//!
//! - `commit`: the time to commit one row durably in a separate transaction, in microseconds.
//! - `rows`: executions per second when only the rows of a workload are written (see [`workload`]), with 1, 10 and 100
//!   executions per transaction.
//! - `commit_after`: `commit` measured again at the end, to detect whether the disk became slower.
//! - `limit`: the figures that the engine is compared with. They come from batches of 100 executions (10 for
//!   W2-threads, 1 for W1). On PostgreSQL, each transaction is a single statement.
//!
//! `benchmarks/workloads.py` describes the workloads W1, W2, W2-threads and W3.

mod measurement;
mod postgres;
mod sqlite;
mod statement;
mod workload;

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Map, Value, json};

use crate::workload::{Effort, WORKLOADS};

const USAGE: &str = "usage: cloacina-limits [--sqlite DIR] [--postgres URL] [--quick]";

#[derive(Default)]
struct Options {
    sqlite: Option<PathBuf>,
    postgres: Option<String>,
    quick: bool,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .ok_or(format!("{word} needs a value; hint: {USAGE}"))
            };
            match word.as_str() {
                "--sqlite" => options.sqlite = Some(value()?.into()),
                "--postgres" => options.postgres = Some(value()?),
                "--quick" => options.quick = true,
                _ => return Err(format!("unknown argument {word:?}; hint: {USAGE}")),
            }
        }
        if options.sqlite.is_none() && options.postgres.is_none() {
            return Err(format!("no database given; hint: {USAGE}"));
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let options = match Options::parse(env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    match measure(&options) {
        Ok(results) => {
            print_table("", &results);
            println!("{results}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cloacina-limits: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<Value, Box<dyn Error>> {
    let effort = if options.quick {
        Effort::QUICK
    } else {
        Effort::FULL
    };
    let mut results = Map::from_iter([("quick".to_owned(), json!(options.quick))]);
    if let Some(directory) = &options.sqlite {
        results.insert("sqlite".to_owned(), sqlite(directory, effort)?);
    }
    if let Some(url) = &options.postgres {
        results.insert("postgres".to_owned(), postgres(url, effort)?);
    }
    Ok(Value::Object(results))
}

fn sqlite(directory: &Path, effort: Effort) -> Result<Value, Box<dyn Error>> {
    let mut measured = sqlite::measure(directory, effort)?;
    warn_of_drift(
        "SQLite",
        &measured["commit"]["full"],
        &measured["commit_after"]["full"],
    );
    measured["limit"] = limit(&measured["commit"]["full"], |workload, batch| {
        let rows = &measured["rows"][workload];
        let other = &rows[format!("{batch}_rowid")];
        // The machine's limit is the rate of the faster table layout: with or without ROWID.
        let rate = |rows: &Value| rows["executions_per_s"].as_f64().unwrap_or_default();
        let best = if rate(other) > rate(&rows[batch]) {
            other
        } else {
            &rows[batch]
        };
        best.clone()
    });
    Ok(measured)
}

fn postgres(url: &str, effort: Effort) -> Result<Value, Box<dyn Error>> {
    let mut measured = postgres::measure(url, effort)?;
    warn_of_drift(
        "PostgreSQL",
        &measured["commit"][postgres::PLAIN],
        &measured["commit_after"][postgres::PLAIN],
    );
    measured["limit"] = limit(&measured["commit"][postgres::PLAIN], |workload, batch| {
        measured["rows"][workload][batch]["fused"][postgres::PLAIN].clone()
    });
    Ok(measured)
}

/// Warns if commits became slower or faster during the run. Writes of another program can make a commit ten times slower
/// for minutes, which makes the figures useless.
fn warn_of_drift(database: &str, before: &Value, after: &Value) {
    let p50 = |commit: &Value| commit["p50_us"].as_f64().unwrap_or(f64::NAN);
    let (before, after) = (p50(before), p50(after));
    if before.max(after) > 2.0 * before.min(after) {
        eprintln!(
            "warning: {database} commits took {before} µs at the start and {after} µs at the end; hint: run again on an idle disk"
        );
    }
}

/// Selects the figures that the engine is compared with.
fn limit(commit: &Value, rate: impl Fn(&str, &str) -> Value) -> Value {
    let mut limit = Map::from_iter([("commit_us".to_owned(), commit["p50_us"].clone())]);
    let mut add = |name: &str, rate: &Value| {
        let figures = json!({
            "executions_per_s": rate["executions_per_s"],
            "tasks_per_s": rate["tasks_per_s"],
        });
        limit.insert(name.to_owned(), figures);
    };
    for workload in WORKLOADS {
        add(workload.name, &rate(workload.name, "100"));
    }
    // W1 runs chains. One commit of a chain writes about as many rows as a transaction that creates one execution and
    // finishes another.
    add("W1", &rate("W2", "1"));
    // Each of the eight threads waits until its submission is committed, so a commit contains at most eight submissions.
    add("W2-threads", &rate("W2", "10"));
    Value::Object(limit)
}

/// Prints one line for each object that contains figures, with its path in the JSON.
fn print_table(path: &str, value: &Value) {
    let Value::Object(entries) = value else {
        return;
    };
    let figures: String = entries
        .iter()
        .filter_map(|(key, figure)| figure.as_f64().map(|figure| format!("  {key} {figure:>9}")))
        .collect();
    if !figures.is_empty() {
        eprintln!("{path:<44}{figures}");
    }
    for (key, entry) in entries {
        print_table(format!("{path} {key}").trim_start(), entry);
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    fn parse(words: &[&str]) -> Result<Options, String> {
        Options::parse(words.iter().map(|&word| word.to_owned()))
    }

    #[test]
    fn parse_refuses_missing_databases_missing_values_and_unknown_options() {
        assert!(parse(&["--quick"]).is_err());
        assert!(parse(&["--sqlite"]).is_err());
        assert!(parse(&["--sqlite", "x", "--slow"]).is_err());
        let options = parse(&["--sqlite", "x", "--postgres", "y", "--quick"]).unwrap();
        assert!(options.quick && options.sqlite.is_some() && options.postgres.is_some());
    }
}
