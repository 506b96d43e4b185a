//! The declared type of a workflow's input: its fields, and the validation of an input before it is stored (semantics J5).

use std::sync::Arc;

use serde::de::value::Error as Unsupported;
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserializer, Serialize, forward_to_deserialize_any};

use super::decoding::decode_text;
use super::json_kinds::Kinds;
use super::probing::probe;
use super::required_fields;
use crate::engine::schedule;
use crate::types::{Context, Error, ErrorCode, Json};

/// The type that `workflow!` declares as the input.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct InputType {
    name: fn() -> &'static str,
    fields: fn() -> Option<&'static [&'static str]>,
    kinds: fn(&'static str) -> Kinds,
    required: fn(&[&'static str]) -> Vec<&'static str>,
    complete: fn(&Context) -> Result<Context, String>,
}

impl InputType {
    /// Creates the description of a type.
    #[must_use]
    pub const fn of<T: Serialize + DeserializeOwned>() -> Self {
        Self {
            name: std::any::type_name::<T>,
            fields: fields_of::<T>,
            kinds: Kinds::of_field::<T>,
            required: required_fields::of_type::<T>,
            complete: complete::<T>,
        }
    }

    /// Returns the names of the type's fields. `None`: the type accepts any key, as a map or a struct with a flattened field
    /// does.
    pub(super) fn fields(&self) -> Option<&'static [&'static str]> {
        (self.fields)()
    }

    /// Returns the kinds of JSON values that a field accepts.
    pub(super) fn kinds(&self, field: &'static str) -> Kinds {
        (self.kinds)(field)
    }

    /// Returns a JSON schema for programs in other languages. The schema lists the fields, their types if known, and
    /// the required fields.
    pub(super) fn schema(&self) -> Json {
        schema((self.name)(), self.fields(), self.kinds, self.required)
    }

    /// Validates an input, and adds the defaults of absent fields.
    ///
    /// # Errors
    /// `WorkflowInputInvalid`. The message names the path of the value that does not fit.
    pub(super) fn validate(
        &self,
        workflow: &str,
        input: &Arc<Context>,
    ) -> Result<Arc<Context>, Error> {
        let absent = self.absent(&format!("workflow '{workflow}'"), input)?;
        if absent.is_empty() {
            return Ok(Arc::clone(input));
        }
        let mut filled = (**input).clone();
        for (key, value) in absent {
            filled.set(key, value);
        }
        Ok(Arc::new(filled))
    }

    /// Returns the defaults of the fields that an input lacks; `None` if the input is not valid. Used for an input that
    /// this program has not validated. `view`: a context that contains the fields of the input.
    pub(super) fn defaults(&self, view: &Context) -> Option<Context> {
        let absent = self.absent("", view).ok()?;
        Some(absent.into_iter().collect())
    }

    /// Validates the input of a schedule, and adds the defaults of absent fields. The fields that each tick adds can be
    /// absent.
    ///
    /// # Errors
    /// `WorkflowInputInvalid`. The message names the path of the value that does not fit.
    pub(super) fn validate_scheduled(
        &self,
        workflow: &str,
        input: &mut Context,
    ) -> Result<(), Error> {
        let fields = self.fields().unwrap_or_default();
        let added = schedule::EXAMPLES_OF_ADDED
            .iter()
            .filter(|(key, _)| fields.contains(key) && input.get(key).is_none());
        let added: Vec<_> = added.collect();
        let mut example = input.clone();
        for (key, value) in &added {
            example.set(*key, Json::from_encoder(format!("\"{value}\"")));
        }
        let what = format!("the schedule of workflow '{workflow}'");
        for (key, value) in self.absent(&what, &example)? {
            input.set(key, value);
        }
        Ok(())
    }

    /// Returns the defaults of the fields that an input lacks. `of`: the owner of the input, as the error names it.
    fn absent(&self, of: &str, input: &Context) -> Result<Vec<(Arc<str>, Json)>, Error> {
        let complete = (self.complete)(input).map_err(|problem| {
            let name = short_name((self.name)());
            let message = format!("the input of {of} is not a valid {name}: {problem}");
            Error::new(ErrorCode::WorkflowInputInvalid, message)
        })?;
        let absent = complete.iter().filter(|(key, _)| input.get(key).is_none());
        Ok(absent
            .map(|(key, value)| (Arc::clone(key), value.clone()))
            .collect())
    }
}

/// Returns the JSON schema of the data of an approval: see [`InputType::schema`].
///
/// # Panics
/// If the type cannot be decoded from an object. Every decision about the approval would then be refused.
#[doc(hidden)]
#[must_use]
pub fn schema_of<T: DeserializeOwned>(approval: &str) -> Json {
    let of_type = Kinds::of_type::<T>();
    if !of_type.accepts_object() {
        let message = format!(
            "the data of approval '{approval}' is not an object: {} is {}",
            short_name(std::any::type_name::<T>()),
            of_type.names()
        );
        let error = Error::new(ErrorCode::TaskInvalid, message)
            .with_hint("name a struct, whose fields are the data");
        panic!("{error}");
    }
    let kinds = Kinds::of_field::<T>;
    let required = required_fields::of_type::<T>;
    schema(
        std::any::type_name::<T>(),
        fields_of::<T>(),
        kinds,
        required,
    )
}

fn schema(
    name: &'static str,
    fields: Option<&[&'static str]>,
    kinds: fn(&'static str) -> Kinds,
    required: fn(&[&'static str]) -> Vec<&'static str>,
) -> Json {
    let mut schema = serde_json::json!({ "title": short_name(name), "type": "object" });
    // If the names of the fields are not known, the schema accepts any field.
    if let Some(fields) = fields {
        let properties = fields.iter();
        let properties: serde_json::Map<_, _> = properties
            .map(|field| ((*field).to_owned(), kinds(field).schema()))
            .collect();
        schema["properties"] = properties.into();
        let required = required(fields);
        if !required.is_empty() {
            schema["required"] = required.into();
        }
    }
    Json::from_encoder(schema.to_string())
}

/// Decodes the input as `T` and encodes it again. The result has the defaults of absent fields.
fn complete<T: Serialize + DeserializeOwned>(input: &Context) -> Result<Context, String> {
    let value: T = decode_text(&input.to_json())?;
    let json = Json::encode(&value).map_err(|error| error.to_string())?;
    Context::from_json(json.as_str()).map_err(|error| error.to_string())
}

fn fields_of<T: DeserializeOwned>() -> Option<&'static [&'static str]> {
    let mut fields = None;
    // `deserialize` first passes the names of the fields. Then it always fails, because `FieldNames` has no values.
    probe(|| drop(T::deserialize(FieldNames(&mut fields))))?;
    fields
}

/// Returns the name of a type without the path of its module.
fn short_name(name: &'static str) -> &'static str {
    let head = name.split('<').next().unwrap_or(name);
    let start = head.rfind("::").map_or(0, |at| at + 2);
    &name[start..]
}

/// A deserializer that notes the names of a struct's fields and then fails.
struct FieldNames<'a>(&'a mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Unsupported;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unsupported> {
        Err(unsupported())
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Unsupported> {
        *self.0 = Some(fields);
        Err(unsupported())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unsupported> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map enum identifier ignored_any
    }
}

fn unsupported() -> Unsupported {
    serde::de::Error::custom("only the names of fields are read")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Purchase {
        order_id: String,
        #[serde(rename = "lines")]
        urls: Vec<String>,
        #[serde(default = "tax")]
        tax: f64,
    }

    fn tax() -> f64 {
        0.25
    }

    #[derive(Serialize, Deserialize)]
    struct Open {
        #[serde(flatten)]
        rest: std::collections::BTreeMap<String, u8>,
    }

    #[test]
    fn j1_fields_of_a_struct_are_known() {
        let fields = InputType::of::<Purchase>().fields();
        assert_eq!(fields, Some(&["order_id", "lines", "tax"][..]));
        assert_eq!(InputType::of::<Open>().fields(), None);
        assert_eq!(
            InputType::of::<Open>().schema().as_str(),
            r#"{"title":"Open","type":"object"}"#
        );
        assert_eq!(
            InputType::of::<Purchase>().schema().as_str(),
            r#"{"properties":{"lines":{"type":"array"},"order_id":{"type":"string"},"tax":{"type":"number"}},"required":["order_id","lines"],"title":"Purchase","type":"object"}"#
        );
    }

    #[test]
    fn j5_defaults_are_filled_in_and_given_values_keep_their_text() {
        let input =
            Arc::new(Context::from_json(r#"{"lines":[],"order_id":"o","n":1.10}"#).unwrap());
        let valid = InputType::of::<Purchase>().validate("w", &input).unwrap();
        assert_eq!(
            valid.to_json(),
            r#"{"lines":[],"order_id":"o","n":1.10,"tax":0.25}"#
        );
    }

    #[test]
    fn j5_input_of_a_schedule_can_lack_the_fields_that_ticks_add() {
        #[derive(Serialize, Deserialize)]
        struct Nightly {
            region: String,
            scheduled_time: String,
            #[serde(default = "tax")]
            tax: f64,
        }
        let mut input = Context::from_json(r#"{"region":"eu"}"#).unwrap();
        let nightly = InputType::of::<Nightly>();
        nightly.validate_scheduled("w", &mut input).unwrap();
        assert_eq!(input.to_json(), r#"{"region":"eu","tax":0.25}"#);

        let mut wrong = Context::from_json(r#"{"region":7}"#).unwrap();
        let error = nightly.validate_scheduled("w", &mut wrong).unwrap_err();
        let expected = "the input of the schedule of workflow 'w' is not a valid Nightly: `region`: invalid type";
        assert!(error.message.starts_with(expected), "{error}");
    }

    #[test]
    fn j5_error_of_a_wrong_input_names_the_path() {
        let error = |text: &str| {
            let input = Arc::new(Context::from_json(text).unwrap());
            InputType::of::<Purchase>()
                .validate("w", &input)
                .unwrap_err()
        };
        let wrong = error(r#"{"order_id":"o","lines":["a",7]}"#);
        assert_eq!(wrong.code, ErrorCode::WorkflowInputInvalid);
        let expected = "the input of workflow 'w' is not a valid Purchase: `lines[1]`: invalid type: integer `7`";
        assert!(wrong.message.starts_with(expected), "{wrong}");
        assert!(error("{}").message.contains("missing field `order_id`"));
    }
}
