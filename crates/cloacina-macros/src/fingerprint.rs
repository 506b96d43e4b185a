//! The fingerprint of a task's function: a hash of its code. If the code changes, the workflow's version changes too
//! (semantics A4).
//!
//! The hash is a 128-bit FNV-1a hash, written as 32 hex characters. It covers the tokens of the function's parameters, of
//! their `#[default]` and `#[result_of]` attributes, and of the return type and the body. A zero byte follows each token.
//! The hash ignores comments, all other attributes, layout, parameters that receive resources, and the compiler's version.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::punctuated::Punctuated;
use syn::{FnArg, ItemFn, Token};

use crate::signature;

const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

pub fn fingerprint(function: &ItemFn) -> String {
    let mut hash = Hash(BASIS);
    let inputs = &function.sig.inputs;
    let values = || inputs.iter().filter(|input| !signature::is_resource(input));
    if inputs.iter().any(signature::is_resource) {
        let values: Punctuated<&FnArg, Token![,]> = values().collect();
        hash.add_tokens(values.to_token_stream());
    } else {
        hash.add_tokens(inputs.to_token_stream());
    }
    for attribute in values().flat_map(signature::own_attributes) {
        hash.add_tokens(attribute.meta.to_token_stream());
    }
    hash.add_tokens(function.sig.output.to_token_stream());
    hash.add_tokens(function.block.to_token_stream());
    format!("{:032x}", hash.0)
}

struct Hash(u128);

impl Hash {
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Group(group) => {
                    let (open, close) = match group.delimiter() {
                        Delimiter::Parenthesis => ("(", ")"),
                        Delimiter::Brace => ("{", "}"),
                        Delimiter::Bracket => ("[", "]"),
                        Delimiter::None => ("", ""),
                    };
                    self.add(open);
                    self.add_tokens(group.stream());
                    self.add(close);
                }
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    // Skip attributes, `#[…]` or `#![…]`; doc comments are attributes too.
                    tokens.next_if(
                        |next| matches!(next, TokenTree::Punct(mark) if mark.as_char() == '!'),
                    );
                    tokens.next_if(|next| {
                        matches!(next, TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket)
                    });
                }
                other => self.add(&other.to_string()),
            }
        }
    }

    fn add(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        for byte in text.bytes().chain([0]) {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(PRIME);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        fingerprint(&syn::parse_str(text).unwrap())
    }

    #[test]
    fn a4_layout_comments_attributes_and_name_do_not_change_the_hash() {
        let plain = of(
            "async fn load(c: &mut Context) -> Result<(), TaskError> { c.set(\"n\", 1)?; Ok(()) }",
        );
        let dressed = of(
            "/// Loads.\npub async fn other(c: &mut Context) -> Result<(), TaskError> {
            // One row.
            #[expect(unused)]
            c.set( \"n\" , 1 ) ? ;
            Ok( () )
        }",
        );
        assert_eq!(plain, dressed);
    }

    #[test]
    fn a4_changed_default_of_a_parameter_changes_the_hash() {
        let of_default = |default| {
            of(&format!(
                "async fn f(#[default = {default}] n: u8) -> R {{ Ok(n) }}"
            ))
        };
        assert_ne!(of_default(1), of_default(2));
    }

    #[test]
    fn j11_resource_parameter_does_not_change_the_hash() {
        let plain = of("async fn f(n: u8, #[default] m: u8) -> R { Ok(n) }");
        let with =
            of("async fn f(n: u8, #[default] m: u8, #[resource(open)] p: Arc<P>) -> R { Ok(n) }");
        let first =
            of("async fn f(#[resource(open)] p: Arc<P>, n: u8, #[default] m: u8) -> R { Ok(n) }");
        assert_eq!(plain, with);
        assert_eq!(plain, first);
    }

    #[test]
    fn a4_hash_is_stable_and_changes_with_the_body() {
        let one = of("async fn load(c: &mut Context) -> Result<(), TaskError> { c.set(\"n\", 1) }");
        let two = of("async fn load(c: &mut Context) -> Result<(), TaskError> { c.set(\"n\", 2) }");
        assert_ne!(one, two);
        assert_eq!(one, "506d9b884ec0c8d1b525d88314cffcf0");
    }
}
