//! The exports of a task. They are written as text and then parsed; what varies is put in for names that
//! begin with two underscores.

use proc_macro::{Literal, TokenStream, TokenTree};

use crate::expand::{at, here, substitute, template, wrap};
use crate::names::{parameter_name, task_name, variable};
use crate::signature::{Argument, Error, Form, Signature};

/// The export of the function, and that for many records if it takes a record.
pub(crate) fn task(signature: &Signature, form: Form) -> Result<TokenStream, Error> {
    let name = task_name(&signature.name)?;
    let mut export = match form {
        Form::Typed => typed(signature, &name)?,
        Form::Json => json(signature, &name)?,
    };
    if takes_records(signature, form) {
        export.extend(many(&name));
    }
    let function = TokenTree::Ident(signature.name.clone()).into();
    let once = format!("a_component_has_one_task_named_{}", name.replace('-', "_"));
    Ok(wrap(signature, &once, substitute(export, "__task", &function)))
}

/// Whether the task is one from a record to a result: `run-many` serves these.
fn takes_records(signature: &Signature, form: Form) -> bool {
    match (&signature.arguments[..], form) {
        ([_], Form::Json) => true,
        ([argument], Form::Typed) => {
            argument.ty.is_record()
                && signature.result.as_ref().is_some_and(|result| result.is_record_result())
        }
        _ => false,
    }
}

/// The description of the function, `__FUNCTION`, its call with parameters of the canonical ABI, `__call`,
/// and its call with a record, `__run`.
fn typed(signature: &Signature, name: &str) -> Result<TokenStream, Error> {
    let (mut params, mut lifts, mut passed) = (TokenStream::new(), TokenStream::new(), TokenStream::new());
    for (place, argument) in signature.arguments.iter().enumerate() {
        params.extend(param(argument, place)?);
        lifts.extend(lift(argument, place)?);
        passed.extend(pass(argument, place));
    }
    let result = match &signature.result {
        None => here("&__wpool::typed::Type::Unit"),
        Some(result) => {
            let described = if result.is_named_result() { "Returned" } else { "Described" };
            let text = format!("__wpool::typed::{described}::<__T>::TYPE");
            substitute(at(result.span, &text), "__T", &result.anonymous())
        }
    };
    let items = template(
        "const __FUNCTION: __wpool::typed::Function = {
             use __wpool::typed::{Displayed as _, Undescribed as _};
             __wpool::typed::Function { name: __name, params: &[__params], result: __result }
         };
         fn __call(__source: &mut __wpool::typed::Source<'_>, __sink: __wpool::typed::Sink<'_>) -> u64 {
             use __wpool::typed::Displayed as _;
             __lifts
             let __returned = __task(__passed);
             __sink.write(|__sink| __lower(__returned, __sink))
         }",
        "__params",
        params,
    );
    let items = [("__result", result), ("__lifts", lifts), ("__passed", passed)]
        .into_iter()
        .fold(items, |items, (name, tokens)| substitute(items, name, &tokens));
    let items = substitute(items, "__lower", &returned(signature, "lower"));
    let mut items = substitute(items, "__name", &literal(name));
    if takes_records(signature, Form::Typed) {
        let run = here(
            "fn __run(mut __record: __wpool::Vec<u8>) -> __wpool::Result<__wpool::Vec<u8>, __wpool::String> {
                 use __wpool::typed::Displayed as _;
                 let __argument = match __wpool::FromRecord::from_record(&mut __record) {
                     __wpool::Result::Ok(argument) => argument,
                     __wpool::Result::Err(message) => return __wpool::Result::Err(message),
                 };
                 __into_record(__task(__argument))
             }",
        );
        items.extend(substitute(run, "__into_record", &returned(signature, "into_record")));
    }
    items.extend(export("__call", name));
    Ok(items)
}

/// The function that writes what the task returns.
fn returned(signature: &Signature, method: &str) -> TokenStream {
    let Some(result) = &signature.result else {
        return here(&format!("<() as __wpool::typed::Lower>::{method}"));
    };
    let text = match result.is_named_result() {
        true => format!("__wpool::typed::Returned::<__T>::{method}"),
        false => format!("<__T as __wpool::typed::Lower>::{method}"),
    };
    substitute(at(result.span, &text), "__T", &result.anonymous())
}

/// The description of a parameter.
fn param(argument: &Argument, place: usize) -> Result<TokenStream, Error> {
    let name = parameter_name(argument.name.as_ref(), place)?;
    let text = "__wpool::typed::Named { name: __name, ty: __wpool::typed::Described::<__T>::TYPE },";
    let param = substitute(at(argument.ty.span, text), "__T", &argument.ty.anonymous());
    Ok(substitute(param, "__name", &literal(&name)))
}

/// Reads a parameter into a variable.
fn lift(argument: &Argument, place: usize) -> Result<TokenStream, Error> {
    let (text, ty) = match argument.ty.referent() {
        Some((_, true)) => {
            let message = "a task cannot take `&mut`: it has no caller whose value it could change. Take \
                           the value itself";
            return Err(Error::new(message, argument.ty.span));
        }
        Some((referent, false)) => (
            "let __variable =
                 <<__T as __wpool::typed::Referent>::Owned as __wpool::typed::Lift>::lift(__source);",
            referent,
        ),
        None => ("let __variable = <__T as __wpool::typed::Lift>::lift(__source);", argument.ty.anonymous()),
    };
    let lift = substitute(at(argument.ty.span, text), "__T", &ty);
    Ok(substitute(lift, "__variable", &TokenTree::Ident(variable(place)).into()))
}

/// The parameter in the call of the task.
fn pass(argument: &Argument, place: usize) -> TokenStream {
    let variable = TokenTree::Ident(variable(place)).into();
    let passed = match argument.ty.referent() {
        Some((referent, _)) => substitute(
            at(argument.ty.span, "<__T as __wpool::typed::Referent>::of(&__variable),"),
            "__T",
            &referent,
        ),
        None => here("__variable,"),
    };
    substitute(passed, "__variable", &variable)
}

/// The same for a task of JSON: a function of bytes, whose `__run` reads and writes them.
fn json(signature: &Signature, name: &str) -> Result<TokenStream, Error> {
    signature.at_most_one_argument(
        "a task of JSON takes one argument: several values go into a tuple or a struct",
    )?;
    // The number of `&` ranks the ways to read and to write a type: see wpool-guest's module `record`. Each
    // text gets the place of the type in the source, so that the compiler points at the type that it cannot
    // read or write.
    let read = signature.arguments.first().map(|argument| {
        at(
            argument.ty.span,
            "let __argument = match (&&&__wpool::Argument::of(__task)).decode(&mut __record) {
                 __wpool::Result::Ok(argument) => argument,
                 __wpool::Result::Err(message) => return __wpool::Result::Err(message),
             };",
        )
    });
    let call = match read {
        Some(_) => "let __returned = __task(__argument);",
        None => "let __returned = __task();",
    };
    let write = at(
        signature.result_span(),
        "match (&&__wpool::Outcome::of(&__returned)).split(__returned) {
             __wpool::Result::Ok(value) => (&&&__wpool::Value::of(&value)).encode(value),
             __wpool::Result::Err(message) => __wpool::Result::Err(message),
         }",
    );
    let body = [read.unwrap_or_default(), here(call), write].into_iter().collect();
    let items = template(
        "fn __run(mut __record: __wpool::Vec<u8>) -> __wpool::Result<__wpool::Vec<u8>, __wpool::String> {
             use __wpool::traits::*;
             __body
         }
         const __FUNCTION: __wpool::typed::Function = __wpool::typed::Function {
             name: __name,
             params: &[__params],
             result: &__wpool::typed::Type::Result {
                 ok: &__wpool::typed::Type::List(&__wpool::typed::Type::U8),
                 err: &__wpool::typed::Type::String,
             },
         };
         fn __call(__source: &mut __wpool::typed::Source<'_>, __sink: __wpool::typed::Sink<'_>) -> u64 {
             let __record = __lift;
             __sink.write(|__sink| __wpool::typed::Lower::lower(__run(__record), __sink))
         }",
        "__body",
        body,
    );
    let (param, lift) = match signature.arguments.first() {
        Some(argument) => {
            let name = parameter_name(argument.name.as_ref(), 0)?;
            let ty = "&__wpool::typed::Type::List(&__wpool::typed::Type::U8)";
            let param = here(&format!("__wpool::typed::Named {{ name: {name:?}, ty: {ty} }}"));
            (param, here("<__wpool::Vec<u8> as __wpool::typed::Lift>::lift(__source)"))
        }
        None => (TokenStream::new(), here("__wpool::Vec::new()")),
    };
    let items = substitute(substitute(items, "__params", &param), "__lift", &lift);
    let mut items = substitute(items, "__name", &literal(name));
    items.extend(export("__call", name));
    Ok(items)
}

/// The export itself. Types are checked for every target, in an ordinary `cargo check`, too; only the export
/// needs WebAssembly.
fn export(call: &str, name: &str) -> TokenStream {
    here(&format!(
        "#[cfg(target_arch = \"wasm32\")]
         __wpool::export! {{
             __FUNCTION, {call}, \"cm32p2||{name}\", \"cm32p2||{name}_post\", \"component-type:wpool:{name}\"
         }}"
    ))
}

/// The export of `__run` for many records.
fn many(name: &str) -> TokenStream {
    here(&format!(
        "#[cfg(target_arch = \"wasm32\")]
         __wpool::export_many! {{
             __run, \"{name}-many\", \"cm32p2||{name}-many\", \"component-type:wpool:{name}-many\"
         }}"
    ))
}

fn literal(text: &str) -> TokenStream {
    TokenTree::Literal(Literal::string(text)).into()
}
