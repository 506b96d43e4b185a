//! JSON text split into its parts in one pass: what merging and comparing walk over.

use std::borrow::Cow;

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

use super::json::MAX_JSON_DEPTH;
use super::{Json, JsonShape};

/// The members of an object by their names, escapes replaced.
pub type Members<'a> = IndexMap<Cow<'a, str>, Tree<'a>, FxBuildHasher>;

/// A JSON value whose numbers and strings are still their exact text.
#[derive(Clone, Debug)]
pub enum Tree<'a> {
    /// Anything but an array or an object.
    Scalar(&'a str),
    /// The items of an array.
    Array(Vec<Self>),
    /// The members of an object.
    Object(Box<Members<'a>>),
}

impl<'a> Tree<'a> {
    /// Splits a value. `None` when its text is not compact JSON, or deeper than [`MAX_JSON_DEPTH`].
    #[must_use]
    pub fn of(json: &'a Json) -> Option<Self> {
        let mut reader = Reader {
            text: json.as_str(),
            place: 0,
        };
        let tree = reader.value(0)?;
        (reader.place == reader.text.len()).then_some(tree)
    }

    /// The kind of the value.
    #[must_use]
    pub fn shape(&self) -> JsonShape {
        match self {
            Self::Scalar(text) => JsonShape::of(text),
            Self::Array(_) => JsonShape::Array,
            Self::Object(_) => JsonShape::Object,
        }
    }

    /// Appends the value's text.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Scalar(text) => out.push_str(text),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (key, member)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    super::context::push_key(out, key);
                    member.write(out);
                }
                out.push('}');
            }
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    place: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<Tree<'a>> {
        match self.peek()? {
            b'{' | b'[' if depth == MAX_JSON_DEPTH => None,
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(Tree::Scalar),
            _ => {
                let rest = self.text.get(self.place..)?;
                let length = rest.find([',', ']', '}']).unwrap_or(rest.len());
                self.place += length;
                (length > 0).then(|| Tree::Scalar(&rest[..length]))
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Tree<'a>> {
        let mut items = Vec::new();
        self.place += 1;
        if self.take(b']') {
            return Some(Tree::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.take(b']') {
                return Some(Tree::Array(items));
            }
            self.take(b',').then_some(())?;
        }
    }

    fn object(&mut self, depth: usize) -> Option<Tree<'a>> {
        let mut members = Members::default();
        self.place += 1;
        if self.take(b'}') {
            return Some(Tree::Object(Box::new(members)));
        }
        loop {
            let quoted = self.string()?;
            let key = if quoted.contains('\\') {
                Cow::Owned(serde_json::from_str(quoted).ok()?)
            } else {
                Cow::Borrowed(&quoted[1..quoted.len() - 1])
            };
            self.take(b':').then_some(())?;
            members.insert(key, self.value(depth + 1)?);
            if self.take(b'}') {
                return Some(Tree::Object(Box::new(members)));
            }
            self.take(b',').then_some(())?;
        }
    }

    /// The text of a string with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.place;
        self.take(b'"').then_some(())?;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.place += 2,
                _ => self.place += 1,
            }
        }
        self.place += 1;
        self.text.get(start..self.place)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.place).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.place += usize::from(found);
        found
    }
}
