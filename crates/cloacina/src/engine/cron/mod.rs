//! Cron expressions in a time zone, and the instants at which they fire (semantics F1, F2, F8).
//!
//! See docs/explanation/decisions/051-cron-times.md

mod grammar;
mod zone;

use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};

use crate::types::{Error, ErrorCode, Micros, Timestamp};

const SECOND: Micros = 1_000_000;

/// A cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct Cron {
    pattern: croner::Cron,
    zone: Tz,
    /// Whether the minutes or hours have a wildcard or a step. Ticks then follow elapsed time when clocks change.
    is_interval: bool,
}

/// A fire time in a preview.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FireTime {
    /// The instant.
    pub at: Timestamp,
    /// The zone's offset from UTC at this instant, in seconds.
    pub offset_seconds: i32,
}

impl Cron {
    /// Parses an expression (F1) and the name of an IANA time zone.
    ///
    /// # Errors
    /// Returns `ScheduleInvalid` if the expression is not valid (with the position of the error), if the zone is not known (with
    /// similar names as a hint), or if the expression never fires.
    pub fn parse(expression: &str, timezone: &str) -> Result<Self, Error> {
        let parsed = grammar::parse(expression)?;
        let zone = zone::find(timezone)?;
        let parser = CronParser::builder()
            .seconds(Seconds::Required)
            .year(Year::Disallowed)
            .build();
        let pattern = parser.parse(&parsed.pattern).map_err(|error| {
            Error::new(
                ErrorCode::ScheduleInvalid,
                format!("cron expression '{expression}' is not valid: {error}"),
            )
        })?;
        let cron = Self {
            pattern,
            zone,
            is_interval: parsed.is_interval,
        };
        if cron.wall_after(DateTime::UNIX_EPOCH.naive_utc()).is_none() {
            return Err(Error::new(
                ErrorCode::ScheduleInvalid,
                format!(
                    "cron expression '{expression}' never fires: none of its months has such a day"
                ),
            )
            .with_hint("check the day of month and the month"));
        }
        Ok(cron)
    }

    /// Returns the first fire time after an instant, or `None` if it is beyond the last date that the calendar supports.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        // Ticks are due at whole seconds, so the fraction of a second is irrelevant.
        let after = DateTime::<Utc>::from_timestamp(after.0.div_euclid(SECOND), 0)?;
        let next = if self.is_interval {
            let local = after.with_timezone(&self.zone);
            let next = self.pattern.find_next_occurrence(&local, false).ok()?;
            next.with_timezone(&Utc)
        } else {
            self.fixed_after(after)?
        };
        Some(Timestamp::from(next))
    }

    /// F2: returns the next fire time of an expression with fixed times of day. A wall-clock time fires at the first instant at
    /// which clocks show it. A time that clocks skip fires at the end of the gap.
    fn fixed_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // After clocks go back, they show some times again that have already fired. The first instant of such a time is not
        // later than `after`, so the loop skips it.
        let mut wall = after.with_timezone(&self.zone).naive_local();
        loop {
            wall = self.wall_after(wall)?;
            let instant = zone::first_instant(self.zone, wall)?;
            if instant > after {
                return Some(instant);
            }
        }
    }

    fn wall_after(&self, wall: NaiveDateTime) -> Option<NaiveDateTime> {
        self.pattern.find_next_occurrence(&wall, false).ok()
    }

    /// Returns the last fire time in `(after, until]`, without computing all fire times in this interval.
    #[must_use]
    pub fn last_between(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let mut window = SECOND;
        loop {
            let from = (until - window).max(after);
            let mut last = None;
            let mut at = from;
            while let Some(next) = self.next_after(at).filter(|next| *next <= until) {
                last = Some(next);
                at = next;
            }
            if last.is_some() || from <= after {
                return last;
            }
            window = window.saturating_mul(4);
        }
    }

    /// F8: returns the next fire times after an instant, with the zone's offsets.
    pub fn preview(&self, after: Timestamp, count: usize) -> Vec<FireTime> {
        let times = std::iter::successors(self.next_after(after), |last| self.next_after(*last));
        times
            .take(count)
            .map(|at| FireTime {
                at,
                offset_seconds: zone::offset_seconds(self.zone, at),
            })
            .collect()
    }
}
