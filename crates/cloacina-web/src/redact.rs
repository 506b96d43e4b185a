//! Redaction of JSON text: if a key names a secret, its value is replaced with `"•••"`, at every depth. In an object like
//! `{"key": "password", "value": "x"}` (a recorded step), the value of `value` is replaced. In texts for people, such as error
//! messages, only the secrets are masked.
//!
//! The text is scanned once and never parsed into a tree. Therefore numbers keep their digits, and deep nesting needs no stack.

use std::borrow::Cow;
use std::sync::Arc;

use crate::secret_values::SecretValue;

/// The text that replaces a secret.
pub(crate) const MASK: &str = "•••";

/// The default patterns, in lower case and without separators. A key that contains a pattern names a secret.
const PATTERNS: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "authorization",
    "cookie",
    "privatekey",
    "credential",
];

/// Keys whose values are texts for people, like error messages. Secrets inside such a text are masked.
const PROSE: &[&str] = &[
    "message",
    "traceback",
    "error",
    "sentence",
    "detail",
    "hint",
    "reason",
    "skip_reason",
    "last_error",
    "remedy",
];

/// Replaces secrets in JSON texts.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    patterns: Arc<Vec<String>>,
    values: Arc<Vec<SecretValue>>,
}

impl Redactor {
    /// Returns a redactor with the default patterns and the given further patterns.
    pub(crate) fn new(further: &[String]) -> Self {
        let further = further.iter().map(|pattern| normalised(pattern));
        let patterns = (PATTERNS.iter().map(|pattern| (*pattern).to_owned()))
            .chain(further.filter(|pattern| !pattern.is_empty()))
            .collect();
        Self {
            patterns: Arc::new(patterns),
            values: Arc::default(),
        }
    }

    /// Returns a redactor that also knows the secret values in the given JSON texts, and masks them in texts for people.
    pub(crate) fn with_secrets_of<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut values = Vec::new();
        for text in texts {
            Scan::new(text, self).run(Some(&mut values));
        }
        // A longer value is masked before its parts.
        values.sort_unstable();
        values.dedup();
        Self {
            patterns: Arc::clone(&self.patterns),
            values: Arc::new(values),
        }
    }

    /// Whether a key names a secret.
    pub(crate) fn is_secret(&self, key: &str) -> bool {
        let key = normalised(key);
        self.patterns
            .iter()
            .any(|pattern| key.contains(pattern.as_str()))
    }

    /// Returns a valid JSON text with its secrets replaced.
    pub(crate) fn json(&self, text: &str) -> String {
        Scan::new(text, self).run(None)
    }

    /// Returns a text for people with its secrets replaced: known secret values, the value in `key=value` if the key names a
    /// secret, and passwords in URLs.
    pub(crate) fn prose(&self, text: &str) -> String {
        // Known values come first: a secret of several words would no longer match after its first word was masked.
        let mut text = Cow::Borrowed(text);
        for value in self.values.iter() {
            if let Some(masked) = value.masked_in(&text) {
                text = Cow::Owned(masked);
            }
        }
        mask_urls(&mask_pairs(&text, self))
    }
}

fn normalised(key: &str) -> String {
    (key.chars().filter(|character| character.is_alphanumeric()))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Masks the value in `key=value` and `key: value` if the key names a secret. A value ends at the next space or separator.
fn mask_pairs(text: &str, redactor: &Redactor) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = rest.split_at(at);
        masked.push_str(before);
        masked.push_str(&after[..1]);
        rest = &after[1..];
        let is_word = |character: char| character.is_alphanumeric() || "_-'\"".contains(character);
        let word = before
            .trim_end()
            .rsplit(|character| !is_word(character))
            .next();
        if !word.is_some_and(|word| redactor.is_secret(word)) || rest.starts_with("//") {
            continue;
        }
        let value = rest.trim_start_matches([' ', '\'', '"']);
        masked.push_str(&rest[..rest.len() - value.len()]);
        // In "Authorization: Bearer abc", the scheme "Bearer" is not secret.
        let value = match value.split_once(' ') {
            Some((scheme, credentials))
                if ["bearer", "basic", "token"].contains(&scheme.to_lowercase().as_str()) =>
            {
                masked.push_str(scheme);
                masked.push(' ');
                credentials
            }
            _ => value,
        };
        let ends = |character: char| character.is_whitespace() || "'\",;&)}]".contains(character);
        let end = value.find(ends).unwrap_or(value.len());
        if end > 0 {
            masked.push_str(MASK);
        }
        rest = &value[end..];
    }
    masked.push_str(rest);
    masked
}

/// Masks passwords in URLs like `scheme://user:password@host`.
fn mask_urls(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        masked.push_str(before);
        let ends = |character: char| character.is_whitespace() || "/?#'\"".contains(character);
        let (authority, tail) = after.split_at(after.find(ends).unwrap_or(after.len()));
        match authority.rsplit_once('@') {
            Some((user, host)) if user.contains(':') => {
                let name = user.split(':').next().unwrap_or_default();
                masked.push_str(name);
                masked.push(':');
                masked.push_str(MASK);
                masked.push('@');
                masked.push_str(host);
            }
            _ => masked.push_str(authority),
        }
        rest = tail;
    }
    masked.push_str(rest);
    masked
}

/// The kind of an object or list that encloses the current position of a scan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    List,
    Object,
    /// An object whose member `key` names a secret, so its member `value` is secret.
    SecretPair,
}

/// One pass over a JSON text.
struct Scan<'a> {
    text: &'a str,
    at: usize,
    redactor: &'a Redactor,
}

impl<'a> Scan<'a> {
    const fn new(text: &'a str, redactor: &'a Redactor) -> Self {
        Self {
            text,
            at: 0,
            redactor,
        }
    }

    /// Returns the redacted text. If `secrets` is given, instead adds the text's secret values to `secrets`, and returns the
    /// text unchanged.
    fn run(mut self, mut secrets: Option<&mut Vec<SecretValue>>) -> String {
        let mut written = String::with_capacity(self.text.len());
        let mut open: Vec<Container> = Vec::new();
        let mut expects_key = false;
        let mut copied = 0;
        let mut prose = false;
        while let Some(byte) = self.text.as_bytes().get(self.at).copied() {
            match byte {
                b'{' => {
                    open.push(Container::Object);
                    expects_key = true;
                    self.at += 1;
                }
                b'[' => {
                    open.push(Container::List);
                    expects_key = false;
                    self.at += 1;
                }
                b'}' | b']' => {
                    open.pop();
                    expects_key = false;
                    prose = false;
                    self.at += 1;
                }
                b',' => {
                    expects_key = open.last().is_some_and(|last| *last != Container::List);
                    self.at += 1;
                }
                b'"' if expects_key => {
                    let key = self.string();
                    expects_key = false;
                    self.skip_to_value();
                    prose = PROSE.contains(&&*key);
                    if key == "key" && self.names_a_secret() {
                        open.pop();
                        open.push(Container::SecretPair);
                    }
                    let is_of_pair = key == "value" && open.last() == Some(&Container::SecretPair);
                    if is_of_pair || self.redactor.is_secret(&key) {
                        let start = self.at;
                        self.skip_value();
                        let value = &self.text[start..self.at];
                        match &mut secrets {
                            Some(values) => collect_values(value, values),
                            // `null` is not a secret.
                            None if value != "null" => {
                                written.push_str(&self.text[copied..start]);
                                written.push('"');
                                written.push_str(MASK);
                                written.push('"');
                                copied = self.at;
                            }
                            None => {}
                        }
                    }
                }
                b'"' => {
                    let start = self.at;
                    let value = self.string();
                    if secrets.is_none() && prose {
                        let masked = self.redactor.prose(&value);
                        if masked != *value {
                            written.push_str(&self.text[copied..start]);
                            // Writing a string to JSON cannot fail.
                            written.push_str(&serde_json::to_string(&masked).unwrap_or_default());
                            copied = self.at;
                        }
                    }
                }
                _ => self.at += 1,
            }
        }
        written.push_str(&self.text[copied..]);
        written
    }

    /// Whether the string at the current position names a secret. Does not move the position.
    fn names_a_secret(&self) -> bool {
        let mut ahead = Scan { ..*self };
        self.text.as_bytes().get(self.at) == Some(&b'"') && self.redactor.is_secret(&ahead.string())
    }

    /// Reads the string at the current position. Removes the quotes, and replaces the escapes.
    fn string(&mut self) -> Cow<'a, str> {
        let start = self.at;
        let is_escaped = self.skip_string();
        let quoted = &self.text[start..self.at];
        if is_escaped {
            serde_json::from_str(quoted).map_or(Cow::Borrowed(quoted), Cow::Owned)
        } else {
            Cow::Borrowed(quoted.trim_matches('"'))
        }
    }

    /// Skips the string at the current position; returns whether it has escapes.
    fn skip_string(&mut self) -> bool {
        let mut is_escaped = false;
        self.at += 1;
        while let Some(byte) = self.text.as_bytes().get(self.at) {
            match byte {
                b'"' => {
                    self.at += 1;
                    break;
                }
                b'\\' => {
                    is_escaped = true;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        self.at = self.at.min(self.text.len());
        is_escaped
    }

    /// Skips the colon and the whitespace after a key.
    fn skip_to_value(&mut self) {
        while let Some(b':' | b' ' | b'\t' | b'\n' | b'\r') = self.text.as_bytes().get(self.at) {
            self.at += 1;
        }
    }

    /// Skips the value at the current position, at any depth of nesting.
    fn skip_value(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.text.as_bytes().get(self.at).copied() {
            match byte {
                b'"' => {
                    self.skip_string();
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b'}' | b']' if depth == 0 => return,
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => {
                    self.at += 1;
                    continue;
                }
                _ => {
                    let rest = &self.text.as_bytes()[self.at..];
                    let ends = |byte: &u8| b",:{}[] \t\r\n\"".contains(byte);
                    self.at += rest.iter().position(ends).unwrap_or(rest.len()).max(1);
                }
            }
            if depth == 0 {
                return;
            }
        }
    }
}

/// Collects the strings and numbers in a JSON value that are long enough to be searched for in texts.
fn collect_values(value: &str, found: &mut Vec<SecretValue>) {
    let nothing = Redactor::default();
    let mut scan = Scan::new(value, &nothing);
    while let Some(byte) = value.as_bytes().get(scan.at) {
        match byte {
            b'"' => SecretValue::add_text(&scan.string(), found),
            b'-' | b'0'..=b'9' => {
                let start = scan.at;
                scan.skip_value();
                SecretValue::add_number(&value[start..scan.at], found);
            }
            _ => scan.at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(text: &str) -> String {
        Redactor::new(&[]).json(text)
    }

    #[test]
    fn secret_keys_are_redacted_at_every_depth() {
        let text =
            r#"{"a":[{"db":{"PassWord":"x","n":1.50}}],"api-key":{"deep":[1,{"b":2}]},"z":1e400}"#;
        let expected = r#"{"a":[{"db":{"PassWord":"•••","n":1.50}}],"api-key":"•••","z":1e400}"#;
        assert_eq!(redacted(text), expected);
    }

    #[test]
    fn escaped_key_does_not_hide_a_secret() {
        let text = r#"{"pass\u0077ord":"x\"y","to\u006ben":null}"#;
        assert_eq!(
            redacted(text),
            r#"{"pass\u0077ord":"•••","to\u006ben":null}"#
        );
    }

    #[test]
    fn value_that_looks_like_a_secret_key_is_kept() {
        let text = r#"{"name":"password","list":["token", "secret"]}"#;
        assert_eq!(redacted(text), text);
    }

    #[test]
    fn value_member_is_redacted_if_the_key_member_names_a_secret() {
        let text = r#"[{"key":"db_password","position":0,"value":{"a":1},"n":2},{"value":3,"key":"total"},{"key":"a","value":4}]"#;
        let expected = r#"[{"key":"db_password","position":0,"value":"•••","n":2},{"value":3,"key":"total"},{"key":"a","value":4}]"#;
        assert_eq!(redacted(text), expected);
        let nested = r#"{"key":"token","data":{"value":1},"value":2}"#;
        assert_eq!(
            redacted(nested),
            r#"{"key":"token","data":{"value":1},"value":"•••"}"#
        );
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        let deep = 200_000;
        let text = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
        assert_eq!(redacted(&text), text);
        let secret = format!(r#"{{"token":{text},"b":1}}"#);
        assert_eq!(redacted(&secret), r#"{"token":"•••","b":1}"#);
    }

    #[test]
    fn secret_numbers_and_single_lines_of_secrets_are_masked() {
        let input = r#"{"private_key":"-----BEGIN KEY-----\nMIIEvQIBADANBg\nab=\n","api_key":1234567890123,
            "tokens":[{"pin":654321,"short":12345}]}"#;
        let known = Redactor::new(&[]).with_secrets_of([input]);
        for (text, expected) in [
            ("-----BEGIN KEY-----", "•••"),
            ("key MIIEvQIBADANBg!", "key •••!"),
            ("pin 1234567890123", "pin •••"),
            ("private_key: -----BEGIN KEY-----", "private_key: •••"),
            ("654321 of 12345", "••• of 12345"),
            ("at 1654321 and 654321.5", "at 1654321 and •••.5"),
            // Python's repr and JSON escape the line breaks.
            (
                r"got '-----BEGIN KEY-----\nMIIEvQIBADANBg\nab=\n'",
                "got '•••'",
            ),
        ] {
            assert_eq!(known.prose(text), expected);
        }
    }

    #[test]
    fn secrets_in_messages_are_masked_by_key_and_by_known_value() {
        let redactor = Redactor::new(&["pin".to_owned()]);
        let known = redactor.with_secrets_of([r#"{"my_pin":"9876-x","token":"abc"}"#]);
        let text = r#"{"message":"9876-x refused, password=hunter2; Authorization: Bearer abc.def","id":"9876-x"}"#;
        let expected =
            r#"{"message":"••• refused, password=•••; Authorization: Bearer •••","id":"9876-x"}"#;
        assert_eq!(known.json(text), expected);
        let text = r#"{"message":"cannot reach postgres://ann:pw@db:5432/x: timed out"}"#;
        let expected = r#"{"message":"cannot reach postgres://ann:•••@db:5432/x: timed out"}"#;
        assert_eq!(redacted(text), expected);
    }
}
