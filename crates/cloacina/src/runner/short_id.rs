//! Shortened execution ids that people type, and the search for matching executions.

use std::str::FromStr;

use super::Inspector;
use crate::store::ListQuery;
use crate::types::{Error, ErrorCode, ExecutionId};

/// Minimum number of digits of a prefix.
const MIN_PREFIX: usize = 4;
/// Number of digits in the first part of an id. A short id that also has last digits begins with the whole first
/// part.
const FIRST_PART: usize = 8;
/// Number of digits of an id.
const DIGITS: usize = 32;
/// Maximum number of ids that a search reads per query.
const PAGE: usize = 1_000;

/// A shortened execution id. It is either a prefix of at least 4 characters, or the first 8 characters, a dash and at least the
/// last 5 characters, for example `01a213ed-9c2e41`.
///
/// An id begins with the time of its creation. The second form can therefore distinguish executions that were submitted at
/// almost the same time.
///
/// ```
/// use cloacina::runner::ShortId;
///
/// assert!("01a213ed-65".parse::<ShortId>().is_ok());
/// assert!("01a213ed-9c2e41".parse::<ShortId>().is_ok());
/// assert!("etl".parse::<ShortId>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortId {
    /// The first digits, in lower case and without dashes.
    first: String,
    /// The last digits; empty for a prefix.
    last: String,
}

impl ShortId {
    fn lowest(&self) -> Option<ExecutionId> {
        format!("{:0<DIGITS$}", self.first).parse().ok()
    }

    fn highest(&self) -> Option<ExecutionId> {
        format!("{:f<DIGITS$}", self.first).parse().ok()
    }

    fn is_end_of(&self, id: ExecutionId) -> bool {
        id.uuid().simple().to_string().ends_with(&self.last)
    }
}

impl FromStr for ShortId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        let (first, last) = match lower.split_once('-') {
            // In a full id, the text after the first dash contains further dashes, so `is_end` refuses it.
            Some((first, last)) if first.len() == FIRST_PART && is_end(last) => {
                (first.to_owned(), last.to_owned())
            }
            _ => (lower.replace('-', ""), String::new()),
        };
        if is_hex(&first) && (MIN_PREFIX..=DIGITS).contains(&first.len()) {
            return Ok(Self { first, last });
        }
        let shown: String = text.chars().take(80).collect();
        Err(Error::new(
            ErrorCode::ExecutionNotFound,
            format!("'{shown}' is not an execution id"),
        )
        .with_hint("an id is a UUID, like 0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41; its first characters are enough, at least 4"))
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_end(text: &str) -> bool {
    (5..=DIGITS - FIRST_PART).contains(&text.len()) && is_hex(text)
}

impl Inspector {
    /// Returns at most `limit` executions that match a shortened id, newest first. Searches only the ids that begin
    /// with the first digits of `short`.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn find_short(&self, short: &ShortId, limit: usize) -> Result<Vec<ExecutionId>, Error> {
        let (Some(lowest), Some(highest)) = (short.lowest(), short.highest()) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        if self.store.statuses(&[highest])?.len() == 1 {
            found.push(highest);
        }
        let mut before = highest;
        loop {
            let ids = self.store.list(&ListQuery {
                before: Some(before),
                limit: PAGE,
                ..ListQuery::default()
            })?;
            let ids = ids.ids;
            for id in &ids {
                if *id < lowest || found.len() >= limit {
                    return Ok(found);
                }
                if short.is_end_of(*id) {
                    found.push(*id);
                }
            }
            match ids.last() {
                Some(last) if ids.len() == PAGE => before = *last,
                _ => return Ok(found),
            }
        }
    }
}
