//! The query of a URL. A query that contains a parameter that the route does not declare is refused.

use cloacina::Timestamp;

use crate::operation::{Parameter, ParameterKind};
use crate::problem::Problem;

/// The query parameters of one request. The route declares all of them.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    /// The path of the list that the query is for. A cursor of another list is refused.
    path: String,
}

/// Maximum number of parameters of one request.
const MAX_PARAMETERS: usize = 200;

impl Query {
    /// Parses the query of a URL.
    pub(crate) fn parse(text: &str, known: &[Parameter]) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            if pairs.len() == MAX_PARAMETERS {
                let detail = format!("the query has more than {MAX_PARAMETERS} parameters");
                return Err(Problem::new("bad_request", detail));
            }
            if value.contains('\0') || value.contains('\u{fffd}') {
                return Err(Problem::invalid(
                    shown(&name),
                    "the value contains a NUL character or is not valid UTF-8",
                ));
            }
            let Some(parameter) = known.iter().find(|known| known.matches(&name)) else {
                return Err(unknown(&name, known));
            };
            if let ParameterKind::Words(words) = parameter.kind
                && !words.contains(&&*value)
            {
                let detail = format!("'{}' is not one of {}", shown(&value), words.join(", "));
                return Err(Problem::invalid(shown(&name), detail));
            }
            let is_repeated = pairs.iter().any(|(other, _)| *other == *name);
            if is_repeated && !parameter.is_repeated {
                return Err(Problem::invalid(
                    shown(&name),
                    "the parameter may be given only once",
                ));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self {
            pairs,
            path: String::new(),
        })
    }

    /// Sets the path of the list that the query is for.
    pub(crate) fn of_path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Converts the members of the `filter` of a body to query parameters. A list is a parameter with several values. An object
    /// stands for parameters like `label.K`: each of its keys is a `K`. An empty list or object is refused. A client that sends
    /// one expects that no execution matches, but without the parameter every execution would match.
    pub(crate) fn of_members(
        members: &serde_json::Map<String, serde_json::Value>,
        known: &[Parameter],
    ) -> Result<Self, Problem> {
        use serde_json::Value;
        let mut text = form_urlencoded::Serializer::new(String::new());
        let mut add = |name: &str, value: &Value| {
            let value = match value {
                Value::String(value) => value.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => {
                    let pointer = format!("/filter/{}", shown(name));
                    return Err(Problem::invalid(
                        pointer,
                        "the value is neither a string nor a list of strings",
                    ));
                }
            };
            text.append_pair(name, &value);
            Ok(())
        };
        for (name, value) in members {
            let is_empty = match value {
                Value::Array(values) => values.is_empty(),
                Value::Object(parts) => parts.is_empty(),
                _ => false,
            };
            if is_empty {
                let pointer = format!("/filter/{}", shown(name));
                let detail = "the list or object is empty; leave it out, or give it a value";
                return Err(Problem::invalid(pointer, detail));
            }
            match value {
                Value::Array(values) => values.iter().try_for_each(|value| add(name, value))?,
                Value::Object(parts) => {
                    let mut parts = parts.iter();
                    parts.try_for_each(|(part, value)| add(&format!("{name}.{part}"), value))?;
                }
                value => add(name, value)?,
            }
        }
        Self::parse(&text.finish(), known)
    }

    /// Returns the values of a parameter that is an id.
    pub(crate) fn ids<T: std::str::FromStr>(&self, name: &str) -> Result<Vec<T>, Problem> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                let detail = format!("'{}' is not an id; an id is a UUID", shown(text));
                Problem::invalid(name, detail)
            })
        };
        self.distinct(name).map(parse).collect()
    }

    /// Returns all parameters with their values.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the value of a parameter that is given at most once.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Returns all values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let name = name.to_owned();
        let values = self.pairs.iter().filter(move |(key, _)| *key == name);
        values.map(|(_, value)| value.as_str())
    }

    /// Returns all values of a parameter, each once.
    pub(crate) fn distinct<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let mut known = std::collections::BTreeSet::new();
        self.all(name).filter(move |value| known.insert(*value))
    }

    /// Returns the parameters whose names begin with `prefix` and a dot, as pairs of the rest of the name and the value.
    pub(crate) fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.pairs.iter().filter_map(move |(key, value)| {
            let rest = key.strip_prefix(prefix)?.strip_prefix('.')?;
            Some((rest, value.as_str()))
        })
    }

    /// Returns the value of a parameter that is a whole number in a range; `default` if the parameter is not given.
    pub(crate) fn number(
        &self,
        name: &str,
        default: usize,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, Problem> {
        let numbers = self.numbers(name, range)?;
        Ok(numbers.first().copied().unwrap_or(default))
    }

    /// Returns all values of a parameter that is a whole number in a range.
    pub(crate) fn numbers(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<Vec<usize>, Problem> {
        let parse = |text: &str| {
            let number = text.parse().ok().filter(|number| range.contains(number));
            number.ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                let value = shown(text);
                let detail = format!("'{value}' is not a whole number from {least} to {most}");
                Problem::invalid(name, detail)
            })
        };
        self.all(name).map(parse).collect()
    }

    /// Returns the value of a parameter that is `true` or `false`; false if the parameter is not given.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(value) => {
                let detail = format!("'{}' is neither true nor false", shown(value));
                Err(Problem::invalid(name, detail))
            }
        }
    }

    /// Returns the value of a parameter that is a time: RFC 3339 text, or a span before `now`, like `24h`. Returns `None` if
    /// the parameter is not given.
    pub(crate) fn time(&self, name: &str, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let time = crate::time::parse(text, now);
        time.map(Some).ok_or_else(|| no_time_or_span(name, text))
    }
}

/// Returns the problem that a text is neither a time nor a span before now.
pub(crate) fn no_time_or_span(pointer: &str, text: &str) -> Problem {
    let text = shown(text);
    let detail = format!(
        "'{text}' is neither a time like 2026-01-31T12:00:00Z nor a span before now like 30m, 24h or 7d"
    );
    Problem::invalid(pointer, detail)
}

/// Returns the first 80 characters of a text from the request, for a message.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn unknown(name: &str, known: &[Parameter]) -> Problem {
    let name = shown(name);
    let names = known.iter().map(|parameter| parameter.name);
    let problem = Problem::new(
        "unknown_parameter",
        format!("the route has no query parameter '{name}'"),
    );
    match cloacina::types::nearest(&name, names.clone()) {
        Some(near) => problem.hint(format!("did you mean '{near}'?")),
        None if known.is_empty() => problem.hint("the route has no parameters"),
        None => {
            let names: Vec<_> = names.collect();
            problem.hint(format!("the route's parameters are {}", names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<Parameter> {
        vec![
            Parameter::text("status", "A state.").repeated(),
            Parameter::text("limit", "A number."),
            Parameter::text("label.K", "A label."),
        ]
    }

    #[test]
    fn repeated_parameter_keeps_all_values() {
        let query = Query::parse("status=Failed&status=Paused", &known()).expect("a query");
        assert_eq!(
            query.all("status").collect::<Vec<_>>(),
            ["Failed", "Paused"]
        );
    }

    #[test]
    fn unknown_parameter_is_refused_with_the_nearest_name() {
        let problem = Query::parse("limits=3", &known()).expect_err("a problem");
        assert_eq!(problem.code, "unknown_parameter");
        assert_eq!(problem.hint_text(), Some("did you mean 'limit'?"));
    }

    #[test]
    fn second_value_of_an_unrepeatable_parameter_is_refused() {
        assert!(Query::parse("limit=3&limit=4", &known()).is_err());
    }

    #[test]
    fn label_parameter_is_found_below_its_prefix() {
        let query = Query::parse("label.order=47%2011", &known()).expect("a query");
        assert_eq!(
            query.below("label").collect::<Vec<_>>(),
            [("order", "47 11")]
        );
        assert!(Query::parse("label.=1", &known()).is_err());
    }
}
