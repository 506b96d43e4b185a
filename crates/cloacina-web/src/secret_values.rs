//! Finds and masks secret values in texts for people, such as errors and log lines.

use std::cmp::Ordering;
use std::fmt::Write;

use crate::redact::MASK;

/// Minimum length, in characters, of a secret text that is masked. Shorter texts are not masked, because they often occur by
/// chance.
const MIN_TEXT: usize = 4;
/// Minimum length, in characters, of a line of a secret text that is masked when it occurs without the other lines.
const MIN_LINE: usize = 6;
/// Minimum number of digits of a secret number that is masked. Shorter numbers are not masked, because they often occur by
/// chance.
const MIN_DIGITS: usize = 6;

/// A secret value as it may occur in a text. Longer values come first in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretValue {
    text: String,
    /// Whether the value is a number. A number is not masked where it is a part of a longer number.
    is_number: bool,
}

impl Ord for SecretValue {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |value: &Self| (std::cmp::Reverse(value.text.len()), value.is_number);
        key(self)
            .cmp(&key(other))
            .then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for SecretValue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl SecretValue {
    /// Adds the forms in which a secret text may occur: unchanged, and as Python's `repr` and JSON write it. Also adds each
    /// line of the text, because each line of a task's output becomes a separate log line. Adds nothing if the text is too
    /// short.
    pub(crate) fn add_text(text: &str, values: &mut Vec<Self>) {
        if text.chars().count() < MIN_TEXT {
            return;
        }
        let mut add = |text: String| {
            values.push(Self {
                text,
                is_number: false,
            });
        };
        for form in [repr(text), json(text, false), json(text, true)] {
            if form != text {
                add(form);
            }
        }
        if text.contains(['\n', '\r']) {
            let lines = text
                .lines()
                .flat_map(|line| line.split('\r'))
                .map(str::trim);
            let lines = lines.filter(|line| line.chars().count() >= MIN_LINE);
            for line in lines {
                for form in [repr(line), json(line, false), json(line, true)] {
                    add(form);
                }
                add(line.to_owned());
            }
        }
        add(text.to_owned());
    }

    /// Adds a secret number, in its JSON form, unless the number has too few digits.
    pub(crate) fn add_number(number: &str, values: &mut Vec<Self>) {
        let digits = number.bytes().filter(u8::is_ascii_digit).count();
        if digits >= MIN_DIGITS {
            values.push(Self {
                text: number.to_owned(),
                is_number: true,
            });
        }
    }

    /// Returns the text with this value masked; `None` if the text does not contain the value.
    pub(crate) fn masked_in(&self, text: &str) -> Option<String> {
        if !text.contains(&self.text) {
            return None;
        }
        if !self.is_number {
            return Some(text.replace(&self.text, MASK));
        }
        let mut masked = String::with_capacity(text.len());
        let mut copied = 0;
        for (at, _) in text.match_indices(&self.text) {
            let end = at + self.text.len();
            let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
            let bytes = text.as_bytes();
            if is_digit(bytes[..at].last()) || is_digit(bytes.get(end)) {
                continue;
            }
            masked.push_str(&text[copied..at]);
            masked.push_str(MASK);
            copied = end;
        }
        masked.push_str(&text[copied..]);
        Some(masked)
    }
}

/// Returns a text as Python's `repr` writes it, without the quotes around it.
fn repr(text: &str) -> String {
    let escapes_quotes = text.contains('\'') && text.contains('"');
    let mut written = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => written.push_str("\\\\"),
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '\t' => written.push_str("\\t"),
            '\'' if escapes_quotes => written.push_str("\\'"),
            control if control.is_ascii_control() => {
                let _ = write!(written, "\\x{:02x}", u32::from(control));
            }
            other => written.push(other),
        }
    }
    written
}

/// Returns a text as JSON writes it, without the quotes around it. With `is_ascii`, escapes every character that is not ASCII,
/// as Python does by default.
fn json(text: &str, is_ascii: bool) -> String {
    let quoted = serde_json::to_string(text).unwrap_or_default();
    let inner = quoted.get(1..quoted.len().saturating_sub(1));
    let inner = inner.unwrap_or_default();
    if !is_ascii || inner.is_ascii() {
        return inner.to_owned();
    }
    let mut written = String::with_capacity(inner.len());
    for character in inner.chars() {
        if character.is_ascii() {
            written.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(written, "\\u{unit:04x}");
            }
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(secret: &str, text: &str) -> String {
        let mut values = Vec::new();
        SecretValue::add_text(secret, &mut values);
        values.sort();
        values.iter().fold(text.to_owned(), |text, value| {
            value.masked_in(&text).unwrap_or(text)
        })
    }

    #[test]
    fn escaped_forms_of_a_secret_are_masked() {
        let secret = "a\"b'c\\d\té\u{1f511}";
        for text in [
            r#"a\"b'c\\d\té🔑"#,
            r#"a"b\'c\\d\té🔑"#,
            r#"a\"b'c\\d\t\u00e9\ud83d\udd11"#,
            secret,
        ] {
            assert_eq!(masked(secret, &format!("<{text}>")), "<•••>", "{text}");
        }
    }

    #[test]
    fn short_lines_of_a_secret_are_not_masked_alone() {
        let secret = "first line\nend\n";
        assert_eq!(
            masked(secret, "the end of a first line"),
            "the end of a •••"
        );
        assert_eq!(masked(secret, "first line\nend\n"), "•••");
    }
}
