//! From the names of Rust to those of WIT, which are in kebab-case.

use proc_macro::{Ident, Span};

use crate::signature::Error;

/// `count_words` and `CountWords` as `count-words`. A word of WIT begins with a letter, so a number belongs
/// to the word before it: `to_utf_8` is `to-utf8`.
pub(crate) fn kebab(ident: &Ident) -> Result<String, Error> {
    let text = ident.to_string();
    let text = text.trim_start_matches("r#").trim_matches('_');
    let refused =
        |reason: &str| Err(Error::new(format!("`{ident}` cannot be a name in WIT: {reason}"), ident.span()));
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return refused("it may have the letters a to z, digits and hyphens");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return refused("it begins with a letter");
    }
    Ok(kebab_of(text))
}

fn kebab_of(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut name = String::new();
    for (at, &letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| letters[at]);
        let after = letters.get(at + 1);
        // `HTTPError` is two words: an upper letter after a lower one begins a word, and the last of several
        // upper ones before a lower one.
        let begins = letter.is_ascii_uppercase()
            && before.is_some_and(|before| {
                !before.is_ascii_uppercase() || after.is_some_and(|after| after.is_ascii_lowercase())
            });
        let is_word = begins || before == Some('_');
        if letter != '_' {
            if is_word && letter.is_ascii_alphabetic() && !name.ends_with('-') {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
    }
    name
}

/// The name of a task. Some names mean something else to the host.
pub(crate) fn task_name(ident: &Ident) -> Result<String, Error> {
    let name = kebab(ident)?;
    let taken =
        |what: &str| Err(Error::new(format!("a task cannot be named `{ident}`: {what}"), ident.span()));
    match name.as_str() {
        "init" => taken("that is the name of the initializer, `#[wpool_guest::init]`"),
        "shutdown" => taken("that is the name of the last call, `#[wpool_guest::shutdown]`"),
        name if name.ends_with("-many") => {
            taken("names that end in `many` are those of calls for many records")
        }
        _ => Ok(name),
    }
}

/// The name of a parameter, which `--kw` uses. One without a name is called by its place, from 1 on.
pub(crate) fn parameter_name(ident: Option<&Ident>, at: usize) -> Result<String, Error> {
    match ident {
        Some(ident) => kebab(ident),
        None => Ok(format!("arg{}", at + 1)),
    }
}

/// An identifier of its own for the place `at`.
pub(crate) fn variable(at: usize) -> Ident {
    Ident::new(&format!("__argument{at}"), Span::mixed_site())
}
