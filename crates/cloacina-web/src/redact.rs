//! Redaction: the values of keys that name a secret become `"•••"`, at every depth of a JSON text. The same holds for the
//! member `value` of an object whose member `key` names a secret, as in a step.
//!
//! The text is read once and never as a tree, so numbers keep their digits, and depth costs no stack.

use std::borrow::Cow;
use std::sync::Arc;

/// The text that replaces a secret.
pub(crate) const MASK: &str = "•••";

/// Parts of keys that name a secret, in lower case and without separators.
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

/// Keys whose text is written by programs for people: secrets in it are masked too.
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

/// Minimum length of a secret value that is searched for in texts, in characters.
const MIN_VALUE: usize = 4;

/// Replaces secrets in JSON texts.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    patterns: Arc<Vec<String>>,
    values: Arc<Vec<String>>,
}

impl Redactor {
    /// A redactor of the default patterns and of further ones.
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

    /// A redactor that also masks, in texts for people, the secret values of some JSON texts.
    pub(crate) fn with_secrets_of<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut values = Vec::new();
        for text in texts {
            Scan::new(text, self).run(Some(&mut values));
        }
        values.sort_unstable_by_key(|value: &String| std::cmp::Reverse(value.len()));
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

    /// Returns a text for people with its secrets replaced: known values, `key=value` with a secret key, and passwords
    /// of URLs.
    pub(crate) fn prose(&self, text: &str) -> String {
        let mut text = mask_urls(&mask_pairs(text, self));
        for value in self.values.iter() {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), MASK);
            }
        }
        text
    }
}

fn normalised(key: &str) -> String {
    (key.chars().filter(|character| character.is_alphanumeric()))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Masks what follows a secret key and `=` or `:`, to the next space or separator.
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
        // "Authorization: Bearer abc": the scheme is not the secret.
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

/// Masks the passwords of URLs: `scheme://user:password@host`.
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

/// A container that is open at a place of a JSON text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    List,
    Object,
    /// An object whose `key` names a secret, so that its `value` is one.
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

    /// Returns the redacted text, or collects the secret values if `secrets` is given.
    fn run(mut self, mut secrets: Option<&mut Vec<String>>) -> String {
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
                            Some(values) => collect_strings(value, values),
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

    /// Whether the string that begins here names a secret. Does not move the position.
    fn names_a_secret(&self) -> bool {
        let mut ahead = Scan { ..*self };
        self.text.as_bytes().get(self.at) == Some(&b'"') && self.redactor.is_secret(&ahead.string())
    }

    /// Reads the string that begins here, without its quotes and escapes.
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

    /// Skips the string that begins here; returns whether it has escapes.
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

    /// Skips the colon after a key.
    fn skip_to_value(&mut self) {
        while let Some(b':' | b' ' | b'\t' | b'\n' | b'\r') = self.text.as_bytes().get(self.at) {
            self.at += 1;
        }
    }

    /// Skips the value that begins here, however deep it is.
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

/// Collects the strings of a JSON value that are long enough to be searched for in texts.
fn collect_strings(value: &str, strings: &mut Vec<String>) {
    let nothing = Redactor::default();
    let mut scan = Scan::new(value, &nothing);
    while let Some(byte) = value.as_bytes().get(scan.at) {
        if *byte == b'"' {
            let text = scan.string();
            if text.chars().count() >= MIN_VALUE {
                strings.push(text.into_owned());
            }
        } else {
            scan.at += 1;
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
    fn value_beside_the_key_of_a_secret_is_redacted() {
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
    fn depth_costs_no_stack() {
        let deep = 200_000;
        let text = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
        assert_eq!(redacted(&text), text);
        let secret = format!(r#"{{"token":{text},"b":1}}"#);
        assert_eq!(redacted(&secret), r#"{"token":"•••","b":1}"#);
    }

    #[test]
    fn errors_are_masked_by_key_and_by_known_value() {
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
