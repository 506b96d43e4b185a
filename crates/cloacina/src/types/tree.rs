//! Parses JSON text into a tree, for merging and comparing values.

use std::borrow::Cow;

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

use super::json::MAX_JSON_DEPTH;
use super::{Json, JsonShape};

/// The members of an object by name, with escapes decoded.
pub type Members<'a> = IndexMap<Cow<'a, str>, Tree<'a>, FxBuildHasher>;

/// A JSON value whose numbers and strings keep their exact text.
#[derive(Clone, Debug)]
pub enum Tree<'a> {
    /// A value that is neither an array nor an object.
    Scalar(&'a str),
    /// The items of an array.
    Array(Vec<Self>),
    /// The members of an object.
    Object(Box<Members<'a>>),
}

impl<'a> Tree<'a> {
    /// Parses a value, whose text must be valid and compact JSON: scalars are not checked. Returns `None` if the structure
    /// of the text is broken, or if the value is nested deeper than [`MAX_JSON_DEPTH`].
    #[must_use]
    pub fn of(json: &'a Json) -> Option<Self> {
        let mut parser = Parser {
            text: json.as_str(),
            position: 0,
        };
        let tree = parser.value(0)?;
        (parser.position == parser.text.len()).then_some(tree)
    }

    /// Returns the type of the value.
    #[must_use]
    pub fn shape(&self) -> JsonShape {
        match self {
            Self::Scalar(text) => JsonShape::of(text),
            Self::Array(_) => JsonShape::Array,
            Self::Object(_) => JsonShape::Object,
        }
    }

    /// Appends the value's JSON text.
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

struct Parser<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Option<Tree<'a>> {
        match self.peek()? {
            b'{' | b'[' if depth == MAX_JSON_DEPTH => None,
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(Tree::Scalar),
            _ => {
                let rest = self.text.get(self.position..)?;
                let length = rest.find([',', ']', '}']).unwrap_or(rest.len());
                self.position += length;
                (length > 0).then(|| Tree::Scalar(&rest[..length]))
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Tree<'a>> {
        let mut items = Vec::new();
        self.position += 1;
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
        self.position += 1;
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

    /// Parses a string, and returns its text including the quotes.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.position;
        self.take(b'"').then_some(())?;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.position += 2,
                _ => self.position += 1,
            }
        }
        self.position += 1;
        self.text.get(start..self.position)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.position += usize::from(found);
        found
    }
}
