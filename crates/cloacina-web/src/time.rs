//! Times in requests: RFC 3339 text, or a span before now.

use chrono::DateTime;
use cloacina::Timestamp;

/// Parses a time or a span before `now`; returns `None` if the text is neither.
pub(crate) fn parse(text: &str, now: Timestamp) -> Option<Timestamp> {
    match span(text) {
        Some(span) => Some(now - span),
        None => instant(text),
    }
}

/// Parses RFC 3339 text; returns `None` if the text is not such a time.
pub(crate) fn instant(text: &str) -> Option<Timestamp> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    Some(Timestamp(time.timestamp_micros()))
}

/// Parses a span like `90s`, `30m`, `24h` or `7d`. Returns its length in microseconds; `None` if the text is not a span.
pub(crate) fn span(text: &str) -> Option<i64> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || digits.len() > 6 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: i64 = digits.parse().ok()?;
    Some(count * unit * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_rfc_3339_or_a_span_before_now() {
        let now = Timestamp(10_000_000_000);
        assert_eq!(parse("90s", now), Some(Timestamp(9_910_000_000)));
        let zoned = parse("1970-01-01T01:00:00.000001+01:00", now);
        assert_eq!(zoned, Some(Timestamp(1)));
        for text in ["", "s", "-1s", "1w", "yesterday", "9999999s", "é"] {
            assert_eq!(parse(text, now), None, "{text}");
        }
    }
}
