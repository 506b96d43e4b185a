//! Splits constant SQL statements at their placeholders.

/// Splits `text` at its `?` placeholders into `N` pieces. The function is evaluated at compile
/// time. A call fails to compile if the number of pieces is not `N`.
pub(super) const fn pieces<const N: usize>(text: &'static str) -> [&'static str; N] {
    let bytes = text.as_bytes();
    let mut pieces = [""; N];
    let (mut piece, mut start, mut at) = (0, 0, 0);
    while at <= bytes.len() {
        if at == bytes.len() || bytes[at] == b'?' {
            assert!(piece < N, "more placeholders than fields");
            pieces[piece] = text.split_at(at).0.split_at(start).1;
            piece += 1;
            start = at + 1;
        }
        at += 1;
    }
    assert!(piece == N, "fewer placeholders than fields");
    pieces
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn text_is_split_at_its_placeholders() {
        assert_eq!(pieces::<1>("COMMIT"), ["COMMIT"]);
        assert_eq!(pieces::<3>("SELECT ?, ?"), ["SELECT ", ", ", ""]);
    }
}
