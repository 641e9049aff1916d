//! Reads the head of a function: its name, the names and the types of its arguments, and the type of its
//! result.

use std::iter::Peekable;

use proc_macro::token_stream::IntoIter;
use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

/// The parts of a function's head that its export needs.
pub(crate) struct Signature {
    pub(crate) name: Ident,
    pub(crate) arguments: Vec<Argument>,
    /// `None` for a function without `->`.
    pub(crate) result: Option<Type>,
}

pub(crate) struct Argument {
    /// `None` for a pattern of several names, and for `_`.
    pub(crate) name: Option<Ident>,
    pub(crate) ty: Type,
}

/// The text of a type, and its place in the source.
pub(crate) struct Type {
    pub(crate) tokens: Vec<TokenTree>,
    pub(crate) span: Span,
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
            .map(|argument| parse_argument(attribute, argument))
            .collect::<Result<_, Error>>()?;
        let result = result_type(attribute, tokens)?;
        Ok(Signature { name, arguments, result })
    }

    /// The place of the result's type, or of the name of a function without one.
    pub(crate) fn result_span(&self) -> Span {
        self.result.as_ref().map_or_else(|| self.name.span(), |result| result.span)
    }

    pub(crate) fn at_most_one_argument(&self, otherwise: &str) -> Result<(), Error> {
        self.arguments.get(1).map_or(Ok(()), |second| Err(Error::new(otherwise, second.ty.span)))
    }

    pub(crate) fn no_argument(&self, otherwise: &str) -> Result<(), Error> {
        self.arguments.first().map_or(Ok(()), |first| Err(Error::new(otherwise, first.ty.span)))
    }

    pub(crate) fn no_result(&self, otherwise: &str) -> Result<(), Error> {
        self.result.as_ref().map_or(Ok(()), |result| Err(Error::new(otherwise, result.span)))
    }
}

/// How the values of a task are passed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    /// With their WIT types.
    Typed,
    /// As the bytes of a record: JSON, for types of serde.
    Json,
}

impl Form {
    /// From the arguments of the attribute.
    pub(crate) fn parse(arguments: TokenStream) -> Result<Self, Error> {
        let arguments: Vec<TokenTree> = arguments.into_iter().collect();
        match &arguments[..] {
            [] => Ok(Form::Typed),
            [word] if is_word(word, "json") => Ok(Form::Json),
            [first, ..] => {
                Err(Error::new("#[task] takes no arguments but `json`: `#[task(json)]`", first.span()))
            }
        }
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
            "async" => {
                "cannot be async: the host waits for its result. Leave out `async`; many tasks run at the \
                 same time in the workers of a pool"
            }
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
        format!(
            "the function of #[{attribute}] cannot be generic: it is exported as one function. Name a type, \
             or write a function for each"
        ),
        span,
    )
}

pub(crate) fn split_at_commas(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
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

fn parse_argument(attribute: &str, argument: Vec<TokenTree>) -> Result<Argument, Error> {
    if let Some(receiver) = receiver(&argument) {
        let message = format!(
            "#[{attribute}] goes on a function, not on a method: write a function beside the `impl`, which \
             may call the method"
        );
        return Err(Error::new(message, receiver));
    }
    let (pattern, ty) = match colon(&argument) {
        Some(colon) => (&argument[..colon], &argument[colon + 1..]),
        None => (&argument[..0], &argument[..]),
    };
    Ok(Argument { name: bound_name(pattern), ty: parse_type(attribute, ty)? })
}

/// The name in `name`, `mut name` or `#[..] name`.
fn bound_name(pattern: &[TokenTree]) -> Option<Ident> {
    match pattern {
        [TokenTree::Ident(name)] if name.to_string() != "_" => Some(name.clone()),
        [TokenTree::Ident(word), rest @ ..] if word.to_string() == "mut" => bound_name(rest),
        [TokenTree::Punct(hash), TokenTree::Group(_), rest @ ..] if hash.as_char() == '#' => bound_name(rest),
        _ => None,
    }
}

fn parse_type(attribute: &str, ty: &[TokenTree]) -> Result<Type, Error> {
    if let Some(word) = find_impl(ty) {
        return Err(generic(attribute, word));
    }
    let span = ty.first().map_or_else(Span::call_site, TokenTree::span);
    Ok(Type { tokens: ty.to_vec(), span })
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

/// The type after `->`, if the function has one.
fn result_type(attribute: &str, tokens: &mut Tokens) -> Result<Option<Type>, Error> {
    // An arrow is two tokens.
    let has_arrow = tokens.next_if(|token| is_punct(token, '-')).is_some()
        && tokens.next_if(|token| is_punct(token, '>')).is_some();
    if !has_arrow {
        return Ok(None);
    }
    let is_body =
        |token: &TokenTree| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
    let mut ty = Vec::new();
    while let Some(token) = tokens.next_if(|token| !is_body(token) && !is_word(token, "where")) {
        ty.push(token);
    }
    parse_type(attribute, &ty).map(Some)
}

impl Type {
    /// The type with `'_` for each lifetime of the function. `'static` stays.
    pub(crate) fn anonymous(&self) -> TokenStream {
        without_lifetimes(&self.tokens)
    }

    /// The type behind `&`, if it is a reference, and whether the reference is `&mut`.
    pub(crate) fn referent(&self) -> Option<(TokenStream, bool)> {
        let mut rest = match &self.tokens[..] {
            [first, rest @ ..] if is_punct(first, '&') => rest,
            _ => return None,
        };
        if let [quote, _, after @ ..] = rest
            && is_punct(quote, '\'')
        {
            rest = after;
        }
        let is_mut = rest.first().is_some_and(|token| is_word(token, "mut"));
        Some((without_lifetimes(&rest[usize::from(is_mut)..]), is_mut))
    }

    /// Whether this may be a `Result`: by its name, since only the compiler knows what it is.
    pub(crate) fn is_named_result(&self) -> bool {
        let generics = self.tokens.iter().position(|token| is_punct(token, '<')).unwrap_or(self.tokens.len());
        let name = generics.checked_sub(1).map(|last| self.tokens[last].to_string());
        name.is_some_and(|name| name.ends_with("Result"))
    }

    /// Whether the type reads as a string or bytes.
    pub(crate) fn is_record(&self) -> bool {
        is_record(&self.text())
    }

    /// Whether the type reads as a string or bytes, or as a `Result` of these.
    pub(crate) fn is_record_result(&self) -> bool {
        let text = self.text();
        let ok = text.split_once("Result<").map_or(&*text, |(_, inside)| {
            inside.split_once(',').map_or(inside.trim_end_matches('>'), |(ok, _)| ok)
        });
        is_record(ok)
    }

    /// The type without white space and lifetimes.
    fn text(&self) -> String {
        let text = self.anonymous().to_string().replace("'_", "").replace("'static", "");
        text.split_whitespace().collect()
    }
}

fn is_record(text: &str) -> bool {
    matches!(text, "String" | "&str" | "Vec<u8>" | "&[u8]")
}

fn without_lifetimes(tokens: &[TokenTree]) -> TokenStream {
    let mut after_quote = false;
    let each = tokens.iter().map(|token| {
        let is_lifetime = std::mem::replace(&mut after_quote, is_punct(token, '\''));
        match token {
            TokenTree::Ident(name) if is_lifetime && name.to_string() != "static" => {
                TokenTree::Ident(Ident::new("_", name.span()))
            }
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), without_lifetimes(&contents(group)));
                inner.set_span(group.span());
                inner.into()
            }
            token => token.clone(),
        }
    });
    each.collect()
}

pub(crate) fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

pub(crate) fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident.to_string() == word)
}

impl Error {
    pub(crate) fn new(message: impl Into<String>, span: Span) -> Self {
        Error { message: message.into(), span }
    }

    /// `::core::compile_error! { "the message" }`: rustc shows the message at the place of the mistake.
    pub(crate) fn into_tokens(self) -> TokenStream {
        crate::expand::at(self.span, &format!("::core::compile_error! {{ {:?} }}", self.message))
    }
}
