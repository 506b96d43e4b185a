//! Cron: from an expression and a zone to the instants at which it fires (semantics F1, F2, F8).

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
    /// Minutes or hours are wildcards or steps: ticks follow elapsed time when clocks change.
    is_interval: bool,
}

/// A fire time, as a preview shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FireTime {
    /// When.
    pub at: Timestamp,
    /// What the zone's clocks show then, as seconds ahead of UTC.
    pub offset_seconds: i32,
}

impl Cron {
    /// Reads an expression (F1) and the name of an IANA time zone.
    ///
    /// # Errors
    /// `ScheduleInvalid` with the position of the fault and what was expected there, for an unknown zone (the nearest names
    /// are the hint), and for an expression that never fires.
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
                format!("cron expression '{expression}' never fires: no month has such a day"),
            )
            .with_hint("look at the day of month and the month"));
        }
        Ok(cron)
    }

    /// The first fire time after an instant; `None` beyond the calendar.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        // Ticks are whole seconds: what is within a second has its start behind it.
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

    /// F2 for fixed times: each wall clock time is one instant, the first that shows it, or the end of the gap that swallows it.
    fn fixed_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // A wall clock that goes back shows times again that have had their tick: those found first are not after `after`.
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

    /// The last fire time in `(after, until]`, without going through all of them.
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

    /// F8: the next fire times after an instant, with the zone's offsets.
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
