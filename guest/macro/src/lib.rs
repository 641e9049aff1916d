//! The attributes of `wpool-guest`, which re-exports and documents them.
//!
//! An attribute leaves its function unchanged and adds one item, the export. The item is a `const _`, so it
//! takes no name from the guest. This crate reads only the head of the function (`signature`), so that
//! mistakes there get messages of their own. Traits of `wpool-guest` decide in the expanded code how a type
//! is read and written.

mod expand;
mod signature;

use proc_macro::TokenStream;

use crate::signature::{Error, Signature};

// Hidden: wpool-guest re-exports the attributes with documentation of its own.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn task(attribute: TokenStream, item: TokenStream) -> TokenStream {
    export("task", attribute, item, |signature| {
        signature.at_most_one_argument(
            "a task takes one argument; several values go into a tuple or a struct (JSON)",
        )?;
        Ok(expand::task(signature))
    })
}

#[doc(hidden)]
#[proc_macro_attribute]
pub fn init(attribute: TokenStream, item: TokenStream) -> TokenStream {
    export("init", attribute, item, |signature| {
        signature.at_most_one_argument(
            "an initializer takes one `Vec<String>` with all its arguments, or nothing",
        )?;
        Ok(expand::init(signature))
    })
}

#[doc(hidden)]
#[proc_macro_attribute]
pub fn shutdown(attribute: TokenStream, item: TokenStream) -> TokenStream {
    export("shutdown", attribute, item, |signature| {
        signature.no_argument("a shutdown function takes nothing")?;
        signature.no_result("a shutdown function returns nothing")?;
        Ok(expand::shutdown(signature))
    })
}

/// The item, followed by its export or by an error at the place of the mistake. The item stays after a
/// mistake, too: otherwise the compiler would also report the function as missing.
fn export(
    attribute_name: &str,
    attribute: TokenStream,
    item: TokenStream,
    expansion: impl FnOnce(&Signature) -> Result<TokenStream, Error>,
) -> TokenStream {
    let expanded = signature::no_attribute_arguments(attribute_name, attribute)
        .and_then(|()| Signature::parse(attribute_name, item.clone()))
        .and_then(|signature| expansion(&signature));
    let mut output = item;
    output.extend(expanded.unwrap_or_else(|error| error.into_tokens()));
    output
}
