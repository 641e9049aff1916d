//! The items that the attributes add. They are written as text and then parsed: the text is short, and only a
//! name and the places for messages vary.

use proc_macro::{Group, Span, TokenStream, TokenTree};

use crate::signature::Signature;

/// The export `init`. Its function takes the arguments, or none.
pub(crate) fn init(signature: &Signature) -> TokenStream {
    let name = TokenStream::from(TokenTree::Ident(signature.name.clone()));
    let call = match signature.arguments.first() {
        Some(argument) => at(argument.ty.span, "let __returned = __init(__arguments);"),
        None => here("let __returned = __init();"),
    };
    // The trait `Hook` accepts `()` and `Result<(), E>`, and reports any other type at its place.
    let result = at(signature.result_span(), "__wpool::Hook::outcome(__returned)");
    let export = template(
        "fn __run(__arguments: __wpool::Vec<__wpool::String>) -> __wpool::Result<(), __wpool::String> {
             __body
         }
         #[cfg(target_arch = \"wasm32\")]
         const _: () = {
             struct Init;
             impl __wpool::bindings::init::Guest for Init {
                 fn init(args: __wpool::Vec<__wpool::String>) -> __wpool::Result<(), __wpool::String> {
                     __run(args)
                 }
             }
             __wpool::bindings::init::export_init!(Init with_types_in __wpool::bindings::init);
         };",
        "__body",
        [call, result].into_iter().collect(),
    );
    wrap(signature, "a_component_has_one_initializer", substitute(export, "__init", &name))
}

/// The export `shutdown`.
pub(crate) fn shutdown(signature: &Signature) -> TokenStream {
    let name = TokenStream::from(TokenTree::Ident(signature.name.clone()));
    let export = here(
        "fn __run() {
             __shutdown()
         }
         #[cfg(target_arch = \"wasm32\")]
         const _: () = {
             struct Shutdown;
             impl __wpool::bindings::shutdown::Guest for Shutdown {
                 fn shutdown() {
                     __run()
                 }
             }
             __wpool::bindings::shutdown::export_shutdown!(Shutdown with_types_in __wpool::bindings::shutdown);
         };",
    );
    wrap(signature, "a_component_has_one_shutdown", substitute(export, "__shutdown", &name))
}

/// Puts an export into a `const _`, and adds a macro with the name `once` beside it.
///
/// Nothing uses the macro. An exported macro's name is taken in the whole crate, so a second export with the
/// same name in another module is an error with this name in its message. Without it, that export would be a
/// duplicate symbol when the component is linked.
pub(crate) fn wrap(signature: &Signature, once: &str, export: TokenStream) -> TokenStream {
    let mut tokens = template(
        "#[allow(dead_code, unused, clippy::all, clippy::pedantic)]
         const _: () = {
             use ::wpool_guest::__private as __wpool;
             __export
         };",
        "__export",
        export,
    );
    tokens.extend(at(
        signature.name.span(),
        &format!(
            "#[doc(hidden)] #[allow(non_local_definitions)] #[macro_export] \
             macro_rules! {once} {{ () => {{}} }}"
        ),
    ));
    tokens
}

/// The tokens of this text. The compiler shows errors in them at the attribute.
pub(crate) fn here(text: &str) -> TokenStream {
    text.parse().expect("all texts of this file are valid tokens")
}

/// The tokens of this text. The compiler shows errors in them at `span`; names are resolved as in the
/// expansion.
pub(crate) fn at(span: Span, text: &str) -> TokenStream {
    respan(here(text), span.resolved_at(Span::call_site()))
}

/// Groups need this at each depth: setting the place of a group leaves its contents as they are.
fn respan(tokens: TokenStream, span: Span) -> TokenStream {
    let each = tokens.into_iter().map(|mut token| {
        if let TokenTree::Group(group) = &token {
            token = Group::new(group.delimiter(), respan(group.stream(), span)).into();
        }
        token.set_span(span);
        token
    });
    each.collect()
}

/// The tokens of this text, with `others` in place of the name `name`.
pub(crate) fn template(text: &str, name: &str, others: TokenStream) -> TokenStream {
    substitute(here(text), name, &others)
}

pub(crate) fn substitute(tokens: TokenStream, name: &str, others: &TokenStream) -> TokenStream {
    let each = tokens.into_iter().map(|token| match token {
        TokenTree::Ident(ident) if ident.to_string() == name => others.clone(),
        TokenTree::Group(group) => {
            let mut inner = Group::new(group.delimiter(), substitute(group.stream(), name, others));
            inner.set_span(group.span());
            TokenTree::from(inner).into()
        }
        token => token.into(),
    });
    each.collect()
}
