//! F1: the grammar of cron expressions, and the errors for invalid expressions.
//!
//! The grammar contains only expressions that croner, croniter and a reader of the documentation understand in the same way.
//! Other expressions are refused with the position of the error. Names are replaced by numbers here, because croner would
//! replace a name wherever its text occurs.

use crate::types::{Error, ErrorCode};

/// The name, range and words of a field.
struct Field {
    name: &'static str,
    min: u16,
    max: u16,
    words: &'static [&'static str],
    /// The number of the first word: 0 for `SUN`, 1 for `JAN`.
    first: u16,
}

const MONTHS: &[&str] = &[
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEKDAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const DAY: usize = 3;
const WEEKDAY: usize = 5;

const FIELDS: [Field; 6] = [
    plain("second", 0, 59),
    plain("minute", 0, 59),
    plain("hour", 0, 23),
    plain("day of month", 1, 31),
    Field {
        name: "month",
        min: 1,
        max: 12,
        words: MONTHS,
        first: 1,
    },
    Field {
        name: "day of week",
        min: 0,
        max: 7,
        words: WEEKDAYS,
        first: 0,
    },
];

const NICKNAMES: [(&str, &str); 6] = [
    ("@hourly", "0 0 * * * *"),
    ("@daily", "0 0 0 * * *"),
    ("@weekly", "0 0 0 * * 0"),
    ("@monthly", "0 0 0 1 * *"),
    ("@yearly", "0 0 0 1 1 *"),
    ("@annually", "0 0 0 1 1 *"),
];

const fn plain(name: &'static str, min: u16, max: u16) -> Field {
    Field {
        name,
        min,
        max,
        words: &[],
        first: 0,
    }
}

/// A valid expression.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    /// The expression as six fields, with numbers instead of names.
    pub(super) pattern: String,
    /// Whether the minutes or hours have a wildcard or a step. The schedule then follows elapsed time (F2).
    pub(super) is_interval: bool,
}

/// The content of a field.
#[derive(Default)]
struct Content {
    /// The items of the field, with numbers instead of names.
    normal: Vec<String>,
    /// The set of numbers that are given without `L` or `#`: one bit for each number. Sunday is 0.
    numbers: u64,
    /// Whether an item has a `#`, as in `MON#1`.
    has_nth: bool,
    /// Whether an item has no `#`.
    has_plain: bool,
}

/// A location in an expression.
struct Location<'a> {
    expression: &'a str,
    field: &'a Field,
    /// The position in characters, counted from 1.
    position: usize,
}

impl Location<'_> {
    fn fault(&self, expected: &str, found: &str) -> Error {
        let found: String = found.chars().take(40).collect();
        Error::new(
            ErrorCode::ScheduleInvalid,
            format!(
                "cron expression '{}' is not valid at position {}: in the field {}, expected {expected}, found '{found}'",
                shown(self.expression),
                self.position,
                self.field.name
            ),
        )
    }

    fn shifted(&self, by: usize) -> Self {
        Self {
            position: self.position + by,
            ..*self
        }
    }
}

/// Parses an expression.
pub(super) fn parse(expression: &str) -> Result<Parsed, Error> {
    if let Some(position) = expression
        .trim()
        .strip_prefix('@')
        .map(|_| start_of(expression))
    {
        return nickname(expression, position);
    }
    let words = split(expression);
    let fields: &[Field] = match words.len() {
        5 => &FIELDS[1..],
        6 => &FIELDS,
        count => return Err(wrong_count(expression, &words, count)),
    };
    let mut contents = Vec::with_capacity(6);
    if words.len() == 5 {
        contents.push(Content {
            normal: vec!["0".to_owned()],
            numbers: 1,
            ..Content::default()
        });
    }
    for ((position, word), field) in words.iter().zip(fields) {
        let location = Location {
            expression,
            field,
            position: *position,
        };
        contents.push(read_field(&location, word)?);
    }
    let offset = 6 - words.len();
    check_days(expression, &words, offset, &contents)?;
    let text = |index: usize| {
        words
            .get(index.wrapping_sub(offset))
            .map_or("0", |(_, word)| word)
    };
    let is_interval = [1, 2].iter().any(|index| text(*index).contains(['*', '/']));
    let pattern: Vec<String> = contents
        .iter()
        .map(|content| content.normal.join(","))
        .collect();
    Ok(Parsed {
        pattern: pattern.join(" "),
        is_interval,
    })
}

fn shown(expression: &str) -> String {
    let mut shown: String = expression.chars().take(100).collect();
    if shown.len() < expression.len() {
        shown.push('…');
    }
    shown
}

fn start_of(expression: &str) -> usize {
    expression
        .chars()
        .take_while(char::is_ascii_whitespace)
        .count()
        + 1
}

fn nickname(expression: &str, position: usize) -> Result<Parsed, Error> {
    let name = expression.trim().to_ascii_lowercase();
    if let Some((_, pattern)) = NICKNAMES.iter().find(|(known, _)| *known == name) {
        return Ok(Parsed {
            pattern: (*pattern).to_owned(),
            is_interval: name == "@hourly",
        });
    }
    let known: Vec<&str> = NICKNAMES.iter().map(|(known, _)| *known).collect();
    Err(Error::new(
        ErrorCode::ScheduleInvalid,
        format!(
            "cron expression '{}' is not valid at position {position}: expected one of {}, found '{}'",
            shown(expression),
            known.join(", "),
            shown(&name)
        ),
    ))
}

/// Returns the words, each with its position in characters, counted from 1.
fn split(expression: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut begun: Option<(usize, usize)> = None;
    for (position, (at, character)) in expression.char_indices().enumerate() {
        match (character.is_ascii_whitespace(), begun) {
            (true, Some((start, from))) => {
                words.push((start, &expression[from..at]));
                begun = None;
            }
            (false, None) => begun = Some((position + 1, at)),
            _ => {}
        }
    }
    if let Some((start, from)) = begun {
        words.push((start, &expression[from..]));
    }
    words
}

fn wrong_count(expression: &str, words: &[(usize, &str)], count: usize) -> Error {
    let position = if count > 6 {
        words[6].0
    } else {
        expression.trim_end().chars().count() + 1
    };
    let found = match count {
        0 => "nothing".to_owned(),
        1 => "1 field".to_owned(),
        more => format!("{more} fields"),
    };
    Error::new(
        ErrorCode::ScheduleInvalid,
        format!(
            "cron expression '{}' is not valid at position {position}: expected 5 fields, or 6 with seconds first, \
             found {found}",
            shown(expression)
        ),
    )
    .with_hint(
        "the fields are minute hour day-of-month month day-of-week, for example '30 9 * * MON-FRI'",
    )
}

fn read_field(location: &Location<'_>, word: &str) -> Result<Content, Error> {
    let mut content = Content::default();
    if word == "*" {
        content.normal.push("*".to_owned());
        return Ok(content);
    }
    let mut at = 0;
    for item in word.split(',') {
        read_item(&location.shifted(at), item, &mut content)?;
        at += item.chars().count() + 1;
    }
    if content.has_nth && content.has_plain {
        return Err(location.fault(
            "either plain weekdays or nth weekdays like 'MON#1', not both",
            word,
        ));
    }
    Ok(content)
}

fn read_item(location: &Location<'_>, item: &str, content: &mut Content) -> Result<(), Error> {
    let field = location.field;
    let value = expected_value(field);
    if item.is_empty() {
        return Err(location.fault(&value, ""));
    }
    if item.eq_ignore_ascii_case("L") {
        if field.name != FIELDS[DAY].name {
            return Err(location
                .fault(&value, item)
                .with_hint("L, the last day, is for the day of month only"));
        }
        content.normal.push("L".to_owned());
        content.has_plain = true;
        return Ok(());
    }
    if let Some((day, nth)) = item.split_once('#') {
        return read_nth(location, item, day, nth, content);
    }
    content.has_plain = true;
    let (range, step) = match item.split_once('/') {
        None => (item, None),
        Some((range, step)) => {
            let at = location.shifted(range.chars().count() + 1);
            (range, Some(read_step(&at, step)?))
        }
    };
    let (first, last) = if range == "*" {
        if step.is_none() {
            return Err(location.fault("'*' alone, or a list without it", item));
        }
        (field.min, if field.max == 7 { 6 } else { field.max })
    } else if let Some((first, last)) = range.split_once('-') {
        read_range(location, range, first, last)?
    } else {
        let number = read_value(location, range)?;
        if let Some(step) = step {
            return Err(location
                .fault(&format!("'*/{step}' or a range before the step"), item)
                .with_hint(format!("write '{number}-{}/{step}'", field.max)));
        }
        (number, number)
    };
    let every = step.unwrap_or(1);
    let mut number = first;
    while number <= last {
        content.numbers |= 1 << if field.max == 7 { number % 7 } else { number };
        match number.checked_add(every) {
            Some(next) => number = next,
            None => break,
        }
    }
    let range = if range == "*" {
        "*".to_owned()
    } else if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    };
    content.normal.push(match step {
        None => range,
        Some(step) => format!("{range}/{step}"),
    });
    Ok(())
}

fn expected_value(field: &Field) -> String {
    let words = match (field.words.first(), field.words.last()) {
        (Some(first), Some(last)) => format!(" or a name from {first} to {last}"),
        _ => String::new(),
    };
    format!("a number from {} to {}{words}", field.min, field.max)
}

fn read_value(location: &Location<'_>, text: &str) -> Result<u16, Error> {
    let field = location.field;
    let upper = text.to_ascii_uppercase();
    if let Some(index) = field.words.iter().position(|word| *word == upper) {
        return Ok(field.first + u16::try_from(index).unwrap_or(0));
    }
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if is_number {
        text.parse::<u16>().ok()
    } else {
        None
    };
    number
        .filter(|number| (field.min..=field.max).contains(number))
        .ok_or_else(|| location.fault(&expected_value(field), text))
}

fn read_range(
    location: &Location<'_>,
    range: &str,
    first: &str,
    last: &str,
) -> Result<(u16, u16), Error> {
    let start = read_value(location, first)?;
    let end_location = location.shifted(first.chars().count() + 1);
    let mut end = read_value(&end_location, last)?;
    // `SUN` as the end of a range means the day after Saturday.
    if location.field.max == 7 && last.eq_ignore_ascii_case("SUN") {
        end = 7;
    }
    if start == end {
        return Err(location
            .fault("a range that ends after its start", range)
            .with_hint(format!(
                "write '{start}' for that value alone, or '*' for all"
            )));
    }
    if start > end {
        return Err(location
            .fault("a range that ends after its start", range)
            .with_hint("write two ranges, like '22-23,0-2'"));
    }
    Ok((start, end))
}

fn read_step(location: &Location<'_>, step: &str) -> Result<u16, Error> {
    let is_number = !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
    let number = if is_number {
        step.parse::<u16>().ok()
    } else {
        None
    };
    number
        .filter(|number| (1..=9999).contains(number))
        .ok_or_else(|| location.fault("a step from 1 to 9999", step))
}

fn read_nth(
    location: &Location<'_>,
    item: &str,
    day: &str,
    nth: &str,
    content: &mut Content,
) -> Result<(), Error> {
    if location.field.name != FIELDS[WEEKDAY].name {
        return Err(location
            .fault(&expected_value(location.field), item)
            .with_hint("'#' is for the day of week only, as in 'MON#1'"));
    }
    let weekday = read_value(location, day)?;
    let at = location.shifted(day.chars().count() + 1);
    let number = nth
        .parse::<u16>()
        .ok()
        .filter(|number| nth.len() == 1 && (1..=5).contains(number));
    let Some(number) = number else {
        return Err(at.fault("the number of the weekday in the month, from 1 to 5", nth));
    };
    content.has_nth = true;
    content.normal.push(format!("{weekday}#{number}"));
    Ok(())
}

/// Refuses combinations of the two day fields that cron implementations interpret differently.
fn check_days(
    expression: &str,
    words: &[(usize, &str)],
    offset: usize,
    contents: &[Content],
) -> Result<(), Error> {
    let (day_position, day) = words[DAY - offset];
    let (weekday_position, weekday) = words[WEEKDAY - offset];
    if day == "*" || weekday == "*" {
        return Ok(());
    }
    let location = |field: usize, position| Location {
        expression,
        field: &FIELDS[field],
        position,
    };
    if contents[WEEKDAY].has_nth {
        return Err(location(WEEKDAY, weekday_position)
            .fault("'*' or plain weekdays next to a day of month", weekday)
            .with_hint("use two schedules: one for the day of month, one for the nth weekday"));
    }
    let all_days = ((1_u64 << 31) - 1) << 1;
    if contents[DAY].numbers == all_days && weekday.contains('*') {
        return Err(location(DAY, day_position).fault("'*' for every day", day));
    }
    if contents[WEEKDAY].numbers == 0b111_1111 && day.contains('*') {
        return Err(location(WEEKDAY, weekday_position).fault("'*' for every day", weekday));
    }
    Ok(())
}
