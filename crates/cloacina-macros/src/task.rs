//! `#[task]`: the function as it is, and a type of its name that stands for the task.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Error, ItemFn, LitStr};

use crate::fingerprint::fingerprint;
use crate::options::{Options, check_own};
use crate::outline::outline;
use crate::signature;

pub fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    let function: ItemFn = syn::parse2(item).map_err(|error| {
        Error::new(
            error.span(),
            "`#[task]` stands on functions: async fn name(context: &mut Context) -> Result<(), TaskError>",
        )
    })?;
    // The function stays, so that a wrong option does not hide it from the rest of the program.
    match expand_task(options, &function) {
        Ok(task) => Ok(quote! {
            #[allow(clippy::unused_async, reason = "a task is async, whether it waits or not")]
            #function
            #task
        }),
        Err(error) => {
            let error = error.into_compile_error();
            if function.sig.receiver().is_some() {
                return Ok(quote!(#function #error)); // no type can stand in an `impl`
            }
            let name = &function.sig.ident;
            let visibility = &function.vis;
            let absent = absent(name);
            Ok(quote! {
                #function
                #error
                #[doc(hidden)]
                #[allow(non_camel_case_types, reason = "it stands beside the function of its name")]
                #visibility struct #name {}
                #absent
            })
        }
    }
}

/// A task whose options were refused: a workflow that lists it has no complaint of its own.
fn absent(name: &syn::Ident) -> TokenStream {
    let id = LitStr::new(&name.unraw().to_string(), name.span());
    quote! {
        impl ::cloacina::macro_support::Task for #name {
            const OUTLINE: ::cloacina::macro_support::TaskOutline =
                ::cloacina::macro_support::TaskOutline { id: #id, dependencies: &[], rule_tasks: &[] };
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
    check_own(&id, &options)?;
    let outline = outline(&id, &options);
    let definition = options.definition(&id, "Async", &fingerprint(function));
    // Each with the place of what it is about, so that an error of types points there.
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
        #[allow(non_camel_case_types, reason = "it stands beside the function of its name")]
        #visibility struct #name {}

        impl ::cloacina::macro_support::Task for #name {
            const OUTLINE: ::cloacina::macro_support::TaskOutline = #outline;

            #[allow(clippy::needless_update, reason = "what is left out is the engine's default")]
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
