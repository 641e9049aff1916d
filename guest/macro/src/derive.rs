//! `#[derive(ComponentType)]`: a struct is a record or flags, an enum is an enum or a variant.

use proc_macro::{Delimiter, Group, Ident, Literal, Span, TokenStream, TokenTree};

use crate::expand::{at, here, substitute};
use crate::names::kebab;
use crate::signature::{Error, is_punct, is_word, split_at_commas};

/// The three implementations for a type.
pub(crate) fn component_type(item: TokenStream) -> Result<TokenStream, Error> {
    let item = Item::parse(item)?;
    let parts = match (&item.kind, item.is_flags) {
        (Kind::Struct(fields), false) => record(&item, fields)?,
        (Kind::Struct(fields), true) => flags(&item, fields)?,
        (Kind::Enum(cases), false) if cases.iter().all(|case| case.payload.is_empty()) => {
            plain(&item, cases)?
        }
        (Kind::Enum(cases), false) => variant(&item, cases)?,
        (Kind::Enum(_), true) => {
            return Err(Error::new("flags are a struct whose fields are `bool`", item.name.span()));
        }
    };
    let items = here(
        "#[allow(dead_code, unused, clippy::all, clippy::pedantic)]
         const _: () = {
             use ::wpool_guest::__private as __wpool;
             impl __wpool::typed::ComponentType for __Self {
                 const TYPE: &'static __wpool::typed::Type = &{
                     use __wpool::typed::Undescribed as _;
                     __type
                 };
             }
             impl __wpool::typed::Lift for __Self {
                 fn lift(__source: &mut __wpool::typed::Source<'_>) -> Self {
                     const LAYOUT: __wpool::typed::Layout =
                         __wpool::typed::Layout::of(<__Self as __wpool::typed::ComponentType>::TYPE);
                     __lift
                 }
             }
             impl __wpool::typed::Lower for __Self {
                 fn lower(self, __sink: &mut __wpool::typed::Sink<'_>) {
                     const LAYOUT: __wpool::typed::Layout =
                         __wpool::typed::Layout::of(<__Self as __wpool::typed::ComponentType>::TYPE);
                     __lower
                 }
             }
         };",
    );
    let name = ident(&item.name);
    let Parts { ty, lift, lower } = parts;
    let filled = [("__type", ty), ("__lift", lift), ("__lower", lower), ("__Self", name)];
    Ok(filled.into_iter().fold(items, |items, (name, tokens)| substitute(items, name, &tokens)))
}

/// The texts that differ between the kinds of types.
struct Parts {
    ty: TokenStream,
    lift: TokenStream,
    lower: TokenStream,
}

struct Item {
    name: Ident,
    /// `#[component(flags)]`
    is_flags: bool,
    kind: Kind,
}

enum Kind {
    Struct(Vec<Field>),
    Enum(Vec<Case>),
}

struct Field {
    name: Ident,
    ty: TokenStream,
    span: Span,
}

struct Case {
    name: Ident,
    /// The types of its values.
    payload: Vec<(TokenStream, Span)>,
}

impl Item {
    fn parse(item: TokenStream) -> Result<Self, Error> {
        let mut tokens = item.into_iter().peekable();
        let mut is_flags = false;
        let is_struct = loop {
            match tokens.next() {
                Some(TokenTree::Group(group)) => is_flags |= is_flags_attribute(&group)?,
                Some(token) if is_word(&token, "struct") => break true,
                Some(token) if is_word(&token, "enum") => break false,
                Some(token) if is_word(&token, "union") => {
                    return Err(Error::new("a union has no WIT type: write an enum", token.span()));
                }
                Some(_) => {}
                None => return Err(Error::new("only a struct or an enum has a WIT type", Span::call_site())),
            }
        };
        let Some(TokenTree::Ident(name)) = tokens.next() else {
            return Err(Error::new("a type with a name is expected here", Span::call_site()));
        };
        if tokens.peek().is_some_and(|token| is_punct(token, '<')) {
            let message = "a generic type has no WIT type, since each of its forms would need a name: \
                           write a type for each. Fields own their values: `String` for `&str`";
            return Err(Error::new(message, name.span()));
        }
        let body = match tokens.next() {
            Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace => body,
            _ => {
                let message = "a WIT record has a name for each field: write `struct Name { field: Type }`";
                return Err(Error::new(message, name.span()));
            }
        };
        let parts = split_at_commas(body.stream());
        if parts.is_empty() {
            return Err(Error::new("a WIT type has at least one field or case", name.span()));
        }
        let kind = match is_struct {
            true => Kind::Struct(parts.iter().map(|part| Field::parse(part)).collect::<Result<_, _>>()?),
            false => Kind::Enum(parts.iter().map(|part| Case::parse(part)).collect::<Result<_, _>>()?),
        };
        Ok(Item { name, is_flags, kind })
    }
}

/// Whether these brackets are `[component(flags)]`. An error for another word.
fn is_flags_attribute(brackets: &Group) -> Result<bool, Error> {
    let tokens: Vec<TokenTree> = brackets.stream().into_iter().collect();
    match &tokens[..] {
        [name, TokenTree::Group(words)] if is_word(name, "component") => {
            if words.stream().to_string() == "flags" {
                return Ok(true);
            }
            Err(Error::new("#[component(..)] knows the word `flags`", words.span()))
        }
        _ => Ok(false),
    }
}

/// The tokens behind attributes and visibility.
fn without_head(mut tokens: &[TokenTree]) -> &[TokenTree] {
    loop {
        tokens = match tokens {
            [hash, TokenTree::Group(_), rest @ ..] if is_punct(hash, '#') => rest,
            [public, TokenTree::Group(group), rest @ ..]
                if is_word(public, "pub") && group.delimiter() == Delimiter::Parenthesis =>
            {
                rest
            }
            [public, rest @ ..] if is_word(public, "pub") => rest,
            _ => return tokens,
        }
    }
}

impl Field {
    fn parse(part: &[TokenTree]) -> Result<Self, Error> {
        match without_head(part) {
            [TokenTree::Ident(name), colon, ty @ ..] if is_punct(colon, ':') => {
                let span = ty.first().map_or(name.span(), TokenTree::span);
                Ok(Field { name: name.clone(), ty: ty.iter().cloned().collect(), span })
            }
            _ => Err(Error::new("a field with a name is expected here", place(part))),
        }
    }
}

impl Case {
    fn parse(part: &[TokenTree]) -> Result<Self, Error> {
        let (name, rest) = match without_head(part) {
            [TokenTree::Ident(name), rest @ ..] => (name.clone(), rest),
            _ => return Err(Error::new("a case is expected here", place(part))),
        };
        let payload = match rest {
            [TokenTree::Group(values), ..] if values.delimiter() == Delimiter::Parenthesis => {
                let types = split_at_commas(values.stream());
                types
                    .iter()
                    .map(|ty| without_head(ty))
                    .map(|ty| (ty.iter().cloned().collect(), place(ty)))
                    .collect()
            }
            [TokenTree::Group(_), ..] => {
                let message = "a case of a WIT variant has no names for its values: give it a struct of its \
                               own, as in `Case(Values)`";
                return Err(Error::new(message, name.span()));
            }
            // A number, as in `Case = 3`, is one of Rust alone.
            _ => Vec::new(),
        };
        Ok(Case { name, payload })
    }
}

fn place(tokens: &[TokenTree]) -> Span {
    tokens.first().map_or_else(Span::call_site, TokenTree::span)
}

fn record(item: &Item, fields: &[Field]) -> Result<Parts, Error> {
    let (mut named, mut lifts, mut lowers) = (TokenStream::new(), TokenStream::new(), TokenStream::new());
    for field in fields {
        named.extend(named_type(&field.name, &field.ty, field.span)?);
        let field_name = ident(&field.name);
        let lift = at(field.span, "__field: <__T as __wpool::typed::Lift>::lift(__source),");
        lifts.extend(substitute(substitute(lift, "__T", &field.ty), "__field", &field_name));
        let lower = at(field.span, "<__T as __wpool::typed::Lower>::lower(self.__field, __sink);");
        lowers.extend(substitute(substitute(lower, "__T", &field.ty), "__field", &field_name));
    }
    let ty = here("__wpool::typed::Type::Record { name: __name, fields: &[__named] }");
    Ok(Parts {
        ty: substitute(substitute(ty, "__named", &named), "__name", &text(&kebab(&item.name)?)),
        lift: substitute(here("__source.group(LAYOUT, |__source| __Self { __fields })"), "__fields", &lifts),
        lower: substitute(here("__sink.group(LAYOUT, |__sink| { __fields })"), "__fields", &lowers),
    })
}

fn flags(item: &Item, fields: &[Field]) -> Result<Parts, Error> {
    let (mut names, mut lifts, mut lowers) = (TokenStream::new(), TokenStream::new(), TokenStream::new());
    for (bit, field) in fields.iter().enumerate() {
        if field.ty.to_string() != "bool" {
            return Err(Error::new("each field of flags is a `bool`", field.span));
        }
        names.extend([text(&kebab(&field.name)?), here(",")]);
        let field_name = ident(&field.name);
        let lift = here(&format!("__field: (__flags >> {bit}) & 1 != 0,"));
        lifts.extend(substitute(lift, "__field", &field_name));
        let lower = here(&format!("| (u32::from(self.__field) << {bit})"));
        lowers.extend(substitute(lower, "__field", &field_name));
    }
    let count = fields.len();
    if count > 32 {
        return Err(Error::new("a type has at most 32 flags", item.name.span()));
    }
    let ty = here("__wpool::typed::Type::Flags { name: __name, flags: &[__names] }");
    let lift = here(&format!(
        "{{ let __flags = __wpool::typed::lift_flags(__source, {count}); __Self {{ __fields }} }}"
    ));
    let lower = here(&format!("__wpool::typed::lower_flags(__sink, {count}, 0 __fields)"));
    Ok(Parts {
        ty: substitute(substitute(ty, "__names", &names), "__name", &text(&kebab(&item.name)?)),
        lift: substitute(lift, "__fields", &lifts),
        lower: substitute(lower, "__fields", &lowers),
    })
}

/// An enum whose cases have no values.
fn plain(item: &Item, cases: &[Case]) -> Result<Parts, Error> {
    let (mut names, mut lifts, mut lowers) = (TokenStream::new(), TokenStream::new(), TokenStream::new());
    for (number, case) in cases.iter().enumerate() {
        names.extend([text(&kebab(&case.name)?), here(",")]);
        let name = ident(&case.name);
        // The host has checked the number: it is one of these.
        let pattern = if number + 1 == cases.len() { "_".to_owned() } else { number.to_string() };
        lifts.extend(substitute(here(&format!("{pattern} => __Self::__case,")), "__case", &name));
        lowers.extend(substitute(here(&format!("__Self::__case => {number},")), "__case", &name));
    }
    let count = cases.len();
    let ty = here("__wpool::typed::Type::Enum { name: __name, cases: &[__names] }");
    let lift = here(&format!("match __wpool::typed::lift_enum(__source, {count}) {{ __cases }}"));
    let lower = here(&format!("__wpool::typed::lower_enum(__sink, {count}, match self {{ __cases }})"));
    Ok(Parts {
        ty: substitute(substitute(ty, "__names", &names), "__name", &text(&kebab(&item.name)?)),
        lift: substitute(lift, "__cases", &lifts),
        lower: substitute(lower, "__cases", &lowers),
    })
}

/// An enum of which a case has values. Several values of a case are a tuple.
fn variant(item: &Item, cases: &[Case]) -> Result<Parts, Error> {
    let (mut named, mut lifts, mut lowers) = (TokenStream::new(), TokenStream::new(), TokenStream::new());
    for (number, case) in cases.iter().enumerate() {
        let name = ident(&case.name);
        let span = case.payload.first().map_or(case.name.span(), |(_, span)| *span);
        let ty = payload_type(&case.payload);
        named.extend(named_type(&case.name, &ty, span)?);
        let values = (0..case.payload.len()).map(|at| format!("__value{at}")).collect::<Vec<_>>().join(", ");
        let pattern = if case.payload.is_empty() { String::new() } else { format!("({values})") };
        // A tuple of one value is the value.
        let tuple = if case.payload.len() == 1 { values } else { format!("({values})") };
        let which = if number + 1 == cases.len() { "_".to_owned() } else { number.to_string() };
        let lift = at(
            span,
            &format!(
                "{which} => {{
                     let {tuple} = <__T as __wpool::typed::Lift>::lift(__source);
                     __Self::__case {pattern}
                 }}"
            ),
        );
        lifts.extend(substitute(substitute(lift, "__T", &ty), "__case", &name));
        let lower = at(
            span,
            &format!(
                "__Self::__case {pattern} => {{
                     __sink.case(LAYOUT, {number});
                     <__T as __wpool::typed::Lower>::lower({tuple}, __sink)
                 }}"
            ),
        );
        lowers.extend(substitute(substitute(lower, "__T", &ty), "__case", &name));
    }
    let ty = here("__wpool::typed::Type::Variant { name: __name, cases: &[__named] }");
    Ok(Parts {
        ty: substitute(substitute(ty, "__named", &named), "__name", &text(&kebab(&item.name)?)),
        lift: substitute(
            here("__source.group(LAYOUT, |__source| match __source.case(LAYOUT) { __cases })"),
            "__cases",
            &lifts,
        ),
        lower: substitute(here("__sink.group(LAYOUT, |__sink| match self { __cases })"), "__cases", &lowers),
    })
}

fn payload_type(payload: &[(TokenStream, Span)]) -> TokenStream {
    if let [(ty, _)] = payload {
        return ty.clone();
    }
    let mut types = TokenStream::new();
    for (ty, _) in payload {
        types.extend(ty.clone());
        types.extend(here(","));
    }
    TokenTree::Group(Group::new(Delimiter::Parenthesis, types)).into()
}

/// The description of a field or of a case.
fn named_type(name: &Ident, ty: &TokenStream, span: Span) -> Result<TokenStream, Error> {
    let name = text(&kebab(name)?);
    let described = "__wpool::typed::Named { name: __name, ty: __wpool::typed::Described::<__T>::TYPE },";
    Ok(substitute(substitute(at(span, described), "__T", ty), "__name", &name))
}

fn text(text: &str) -> TokenStream {
    TokenTree::Literal(Literal::string(text)).into()
}

fn ident(ident: &Ident) -> TokenStream {
    TokenTree::Ident(ident.clone()).into()
}
