//! Indents JSON text for people.
//!
//! The text is copied token by token and never parsed into values. Therefore numbers keep their digits, keys keep their order,
//! and deep nesting needs no stack.

/// Maximum depth of an indented object or list. A deeper object or list stays on one line, because its indentation would be
/// much larger than its text.
const MAX_DEPTH: usize = 64;

/// Returns a valid JSON text with each member and each item on a line of its own.
pub(crate) fn indented(text: &str) -> String {
    let mut written = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    // Whether no member or item of the innermost open object or list has been written yet.
    let mut is_empty = false;
    let mut rest = text.trim_start();
    while let Some(byte) = rest.bytes().next() {
        let closes = matches!(byte, b'}' | b']');
        if closes {
            if !is_empty {
                break_line(&mut written, depth, depth.saturating_sub(1));
            }
            depth = depth.saturating_sub(1);
        } else if is_empty {
            break_line(&mut written, depth, depth);
        }
        is_empty = matches!(byte, b'{' | b'[');
        let end = match byte {
            b'"' => end_of_string(rest),
            b'{' | b'[' | b'}' | b']' | b',' | b':' => 1,
            _ => {
                let ends = |character: char| ",:{}[]\" \t\n\r".contains(character);
                rest.find(ends).unwrap_or(rest.len()).max(1)
            }
        };
        let (part, after) = rest.split_at(end);
        written.push_str(part);
        match byte {
            b'{' | b'[' => depth += 1,
            b',' => break_line(&mut written, depth, depth),
            b':' => written.push(' '),
            _ => {}
        }
        rest = after.trim_start_matches([' ', '\t', '\n', '\r']);
    }
    written
}

/// Begins a new line, indented by `indent` levels, in an object or list at `depth`.
fn break_line(written: &mut String, depth: usize, indent: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    written.push('\n');
    written.extend(std::iter::repeat_n("  ", indent));
}

/// Returns the length of the string at the start of the text, with its quotes.
fn end_of_string(text: &str) -> usize {
    let mut is_escaped = false;
    let ends = |byte: u8| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    };
    let last = text.bytes().skip(1).position(ends);
    last.map_or(text.len(), |last| last + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits_and_keys_their_order() {
        let text =
            r#"{"z":12345678901234567890123,"a":1.50,"m":[1e400,-0.0,true,null],"o":{},"l":[]}"#;
        let expected = r#"{
  "z": 12345678901234567890123,
  "a": 1.50,
  "m": [
    1e400,
    -0.0,
    true,
    null
  ],
  "o": {},
  "l": []
}"#;
        assert_eq!(indented(text), expected);
        assert_eq!(indented(expected), expected);
    }

    #[test]
    fn strings_with_braces_and_escapes_are_copied_unchanged() {
        let text = r#"{"a{\"}":"[1, {\\","b\\":["\u007b,:","• é"]}"#;
        let expected = "{\n  \"a{\\\"}\": \"[1, {\\\\\",\n  \"b\\\\\": [\n    \"\\u007b,:\",\n    \"• é\"\n  ]\n}";
        assert_eq!(indented(text), expected);
    }

    #[test]
    fn whitespace_between_values_is_replaced() {
        assert_eq!(
            indented(" [ 1 ,\n{ } , \"a b\" ]\n"),
            "[\n  1,\n  {},\n  \"a b\"\n]"
        );
    }

    #[test]
    fn values_deeper_than_the_limit_are_not_indented() {
        let flat = |text: &str| text.replace(['\n', ' '], "");
        for deep in [300, 200_000] {
            let text = format!("{}1.50,{{\"a\":2}}{}", "[".repeat(deep), "]".repeat(deep));
            let shown = indented(&text);
            assert_eq!(flat(&shown), text, "{deep}");
            assert!(shown.len() < text.len() + 10_000, "{}", shown.len());
        }
    }
}
