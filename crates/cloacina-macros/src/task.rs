//! `#[task]`: expands to the unchanged function, and a type of the same name that implements `Task`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Error, ItemFn, LitStr};

use crate::fingerprint::fingerprint;
use crate::options::{Options, check_not_own};
use crate::signature;
use crate::task_names::task_names;

pub fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    let function: ItemFn = syn::parse2(item).map_err(|error| {
        Error::new(
            error.span(),
            "`#[task]` applies only to functions: async fn name(context: &mut Context) -> Result<(), TaskError>",
        )
    })?;
    // Keep the function, so that an invalid option does not cause errors wherever the program calls it.
    match expand_task(options, &function) {
        Ok(task) => Ok(quote! {
            #[allow(clippy::unused_async, reason = "a task is async even if it does not wait")]
            #function
            #task
        }),
        Err(error) => {
            let error = error.into_compile_error();
            if function.sig.receiver().is_some() {
                return Ok(quote!(#function #error)); // a type cannot be declared in an `impl`
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

/// Implements `Task` for a task with invalid options, so that a workflow that lists it does not cause a second error.
fn placeholder(name: &syn::Ident) -> TokenStream {
    let id = LitStr::new(&name.unraw().to_string(), name.span());
    quote! {
        impl ::cloacina::macro_support::Task for #name {
            const NAMES: ::cloacina::macro_support::TaskNames =
                ::cloacina::macro_support::TaskNames { id: #id, dependencies: &[], rule_tasks: &[] };
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
    let names = task_names(&id, &options);
    let definition = options.definition(&id, "Async", &fingerprint(function));
    // Each argument has the span of its parameter's type, so that a type error points there.
    let context = quote_spanned!(signature.context.span()=> context);
    let handle = signature
        .handle
        .map(|handle| quote_spanned!(handle.span()=> , handle));
    let output = signature.output;
    let result = quote_spanned! {output.span()=>
        <#output as ::cloacina::macro_support::TaskOutput>::into_result(output)
    };
    Ok(quote! {
        #[doc(hidden)]
        #[allow(non_camel_case_types, reason = "the type has the name of the function")]
        #visibility struct #name {}

        impl ::cloacina::macro_support::Task for #name {
            const NAMES: ::cloacina::macro_support::TaskNames = #names;

            #[allow(clippy::needless_update, reason = "fields that are left out have the engine's defaults")]
            fn definition() -> ::cloacina::macro_support::TaskDefinition {
                #definition
            }

            fn run<'a>(
                context: &'a mut ::cloacina::macro_support::Context,
                handle: &'a ::cloacina::macro_support::TaskHandle,
            ) -> ::cloacina::macro_support::TaskFuture<'a> {
                let _ = handle;
                ::std::boxed::Box::pin(async move {
                    let output = #name(#context #handle).await;
                    #result
                })
            }
        }
    })
}
