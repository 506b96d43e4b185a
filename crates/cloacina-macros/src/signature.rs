//! Reads the signature of a task's function: the context, the handle, and the parameters that receive values or resources.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, Expr, ExprLit, FnArg, GenericArgument, ItemFn, Lit, LitStr, Meta, Pat,
    PatType, PathArguments, ReturnType, Type,
};

use crate::options::Reference;

/// The parameters in declaration order, and the return type. Compiler messages point at the spans of these types.
pub struct Signature<'a> {
    pub parameters: Vec<Parameter<'a>>,
    pub output: &'a Type,
}

pub enum Parameter<'a> {
    /// `&mut Context`: the function writes the context, and its return value is not stored.
    Context(&'a Type),
    /// `&Context`: the function reads the context.
    View(&'a Type),
    /// `&TaskHandle`: the function receives the handle of its attempt.
    Handle(&'a Type),
    Value(Value<'a>),
    Resource(Resource<'a>),
}

/// A parameter that receives a shared object, which the runner creates once (semantics J10).
pub struct Resource<'a> {
    pub name: LitStr,
    pub kind: &'a Type,
    /// The function that creates the object.
    pub open: Expr,
}

/// A parameter whose value is found by the parameter's name, or is the result of the task that `#[result_of(…)]` names.
pub struct Value<'a> {
    pub name: LitStr,
    pub kind: &'a Type,
    /// The expression of the parameter's default.
    pub default: Option<TokenStream>,
    /// The task that `#[result_of(…)]` names.
    pub task: Option<Reference>,
}

impl Value<'_> {
    /// Returns whether the parameter's type is `MapResult`, which has the items of a map with their states.
    pub fn is_map_result(&self) -> bool {
        last_name(self.kind).as_deref() == Some("MapResult")
    }
}

const FORM: &str = "hint: async fn name(context: &mut Context) -> Result<(), TaskError>";
const RESOURCE_FORM: &str =
    "hint: async fn mail(#[resource(open_smtp)] smtp: Arc<Smtp>) -> Result<(), TaskError>";
const VALUE_FORM: &str = "hint: async fn total(rows: Vec<Row>) -> Result<Total, TaskError>";

impl<'a> Signature<'a> {
    pub fn values(&self) -> impl Iterator<Item = &Value<'a>> {
        self.parameters
            .iter()
            .filter_map(|parameter| match parameter {
                Parameter::Value(value) => Some(value),
                _ => None,
            })
    }

    pub fn resources(&self) -> impl Iterator<Item = &Resource<'a>> {
        self.parameters
            .iter()
            .filter_map(|parameter| match parameter {
                Parameter::Resource(resource) => Some(resource),
                _ => None,
            })
    }

    /// Returns whether the returned value is stored as the task's result. This is not the case if the function writes the
    /// context, or if it returns nothing and has no parameters other than resources.
    pub fn has_result(&self) -> bool {
        let writes = |parameter: &Parameter| matches!(parameter, Parameter::Context(_));
        let takes = |parameter: &Parameter| !matches!(parameter, Parameter::Resource(_));
        let is_empty = !self.parameters.iter().any(takes) && returns_unit(self.output);
        !is_empty && !self.parameters.iter().any(writes)
    }
}

/// Returns those attributes of a parameter that belong to `#[task]`.
pub fn own_attributes(parameter: &FnArg) -> impl Iterator<Item = &Attribute> {
    let attributes = match parameter {
        FnArg::Typed(typed) => &typed.attrs,
        FnArg::Receiver(receiver) => &receiver.attrs,
    };
    attributes.iter().filter(|attribute| is_own(attribute))
}

/// Returns whether a parameter receives a resource.
pub fn is_resource(parameter: &FnArg) -> bool {
    own_attributes(parameter).any(|attribute| attribute.path().is_ident("resource"))
}

/// Removes the attributes that belong to `#[task]` from the parameters of a function.
pub fn strip_attributes(function: &mut ItemFn) {
    for parameter in &mut function.sig.inputs {
        if let FnArg::Typed(typed) = parameter {
            typed.attrs.retain(|attribute| !is_own(attribute));
        }
    }
}

pub fn read(function: &ItemFn) -> Result<Signature<'_>, Error> {
    let signature = &function.sig;
    let refuse = |span: Span, message: &str| Err(Error::new(span, format!("{message}\n{FORM}")));
    if signature.asyncness.is_none() {
        return refuse(signature.fn_token.span, "a task must be an `async fn`");
    }
    if !signature.generics.params.is_empty() {
        return refuse(
            signature.generics.span(),
            "a task cannot have generic parameters",
        );
    }
    if let Some(unsafety) = &signature.unsafety {
        return refuse(unsafety.span, "a task cannot be `unsafe`");
    }
    let mut parameters: Vec<Parameter> = Vec::new();
    for parameter in &signature.inputs {
        match parameter {
            FnArg::Typed(typed) => parameters.push(read_parameter(typed, &parameters)?),
            FnArg::Receiver(receiver) => {
                return refuse(
                    receiver.self_token.span,
                    "a task must be a free function, not a method",
                );
            }
        }
    }
    let ReturnType::Type(_, output) = &signature.output else {
        return refuse(
            signature.paren_token.span.close(),
            "a task must return `Result<(), TaskError>`",
        );
    };
    Ok(Signature { parameters, output })
}

fn read_parameter<'a>(
    typed: &'a PatType,
    earlier: &[Parameter<'a>],
) -> Result<Parameter<'a>, Error> {
    let kind = &*typed.ty;
    let refuse = |message: &str| Err(Error::new(kind.span(), format!("{message}\n{FORM}")));
    let is_second = |wanted: fn(&Parameter) -> bool| earlier.iter().any(wanted);
    let resource = typed
        .attrs
        .iter()
        .find(|own| own.path().is_ident("resource"));
    let Type::Reference(reference) = kind else {
        if let Some(attribute) = resource {
            return read_resource(typed, attribute).map(Parameter::Resource);
        }
        return match last_name(kind).as_deref() {
            Some("Context") => {
                refuse("a task must take its context as `&mut Context` or `&Context`")
            }
            Some("TaskHandle") => refuse("a task must take its handle as `&TaskHandle`"),
            _ => read_value(typed).map(Parameter::Value),
        };
    };
    if resource.is_some() {
        let message = "a resource must be an `Arc<…>`, because the tasks of a runner share it";
        return Err(Error::new(
            kind.span(),
            format!("{message}\n{RESOURCE_FORM}"),
        ));
    }
    if let Some(attribute) = typed.attrs.iter().find(|attribute| is_own(attribute)) {
        let message = "only a parameter that receives a value can have this attribute";
        return Err(Error::new(attribute.span(), message));
    }
    if reference.mutability.is_some() {
        if !earlier.is_empty() {
            return refuse("the context must be the first parameter of a task");
        }
        return Ok(Parameter::Context(kind));
    }
    match last_name(&reference.elem).as_deref() {
        Some("TaskHandle") if is_second(|known| matches!(known, Parameter::Handle(_))) => {
            refuse("a task can take only one handle")
        }
        Some("TaskHandle") => Ok(Parameter::Handle(kind)),
        Some("Context") if earlier.is_empty() => Ok(Parameter::View(kind)),
        Some("Context") => refuse("the context must be the first parameter of a task"),
        _ => Err(Error::new(
            kind.span(),
            format!(
                "a parameter for a value cannot be a reference, because the task owns the value\n{VALUE_FORM}"
            ),
        )),
    }
}

/// Reads `#[resource(function)] name: Arc<Type>`.
fn read_resource<'a>(typed: &'a PatType, attribute: &Attribute) -> Result<Resource<'a>, Error> {
    if let Some(other) =
        (typed.attrs.iter()).find(|other| is_own(other) && !std::ptr::eq(*other, attribute))
    {
        let message = "a resource cannot have another source or a default";
        return Err(Error::new(other.span(), message));
    }
    let open: Expr = attribute.parse_args().map_err(|error| {
        let message = "`#[resource]` must name the function that makes the resource";
        Error::new(error.span(), format!("{message}\n{RESOURCE_FORM}"))
    })?;
    // A resource is identified by the type of this expression. Only a path or a closure always has a unique type.
    if !matches!(open, Expr::Path(_) | Expr::Closure(_)) {
        let message = "`#[resource]` takes the name of a function: #[resource(open_smtp)]";
        return Err(Error::new(
            open.span(),
            format!("{message}\n{RESOURCE_FORM}"),
        ));
    }
    let name = read_name(
        typed,
        &format!(
            "a parameter for a resource needs a plain name: `name: Arc<Type>`\n{RESOURCE_FORM}"
        ),
    )?;
    Ok(Resource {
        name,
        kind: &typed.ty,
        open,
    })
}

fn read_name(typed: &PatType, message: &str) -> Result<LitStr, Error> {
    let Pat::Ident(pattern) = &*typed.pat else {
        return Err(Error::new(typed.pat.span(), message));
    };
    let name = pattern.ident.unraw().to_string();
    Ok(LitStr::new(&name, pattern.ident.span()))
}

fn read_value(typed: &PatType) -> Result<Value<'_>, Error> {
    let message = format!(
        "a parameter for a value needs a plain name, because the name selects the value: `name: Type`\n{VALUE_FORM}"
    );
    let mut value = Value {
        name: read_name(typed, &message)?,
        kind: &typed.ty,
        default: None,
        task: None,
    };
    for attribute in typed.attrs.iter().filter(|attribute| is_own(attribute)) {
        let is_default = attribute.path().is_ident("default");
        if (is_default && value.default.is_some()) || (!is_default && value.task.is_some()) {
            return Err(Error::new(
                attribute.span(),
                "this attribute is given twice",
            ));
        }
        if is_default {
            value.default = Some(read_default(attribute, &typed.ty)?);
        } else {
            value.task = Some(attribute.parse_args()?);
        }
    }
    Ok(value)
}

/// Reads `#[default]`, `#[default = expression]` or `#[default(expression)]`.
fn read_default(attribute: &Attribute, kind: &Type) -> Result<TokenStream, Error> {
    let expression: Expr = match &attribute.meta {
        Meta::Path(_) => return Ok(quote!(<#kind as ::std::default::Default>::default())),
        Meta::NameValue(pair) => pair.value.clone(),
        Meta::List(list) => list.parse_args()?,
    };
    let is_text = matches!(
        &expression,
        Expr::Lit(ExprLit {
            lit: Lit::Str(_),
            ..
        })
    );
    // `into` converts a string literal to a `String`, if that is the parameter's type.
    Ok(if is_text {
        quote!(::std::convert::Into::into(#expression))
    } else {
        expression.to_token_stream()
    })
}

fn is_own(attribute: &Attribute) -> bool {
    let own = ["default", "result_of", "resource"];
    own.iter().any(|name| attribute.path().is_ident(name))
}

/// Returns the last segment of a type's path.
fn last_name(kind: &Type) -> Option<String> {
    let Type::Path(path) = kind else { return None };
    path.path.segments.last().map(|last| last.ident.to_string())
}

/// Returns whether a return type is `Result<(), …>`.
fn returns_unit(output: &Type) -> bool {
    let Type::Path(path) = output else {
        return false;
    };
    let Some(last) = path.path.segments.last() else {
        return false;
    };
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return false;
    };
    let first = arguments.args.first();
    matches!(first, Some(GenericArgument::Type(Type::Tuple(tuple))) if tuple.elems.is_empty())
}
