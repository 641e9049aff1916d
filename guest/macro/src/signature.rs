//! Reads the head of a function: its name, the number of its arguments, and the places of its types in the
//! source.

use std::iter::Peekable;

use proc_macro::token_stream::IntoIter;
use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

/// The parts of a function's head that its export needs.
pub(crate) struct Signature {
    pub(crate) name: Ident,
    /// The place of each argument's type.
    pub(crate) arguments: Vec<Span>,
    /// The place of the result's type; `None` for a function without `->`.
    pub(crate) result: Option<Span>,
}

/// A mistake and its place.
pub(crate) struct Error {
    message: String,
    span: Span,
}

type Tokens = Peekable<IntoIter>;

impl Signature {
    pub(crate) fn parse(attribute: &str, item: TokenStream) -> Result<Self, Error> {
        let tokens = &mut item.into_iter().peekable();
        skip_to_fn(attribute, tokens)?;
        let Some(TokenTree::Ident(name)) = tokens.next() else {
            return Err(not_a_function(attribute, Span::call_site()));
        };
        refuse_generics(attribute, &name, tokens)?;
        let Some(TokenTree::Group(list)) = tokens.next() else {
            return Err(not_a_function(attribute, name.span()));
        };
        let arguments = split_at_commas(list.stream())
            .into_iter()
            .map(|argument| argument_type(attribute, argument))
            .collect::<Result<_, Error>>()?;
        let result = result_type(tokens);
        Ok(Signature { name, arguments, result })
    }

    pub(crate) fn at_most_one_argument(&self, otherwise: &str) -> Result<(), Error> {
        self.arguments.get(1).map_or(Ok(()), |second| Err(Error::new(otherwise, *second)))
    }

    pub(crate) fn no_argument(&self, otherwise: &str) -> Result<(), Error> {
        self.arguments.first().map_or(Ok(()), |first| Err(Error::new(otherwise, *first)))
    }

    pub(crate) fn no_result(&self, otherwise: &str) -> Result<(), Error> {
        self.result.map_or(Ok(()), |result| Err(Error::new(otherwise, result)))
    }
}

pub(crate) fn no_attribute_arguments(attribute: &str, arguments: TokenStream) -> Result<(), Error> {
    match arguments.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(Error::new(format!("#[{attribute}] takes no arguments"), first.span())),
    }
}

/// Skips attributes, visibility and qualifiers, up to and with `fn`.
fn skip_to_fn(attribute: &str, tokens: &mut Tokens) -> Result<(), Error> {
    let mut last = Span::call_site();
    for token in tokens.by_ref() {
        last = token.span();
        let TokenTree::Ident(word) = &token else {
            // One of `#[..]`, `(crate)`, the "C" of `extern "C"`, or a `pub` that a macro has put into a
            // group.
            continue;
        };
        let refusal = match word.to_string().as_str() {
            "fn" => return Ok(()),
            // A `const fn` is called like any other.
            "pub" | "const" => continue,
            "async" => "cannot be async: the host waits for its result",
            "unsafe" => "cannot be unsafe: the host calls it with any record",
            "extern" => "cannot be extern: the export is made by the attribute",
            _ => return Err(not_a_function(attribute, last)),
        };
        return Err(Error::new(format!("the function of #[{attribute}] {refusal}"), last));
    }
    Err(not_a_function(attribute, last))
}

fn not_a_function(attribute: &str, span: Span) -> Error {
    Error::new(format!("#[{attribute}] goes on a function"), span)
}

/// Skips `<'a>`. A lifetime is allowed. Type and constant parameters are not: the export is one function, and
/// the host could not choose its parameters.
fn refuse_generics(attribute: &str, name: &Ident, tokens: &mut Tokens) -> Result<(), Error> {
    if !tokens.peek().is_some_and(|token| is_punct(token, '<')) {
        return Ok(());
    }
    let mut depth = 0;
    let mut after_quote = false;
    for token in tokens.by_ref() {
        if is_punct(&token, '<') {
            depth += 1;
        } else if is_punct(&token, '>') {
            depth -= 1;
        } else if matches!(token, TokenTree::Ident(_)) && !after_quote {
            return Err(generic(attribute, token.span()));
        }
        // A lifetime is two tokens, a quote and a name. Any other name is a parameter or its bound.
        after_quote = is_punct(&token, '\'');
        if depth == 0 {
            return Ok(());
        }
    }
    Err(not_a_function(attribute, name.span()))
}

fn generic(attribute: &str, span: Span) -> Error {
    Error::new(
        format!("the function of #[{attribute}] cannot be generic: it is exported as one function"),
        span,
    )
}

fn split_at_commas(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let mut parts = vec![vec![]];
    let mut depth = 0;
    let mut after_dash = false;
    for token in tokens {
        // The `>` of an arrow `->` closes no list of parameters.
        if is_punct(&token, '<') {
            depth += 1;
        } else if is_punct(&token, '>') && !after_dash {
            depth -= 1;
        }
        after_dash = is_punct(&token, '-');
        if depth == 0 && is_punct(&token, ',') {
            parts.push(vec![]);
        } else if let Some(part) = parts.last_mut() {
            part.push(token);
        }
    }
    // `(a, b,)` has an empty part after its last comma, and `()` has a single empty part.
    parts.retain(|part| !part.is_empty());
    parts
}

/// The place of an argument's type: its first token.
fn argument_type(attribute: &str, argument: Vec<TokenTree>) -> Result<Span, Error> {
    if let Some(receiver) = receiver(&argument) {
        let message = format!("#[{attribute}] goes on a function, not on a method");
        return Err(Error::new(message, receiver));
    }
    let ty = argument.get(colon(&argument).map_or(0, |colon| colon + 1)..).unwrap_or_default();
    if let Some(word) = find_impl(ty) {
        return Err(generic(attribute, word));
    }
    Ok(ty.first().map_or_else(Span::call_site, TokenTree::span))
}

/// The place of `self` in `self`, `&self`, `&'a mut self` or `self: ..`.
fn receiver(argument: &[TokenTree]) -> Option<Span> {
    let pattern = &argument[..colon(argument).unwrap_or(argument.len())];
    let last = pattern.last()?;
    is_word(last, "self").then(|| last.span())
}

/// The index of the single colon between the pattern and the type.
fn colon(argument: &[TokenTree]) -> Option<usize> {
    let is_colon = |at: usize| argument.get(at).is_some_and(|token| is_punct(token, ':'));
    (0..argument.len())
        .find(|&at| is_colon(at) && !is_colon(at + 1) && !at.checked_sub(1).is_some_and(is_colon))
}

/// The place of a first `impl` in this type.
fn find_impl(ty: &[TokenTree]) -> Option<Span> {
    ty.iter().find_map(|token| match token {
        TokenTree::Group(group) => find_impl(&contents(group)),
        token => is_word(token, "impl").then(|| token.span()),
    })
}

fn contents(group: &Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

/// The place of the type after `->`, if the function has one.
fn result_type(tokens: &mut Tokens) -> Option<Span> {
    // An arrow is two tokens.
    tokens.next_if(|token| is_punct(token, '-'))?;
    tokens.next_if(|token| is_punct(token, '>'))?;
    let is_body =
        |token: &TokenTree| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
    tokens.next_if(|token| !is_body(token)).map(|token| token.span())
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident.to_string() == word)
}

impl Error {
    fn new(message: impl Into<String>, span: Span) -> Self {
        Error { message: message.into(), span }
    }

    /// `::core::compile_error! { "the message" }`: rustc shows the message at the place of the mistake.
    pub(crate) fn into_tokens(self) -> TokenStream {
        crate::expand::at(self.span, &format!("::core::compile_error! {{ {:?} }}", self.message))
    }
}
