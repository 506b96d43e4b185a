//! Validates the signature of a task's function.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, ReturnType, Type};

/// The types of the parameters and the return type. Their spans let the compiler's messages point at them.
pub struct Signature<'a> {
    pub context: &'a Type,
    pub handle: Option<&'a Type>,
    pub output: &'a Type,
}

const FORM: &str = "hint: async fn name(context: &mut Context) -> Result<(), TaskError>";

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
    let mut parameters = Vec::new();
    for parameter in &signature.inputs {
        match parameter {
            FnArg::Typed(typed) => parameters.push(&*typed.ty),
            FnArg::Receiver(receiver) => {
                return refuse(
                    receiver.self_token.span,
                    "a task must be a free function, not a method",
                );
            }
        }
    }
    let (context, handle) = match parameters.as_slice() {
        [] => {
            return refuse(
                signature.paren_token.span.join(),
                "a task takes its context: `context: &mut Context`",
            );
        }
        [context] => (*context, None),
        [context, handle] => (*context, Some(*handle)),
        [_, _, third, ..] => {
            return refuse(
                third.span(),
                "a task takes its context and optionally a `&TaskHandle`",
            );
        }
    };
    match context {
        Type::Reference(reference) if reference.mutability.is_some() => {}
        other => return refuse(other.span(), "a task takes its context as `&mut Context`"),
    }
    if let Some(handle) = handle {
        match handle {
            Type::Reference(reference) if reference.mutability.is_none() => {}
            other => return refuse(other.span(), "a task takes its handle as `&TaskHandle`"),
        }
    }
    let ReturnType::Type(_, output) = &signature.output else {
        return refuse(
            signature.paren_token.span.close(),
            "a task returns `Result<(), TaskError>`",
        );
    };
    Ok(Signature {
        context,
        handle,
        output,
    })
}
