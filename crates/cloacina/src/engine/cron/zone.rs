//! Time zones: finds a zone by name, and the instant of a wall-clock time.

use chrono::{DateTime, Days, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};

use crate::types::{Error, ErrorCode, Timestamp, nearest};

/// Returns the time zone that has this IANA name.
pub(super) fn find(name: &str) -> Result<Tz, Error> {
    if let Ok(zone) = name.parse() {
        return Ok(zone);
    }
    let shown: String = name.chars().take(80).collect();
    let error = Error::new(
        ErrorCode::ScheduleInvalid,
        format!("'{shown}' is not an IANA time zone"),
    );
    let near = similar(name);
    Err(error.with_hint(if near.is_empty() {
        "use a name like 'Europe/Berlin' or 'UTC'".to_owned()
    } else {
        format!("did you mean {}?", near.join(" or "))
    }))
}

/// Returns up to three zone names, in quotes, that equal the given name except for case, have the same last part, or are
/// similar to it.
fn similar(name: &str) -> Vec<String> {
    let wanted = name.trim().to_lowercase().replace(' ', "_");
    if wanted.len() < 3 {
        return Vec::new();
    }
    let wanted_city = wanted.rsplit('/').next().unwrap_or(&wanted);
    let lower: Vec<(String, &str)> = TZ_VARIANTS
        .iter()
        .map(|zone| (zone.name().to_lowercase(), zone.name()))
        .collect();
    let quoted = |name: &str| format!("'{name}'");
    if let Some((_, known)) = lower.iter().find(|(lower, _)| *lower == wanted) {
        return vec![quoted(known)];
    }
    let mut found: Vec<&str> = Vec::new();
    let cities = lower
        .iter()
        .filter(|(lower, _)| lower.rsplit('/').next() == Some(wanted_city));
    found.extend(cities.map(|(_, known)| *known));
    if let Some(near) = nearest(&wanted, lower.iter().map(|(lower, _)| lower.as_str())) {
        found.extend(
            lower
                .iter()
                .filter(|(lower, _)| lower == near)
                .map(|(_, known)| *known),
        );
    }
    // Shorter names would count as similar to names that have nothing in common with them.
    if found.is_empty() && wanted_city.len() >= 5 {
        let city = |lower: &str| lower.rsplit('/').next().map(str::to_owned);
        let cities: Vec<String> = lower.iter().filter_map(|(lower, _)| city(lower)).collect();
        if let Some(near) = nearest(wanted_city, cities.iter().map(String::as_str)) {
            let known = lower
                .iter()
                .filter(|(lower, _)| lower.rsplit('/').next() == Some(near));
            found.extend(known.map(|(_, known)| *known));
        }
    }
    let mut unique: Vec<&str> = Vec::new();
    for name in found {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique.into_iter().take(3).map(quoted).collect()
}

/// F2: returns the first instant at which the clocks of a zone show the given time. If clocks skip this time, returns the end
/// of the gap.
pub(super) fn first_instant(zone: Tz, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&wall) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.with_timezone(&Utc)),
        LocalResult::None => after_gap(zone, wall),
    }
}

/// Returns the first second at which clocks show a later time than `wall`. Clocks must skip the time `wall`.
fn after_gap(zone: Tz, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    let shows_more = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local() > wall;
    // Every offset from UTC is less than two days, so the end of the gap lies between these two instants.
    let mut before = wall.and_utc().checked_sub_days(Days::new(2))?;
    let mut after = wall.and_utc().checked_add_days(Days::new(2))?;
    while after - before > TimeDelta::seconds(1) {
        let middle = before + TimeDelta::seconds((after - before).num_seconds() / 2);
        if shows_more(middle) {
            after = middle;
        } else {
            before = middle;
        }
    }
    Some(after)
}

/// The offset of a zone from UTC at an instant, in seconds.
pub(super) fn offset_seconds(zone: Tz, at: Timestamp) -> i32 {
    at.to_datetime().map_or(0, |at| {
        zone.offset_from_utc_datetime(&at.naive_utc())
            .fix()
            .local_minus_utc()
    })
}
