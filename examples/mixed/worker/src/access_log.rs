//! Reads an access log, whose lines have the form `HOST [TIME] "METHOD PATH" STATUS BYTES MILLISECONDS`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use cloacina::TaskError;
use serde::Serialize;

/// The longest response time that is counted separately, in milliseconds. A longer time counts as this time.
const SLOWEST: usize = 10_000;

/// The counts of the lines that were read so far.
#[derive(Default)]
pub struct Summary {
    paths: BTreeMap<String, Counts>,
    hours: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Counts {
    requests: u64,
    errors: u64,
    bytes: u64,
    /// The number of requests for each response time in milliseconds.
    times: Vec<u32>,
}

/// The result that the task writes to the context.
#[derive(Serialize)]
pub struct Report {
    requests: u64,
    errors: u64,
    bytes: u64,
    busiest_hour: Option<String>,
    paths: Vec<PathReport>,
}

#[derive(Serialize)]
struct PathReport {
    path: String,
    requests: u64,
    errors: u64,
    p50_ms: usize,
    p99_ms: usize,
}

struct Line<'a> {
    hour: &'a str,
    path: &'a str,
    status: u16,
    bytes: u64,
    milliseconds: usize,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (_, rest) = line.split_once('[')?;
        let (time, rest) = rest.split_once("] \"")?;
        let (request, rest) = rest.split_once("\" ")?;
        let mut numbers = rest.split(' ');
        Some(Self {
            hour: time.get(..13)?,
            path: request.split(' ').nth(1)?,
            status: numbers.next()?.parse().ok()?,
            bytes: numbers.next()?.parse().ok()?,
            milliseconds: numbers.next()?.parse().ok()?,
        })
    }
}

impl Summary {
    /// Reads a file. If a line cannot be parsed, the task fails and is not retried, because a retry would fail too.
    pub fn add_file(&mut self, file: &Path) -> Result<(), TaskError> {
        let mut reader = BufReader::new(File::open(file)?);
        let mut text = String::new();
        let mut number = 0_u64;
        while reader.read_line(&mut text)? > 0 {
            number += 1;
            let Some(line) = Line::parse(text.trim_end()) else {
                let place = format!("{}:{number}", file.display());
                return Err(TaskError::abort(format!(
                    "cannot parse {place} as a line of an access log"
                )));
            };
            self.add(&line);
            text.clear();
        }
        Ok(())
    }

    fn add(&mut self, line: &Line) {
        if !self.paths.contains_key(line.path) {
            self.paths.insert(line.path.to_owned(), Counts::default());
        }
        if let Some(counts) = self.paths.get_mut(line.path) {
            counts.requests += 1;
            counts.errors += u64::from(line.status >= 500);
            counts.bytes += line.bytes;
            counts.times.resize(SLOWEST + 1, 0);
            counts.times[line.milliseconds.min(SLOWEST)] += 1;
        }
        match self.hours.get_mut(line.hour) {
            Some(requests) => *requests += 1,
            None => drop(self.hours.insert(line.hour.to_owned(), 1)),
        }
    }

    /// Returns the figures of the log, with the busiest path first.
    pub fn report(&self) -> Report {
        let sum = |of: fn(&Counts) -> u64| self.paths.values().map(of).sum();
        let busiest = self.hours.iter().max_by_key(|(_, requests)| **requests);
        let mut paths: Vec<PathReport> = self
            .paths
            .iter()
            .map(|(path, counts)| PathReport {
                path: path.clone(),
                requests: counts.requests,
                errors: counts.errors,
                p50_ms: counts.percentile(50),
                p99_ms: counts.percentile(99),
            })
            .collect();
        paths.sort_by_key(|path| std::cmp::Reverse(path.requests));
        Report {
            requests: sum(|counts| counts.requests),
            errors: sum(|counts| counts.errors),
            bytes: sum(|counts| counts.bytes),
            busiest_hour: busiest.map(|(hour, _)| hour.clone()),
            paths,
        }
    }
}

impl Counts {
    fn percentile(&self, percent: u64) -> usize {
        let wanted = self.requests * percent / 100;
        let mut seen = 0;
        self.times
            .iter()
            .position(|count| {
                seen += u64::from(*count);
                seen > wanted
            })
            .unwrap_or(SLOWEST)
    }
}
