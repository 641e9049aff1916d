//! The attributes of `wpool-guest`, which re-exports and documents them.
//!
//! An attribute leaves its function as it is and adds one item: the export, in a `const _` so that it takes no name from
//! the guest. What the types mean is decided by traits of `wpool-guest` in the expanded code; here only the function's head
//! is read (see `signature`), so that mistakes in it get messages of their own.

mod expand;
mod signature;

use proc_macro::TokenStream;

use crate::signature::{Error, Signature};

#[doc(hidden)]
#[proc_macro_attribute]
pub fn task(attribute: TokenStream, item: TokenStream) -> TokenStream {
    export("task", attribute, item, |signature| {
        signature
            .at_most_one_argument("a task takes one record: use a tuple or a struct for several values (as JSON)")?;
        Ok(expand::task(signature))
    })
}

#[doc(hidden)]
#[proc_macro_attribute]
pub fn init(attribute: TokenStream, item: TokenStream) -> TokenStream {
    export("init", attribute, item, |signature| {
        signature.at_most_one_argument("an initializer takes all its arguments as one `Vec<String>`, or nothing")?;
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

/// The item, followed by its export or by an error at the place of the mistake. The item stays in either case, so that
/// there are no further errors about the missing function.
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
