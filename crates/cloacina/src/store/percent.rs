//! Decodes percent-encoding in database URLs.

/// Decodes percent-encoding. Returns `None` if a `%` is not followed by two hexadecimal digits, or encodes a NUL
/// character.
pub(super) fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) || digits == "00" {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::percent_decoded;

    #[test]
    fn percent_sequence_requires_two_hex_digits_and_no_nul() {
        assert_eq!(percent_decoded("a%2Fb%c3%a4"), Some("a/bä".into()));
        for wrong in ["%", "%2", "%zz", "%+1", "%00", "100%"] {
            assert_eq!(percent_decoded(wrong), None, "{wrong}");
        }
    }
}
