//! The cause of a failure: the first line of its message, in which placeholders replace ids and numbers. Failures with
//! equal causes are counted together.

/// Returns the first line of a message, with ids replaced by `<id>` and numbers by `<n>`. Messages that differ only in
/// these parts, or after the first line, have equal results.
///
/// ```
/// use cloacina::engine::cause_of;
///
/// assert_eq!(cause_of("row 17 of 0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41 is bad"), "row <n> of <id> is bad");
/// ```
#[must_use]
pub fn cause_of(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let mut cause = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let word = word_of(rest);
        if word.is_empty() {
            cause.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        blank(word, &mut cause);
        rest = &rest[word.len()..];
    }
    cause
}

/// Returns the letters, digits, hyphens and underscores at the start of a text.
fn word_of(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '-' && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// Appends a word to the cause, with placeholders for ids and numbers.
fn blank(word: &str, cause: &mut String) {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let is_hex = |c: char| c.is_ascii_hexdigit() || c == '-';
    let is_id = digits > 0
        && word.len() >= 8
        && (word.chars().all(is_hex)
            || (word.len() >= 16 && digits * 4 >= word.len() && word.is_ascii()));
    let is_number = word
        .strip_prefix("0x")
        .is_some_and(|hex| hex.chars().all(is_hex));
    if word.chars().all(|c| c.is_ascii_digit()) || (is_number && digits > 0) {
        cause.push_str("<n>");
    } else if is_id {
        cause.push_str("<id>");
    } else {
        let mut is_in_number = false;
        for c in word.chars() {
            if !c.is_ascii_digit() {
                cause.push(c);
            } else if !is_in_number {
                cause.push_str("<n>");
            }
            is_in_number = c.is_ascii_digit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::cause_of;

    #[test]
    fn cause_has_placeholders_for_numbers_and_ids() {
        for (message, cause) in [
            ("boom 4711", "boom <n>"),
            ("10.0.0.1:5432 refused", "<n>.<n>.<n>.<n>:<n> refused"),
            ("order deadbeef01 is gone", "order <id> is gone"),
            ("key a1b2c3d4e5f6a7b8z9 is gone", "key <id> is gone"),
            ("object at 0x7f3a", "object at <n>"),
            ("table2 has v1", "table<n> has v<n>"),
            ("no digits-here", "no digits-here"),
            ("first\nsecond", "first"),
            ("größer als 3 ☃", "größer als <n> ☃"),
            ("", ""),
        ] {
            assert_eq!(cause_of(message), cause);
        }
    }
}
