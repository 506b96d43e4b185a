//! Wall-clock time, in whole microseconds since the Unix epoch, and the monotonic time of one process. All code reads both
//! times through a [`Clock`].

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// A length of time in microseconds.
pub type Micros = i64;

/// The shortest timeout that means no limit: about 30,000 years, in microseconds. Adding it to the current time does not
/// overflow.
pub const NO_TIMEOUT: Micros = 1_000_000_000_000_000_000;

/// Converts a duration to microseconds. A duration that is too long is cut to a length that can be added to any instant
/// without overflow.
#[must_use]
pub fn micros(span: Duration) -> Micros {
    Micros::try_from(span.as_micros()).unwrap_or(Micros::MAX / 2)
}

/// An instant in microseconds since 1970-01-01T00:00:00Z.
///
/// Since 1.0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns the instant as a date and time in UTC; `None` outside of the range of years that chrono supports.
    #[must_use]
    pub fn to_datetime(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.0)
    }

    /// Returns the instant as RFC 3339 text in UTC, with microseconds. For an instant that [`Self::to_datetime`] cannot
    /// convert, returns the number of microseconds, followed by ` us`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        self.to_datetime().map_or_else(
            || format!("{} us", self.0),
            |time| time.to_rfc3339_opts(SecondsFormat::Micros, true),
        )
    }

    /// Returns the microseconds from `earlier` to this instant; negative if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Micros {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Micros> for Timestamp {
    type Output = Self;

    fn add(self, span: Micros) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl Sub<Micros> for Timestamp {
    type Output = Self;

    fn sub(self, span: Micros) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

/// An instant of the process's monotonic clock, in microseconds. This clock is never set forward or back. Its values have no
/// meaning in other processes.
///
/// Timers that are not written to the database use this clock, so setting the wall clock neither fires nor delays them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub i64);

impl Monotonic {
    /// An instant that the clock never reaches.
    pub const NEVER: Self = Self(i64::MAX);

    /// Returns the microseconds from `earlier` to this instant; negative if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Micros {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Micros> for Monotonic {
    type Output = Self;

    fn add(self, span: Micros) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.timestamp_micros())
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(micros(after)),
            Err(before) => Self(-micros(before.duration())),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// The source of time. All code receives it as an argument, so tests and the simulation can control the time.
pub trait Clock: Send + Sync {
    /// Returns the current wall-clock time.
    fn now(&self) -> Timestamp;

    /// Returns the current monotonic time. A virtual clock that is never set can return the same value as `now`.
    fn monotonic(&self) -> Monotonic;

    /// Returns the real time that a thread sleeps in order to wake at `due`. On a virtual clock, this can differ from the
    /// time between now and `due`.
    fn until(&self, due: Monotonic) -> Duration {
        Duration::from_micros(u64::try_from(due.since(self.monotonic())).unwrap_or(0))
    }

    /// Returns whether a test advances this clock whenever the runner sleeps. If so, every step must run on the coordinator's
    /// thread.
    fn is_watched(&self) -> bool {
        false
    }
}

/// The wall clock and the monotonic clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// The zero point of the process's monotonic time.
static ORIGIN: OnceLock<Instant> = OnceLock::new();

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Monotonic {
        let since_origin = ORIGIN.get_or_init(Instant::now).elapsed();
        Monotonic(i64::try_from(since_origin.as_micros()).unwrap_or(i64::MAX))
    }
}
