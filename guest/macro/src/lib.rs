//! The attributes of `wpool-guest`, which re-exports and documents them.
//!
//! An attribute leaves its function unchanged and adds one item, the export. The item is a `const _`, so it
//! takes no name from the guest. This crate reads only the head of the function (`signature`), so that
//! mistakes there get messages of their own. Traits of `wpool-guest` decide in the expanded code how a type
//! is read and written.

mod derive;
mod expand;
mod names;
mod signature;
mod task;

use proc_macro::TokenStream;

use crate::signature::{Error, Form, Signature};

// Hidden: wpool-guest re-exports the attributes with documentation of its own.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn task(attribute: TokenStream, item: TokenStream) -> TokenStream {
    export("task", item, |signature| task::task(signature, Form::parse(attribute)?))
}

#[doc(hidden)]
#[proc_macro_attribute]
pub fn init(attribute: TokenStream, item: TokenStream) -> TokenStream {
    export("init", item, |signature| {
        signature::no_attribute_arguments("init", attribute)?;
        signature.at_most_one_argument(
            "an initializer takes one `Vec<String>` with all its arguments, or nothing",
        )?;
        Ok(expand::init(signature))
    })
}

#[doc(hidden)]
#[proc_macro_attribute]
pub fn shutdown(attribute: TokenStream, item: TokenStream) -> TokenStream {
    export("shutdown", item, |signature| {
        signature::no_attribute_arguments("shutdown", attribute)?;
        signature.no_argument("a shutdown function takes nothing")?;
        signature.no_result("a shutdown function returns nothing")?;
        Ok(expand::shutdown(signature))
    })
}

#[doc(hidden)]
#[proc_macro_derive(ComponentType, attributes(component))]
pub fn component_type(item: TokenStream) -> TokenStream {
    derive::component_type(item).unwrap_or_else(Error::into_tokens)
}

/// The item, followed by its export or by an error at the place of the mistake. The item stays after a
/// mistake, too: otherwise the compiler would also report the function as missing.
fn export(
    attribute_name: &str,
    item: TokenStream,
    expansion: impl FnOnce(&Signature) -> Result<TokenStream, Error>,
) -> TokenStream {
    let expanded = Signature::parse(attribute_name, item.clone()).and_then(|signature| expansion(&signature));
    let mut output = item;
    output.extend(expanded.unwrap_or_else(|error| error.into_tokens()));
    output
}
