//! `#[task]`: expands to the function without the parameter attributes of `#[task]`, and to a type with the same name,
//! which implements `Task`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Error, ItemFn, LitStr};

use crate::fingerprint::fingerprint;
use crate::options::{Options, check_not_own};
use crate::signature::{self, Parameter};
use crate::task_names::{optional, task_names};

pub fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    let mut function: ItemFn = syn::parse2(item).map_err(|error| {
        Error::new(
            error.span(),
            "`#[task]` applies only to functions: async fn name(context: &mut Context) -> Result<(), TaskError>",
        )
    })?;
    // The function is kept even if an option or the signature is invalid, so that the program's calls of the function
    // cause no further errors.
    let expanded = expand_task(options, &function);
    signature::strip_attributes(&mut function);
    match expanded {
        Ok(task) => Ok(quote! {
            #[allow(clippy::unused_async, reason = "a task is async even if it does not wait")]
            #function
            #task
        }),
        Err(error) => {
            let error = error.into_compile_error();
            if function.sig.receiver().is_some() {
                return Ok(quote!(#function #error)); // a method's `impl` block cannot contain a type
            }
            let name = &function.sig.ident;
            let visibility = &function.vis;
            let placeholder = placeholder(name);
            Ok(quote! {
                #function
                #error
                #[doc(hidden)]
                #[allow(non_camel_case_types, reason = "the type has the name of the function")]
                #visibility struct #name {}
                #placeholder
            })
        }
    }
}

/// Implements `Task` for a task with an invalid option or signature, so that a workflow that lists the task causes no
/// second error.
fn placeholder(name: &syn::Ident) -> TokenStream {
    let id = LitStr::new(&name.unraw().to_string(), name.span());
    quote! {
        impl ::cloacina::macro_support::Task for #name {
            const NAMES: ::cloacina::macro_support::TaskNames = ::cloacina::macro_support::TaskNames {
                id: #id,
                dependencies: &[],
                rule_tasks: &[],
                result: ::std::option::Option::None,
                parameters: &[],
                result_kinds: ::std::option::Option::None,
                resources: &[],
            };
            fn definition() -> ::cloacina::macro_support::TaskDefinition {
                ::std::default::Default::default()
            }
            fn run<'a>(
                _: &'a mut ::cloacina::macro_support::Context,
                _: &'a ::cloacina::macro_support::TaskHandle,
            ) -> ::cloacina::macro_support::TaskFuture<'a> {
                ::std::boxed::Box::pin(async { ::std::result::Result::Ok(()) })
            }
        }
    }
}

fn expand_task(options: TokenStream, function: &ItemFn) -> Result<TokenStream, Error> {
    let options: Options = syn::parse2(options)?;
    let signature = signature::read(function)?;
    let name = &function.sig.ident;
    let visibility = &function.vis;
    let id = options.id.clone().unwrap_or_else(|| {
        let text = name.unraw().to_string();
        LitStr::new(&text, name.span())
    });
    check_not_own(&id, &options)?;
    if let Some(output) = &options.output
        && !signature.has_result()
    {
        return Err(Error::new(
            output.span(),
            "`output` names a task's result, but this task has none: it takes `&mut Context`, or it has no parameters \
             except resources and returns no value\n\
             hint: remove `output`, or return a value without taking `&mut Context`",
        ));
    }
    let result = signature
        .has_result()
        .then(|| options.output.as_ref().unwrap_or(&id));
    options.map.check_result(result, name)?;
    let names = task_names(&id, &options, result, Some(&signature));
    let definition = options.definition(&id, "Async", &fingerprint(function), result);
    let compensation = options.compensation();
    let values = signature.values().enumerate().map(|(index, value)| {
        let (variable, kind, parameter) = (variable(index), value.kind, &value.name);
        let default = optional(value.default.as_ref().map(|default| quote!(|| #default)));
        quote_spanned! {kind.span()=>
            let #variable = ::cloacina::macro_support::parameter::<#kind>(context, handle, #parameter, #default)?;
        }
    });
    let resources = signature.resources().enumerate().map(|(index, resource)| {
        let (variable, kind, open) = (resource_variable(index), resource.kind, &resource.open);
        quote_spanned! {kind.span()=>
            let #variable: #kind = ::cloacina::macro_support::resource(handle, #open).await?;
        }
    });
    let (mut index, mut resource_index) = (0, 0);
    let arguments = signature
        .parameters
        .iter()
        .map(|parameter| match parameter {
            // The context and the handle have the span of the parameter's type: a type error then points at that type.
            Parameter::Context(kind) => quote_spanned!(kind.span()=> context),
            Parameter::View(kind) => quote_spanned!(kind.span()=> &*context),
            Parameter::Handle(kind) => quote_spanned!(kind.span()=> handle),
            Parameter::Value(_) => {
                index += 1;
                variable(index - 1).to_token_stream()
            }
            Parameter::Resource(_) => {
                resource_index += 1;
                resource_variable(resource_index - 1).to_token_stream()
            }
        });
    let arguments: Vec<TokenStream> = arguments.collect();
    let output = signature.output;
    let end = if let Some(key) = result {
        quote_spanned! {output.span()=>
            <#output as ::cloacina::macro_support::ValueOutput>::store(output, context, handle, #key)
        }
    } else {
        quote_spanned! {output.span()=>
            <#output as ::cloacina::macro_support::TaskOutput>::into_result(output)
        }
    };
    Ok(quote! {
        #[doc(hidden)]
        #[allow(non_camel_case_types, reason = "the type has the name of the function")]
        #visibility struct #name {}

        impl ::cloacina::macro_support::Task for #name {
            const NAMES: ::cloacina::macro_support::TaskNames = #names;
            const COMPENSATION: ::std::option::Option<::cloacina::macro_support::Compensation> = #compensation;

            #[allow(clippy::needless_update, reason = "fields that are left out have the engine's defaults")]
            fn definition() -> ::cloacina::macro_support::TaskDefinition {
                #definition
            }

            fn run<'a>(
                context: &'a mut ::cloacina::macro_support::Context,
                handle: &'a ::cloacina::macro_support::TaskHandle,
            ) -> ::cloacina::macro_support::TaskFuture<'a> {
                let _ = (&context, handle);
                ::std::boxed::Box::pin(async move {
                    #(#values)*
                    #(#resources)*
                    let output = #name(#(#arguments),*).await;
                    #end
                })
            }
        }
    })
}

/// Returns the name of the variable for the value of a parameter.
fn variable(index: usize) -> syn::Ident {
    format_ident!("value_{index}", span = Span::mixed_site())
}

/// Returns the name of the variable for a resource.
fn resource_variable(index: usize) -> syn::Ident {
    format_ident!("resource_{index}", span = Span::mixed_site())
}
