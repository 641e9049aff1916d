//! Choose the function to run, arguments that are the same for every task, and the form of records and
//! results.
//!
//! [`Target::func`] names a function, and [`Target::arg`] and [`Target::kwarg`] fix arguments.
//! [`Target::input`] and [`Target::output`] choose how records and results are written ([`Format`]). For a
//! command, a module with a `main`, [`Target::argv`] gives the arguments and [`CommandInput`] says how it
//! gets its record. [`Target::priority`] says how urgent its jobs are. What is wrong with a target is a
//! [`TargetError`], before anything starts.

mod initializer;
mod priority;

use std::sync::LazyLock;

pub(crate) use self::initializer::{INIT, initializer, own_initializer};
pub use self::priority::Priority;
use crate::error::BuildError;
use crate::policy::{self, Misfit, Policy};
pub use crate::spec::TargetError;
use crate::spec::{
    ARGUMENT_BYTES_MAX, Call, Export, FixedArgs, FixedForm, Input, Limits, ModuleInfo, Output, Role, size,
};
use crate::value::{
    FuncType, Integers, Type, VALUES_MAX, Value, free_types, parse_call, parse_wave, parse_wave_of, to_wave,
};

/// The form of a record or a result.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = wpool::Pool::builder(&numbers()?).build()?;
/// use wpool::target::Format;
/// use wpool::Target;
///
/// let target = Target::func("add").input(Format::Json).output(Format::Wave);
/// let (mut inputs, mut outcomes) = pool.stream(&target, true)?;
/// inputs.push(b"[3, 4]")?;
/// assert!(outcomes.take_into(&mut |outcome| assert_eq!(outcome.result(), Ok(&b"7"[..]))));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Format {
    /// The bytes as they are for `list<u8>` and `string`, and WAVE for all other types. The default.
    #[default]
    Auto,
    /// The bytes as they are: for `list<u8>` and `string` only.
    Raw,
    /// WAVE, the text form of component values. Several parameters are a tuple: `(1, "two")`. Integers may
    /// also be written `1.0`, `1e3`, `0x1f`, `0b101` or `1_000`, and bytes as a string.
    Wave,
    /// JSON. Several parameters are an array by position, or an object by name. `none` is `null`. For an
    /// option in an option, `some(none)` is `{"some": null}`, and `some(some(7))` is `{"some": 7}`. Floats
    /// for which JSON has no number are `"NaN"`, `"Infinity"` and `"-Infinity"`.
    Json,
}

/// How a record reaches a command (`wasi:cli/run`, `_start`).
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("args")?;
/// use wpool::target::CommandInput;
/// use wpool::Target;
///
/// let target = Target::default().argv(["args"]).command_input(CommandInput::Arg);
/// let (mut inputs, mut outcomes) = pool.stream(&target, true)?;
/// inputs.push(b"one two")?;
/// assert!(outcomes.take_into(&mut |outcome| assert_eq!(outcome.result(), Ok(&b"one two\n"[..]))));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CommandInput {
    /// On standard input.
    #[default]
    Stdin,
    /// As the last argument.
    Arg,
    /// As the last arguments, split at white space.
    Words,
}

/// An argument: a value, or its WAVE text as given on a command line.
#[derive(Debug, Clone)]
enum Arg {
    Value(Value),
    Wave(String),
}

/// A function to call, Python's `target`, with some arguments fixed, as `functools.partial` does. The record
/// of each task gives the other arguments.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = wpool::Pool::builder(&numbers()?).build()?;
/// use wpool::Target;
/// use wpool::target::Format;
///
/// // Rust values, a text as on a command line, or a whole call.
/// let add_ten = pool.func::<i32, i32>(Target::func("add").arg(10))?;
/// assert_eq!(pool.apply(&add_ten, 4)?, 14);
/// let add_ten = pool.func::<i32, i32>(Target::func("add").arg_wave("0x0a"))?;
/// assert_eq!(pool.apply(&add_ten, 4)?, 14);
/// let five = pool.func::<(), i32>(Target::call("add(2, 3)")?)?;
/// assert_eq!(pool.apply(&five, ())?, 5);
///
/// // By name, for a function of a component; the form of records and results, and their time, in a stream.
/// let scale = Target::func("scale").kwarg("factor", 2.5).input(Format::Json).timed(true);
/// // A command: its arguments, and the exit codes with which it has a result.
/// let solver = Target::default().argv(["solver", "--fast"]).ok_exit([10, 20]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Target {
    name: Option<String>,
    args: Vec<Arg>,
    kwargs: Vec<(String, Arg)>,
    input: Format,
    output: Format,
    argv: Vec<String>,
    ok_exit: Vec<u32>,
    command_input: CommandInput,
    timed: bool,
    priority: Priority,
}

impl Target {
    /// The function with this path (`ns:pkg/interface#func`), or with this name if only one function has it.
    ///
    /// [`Target::default`] is the function `run`, or without one the command, or without one the only
    /// function.
    pub fn func(name: impl Into<String>) -> Target {
        Target { name: Some(name.into()), ..Target::default() }
    }

    /// A function with all its arguments, from the text of a call: `scale(7, 2.5)`. The arguments are WAVE. A
    /// name alone is a call without arguments.
    ///
    /// # Errors
    /// [`BuildError::Format`] if the text is no call.
    pub fn call(text: &str) -> Result<Target, BuildError> {
        let wrong =
            |reason| BuildError::Format(format!("{text:?} is not a call such as `scale(7, 2.5)`: {reason}"));
        let (name, args) = parse_call(text).map_err(wrong)?;
        Ok(args.into_iter().fold(Target::func(name), Target::arg_wave))
    }

    /// Fixes the next positional argument.
    ///
    /// Bytes and strings are sent as they are, once to each worker. All fixed arguments of a function have at
    /// most 256 MiB. Its fixed bytes have at most 32 MiB if it has more than two parameters, one that is
    /// neither bytes nor a string, or a result of several values. Any other value has at most four million
    /// parts.
    #[must_use]
    pub fn arg(mut self, value: impl Into<Value>) -> Self {
        self.args.push(Arg::Value(value.into()));
        self
    }

    /// Fixes an argument by its parameter's name. The limits are those of [`Target::arg`].
    #[must_use]
    pub fn kwarg(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.kwargs.push((name.into(), Arg::Value(value.into())));
        self
    }

    /// Fixes the next positional argument, given as WAVE. For a `string` parameter, a text that is no WAVE is
    /// the string itself.
    #[must_use]
    pub fn arg_wave(mut self, text: impl Into<String>) -> Self {
        self.args.push(Arg::Wave(text.into()));
        self
    }

    /// Fixes an argument by name, given as WAVE.
    #[must_use]
    pub fn kwarg_wave(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.kwargs.push((name.into(), Arg::Wave(text.into())));
        self
    }

    /// The form of records in a [`Pool::stream`](crate::Pool::stream). Typed functions choose it themselves.
    #[must_use]
    pub fn input(mut self, format: Format) -> Self {
        self.input = format;
        self
    }

    /// The form of results in a [`Pool::stream`](crate::Pool::stream). Typed functions choose it themselves.
    #[must_use]
    pub fn output(mut self, format: Format) -> Self {
        self.output = format;
        self
    }

    /// The arguments of a command, the program's name first.
    #[must_use]
    pub fn argv(mut self, argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.argv = argv.into_iter().map(Into::into).collect();
        self
    }

    /// How a record reaches a command.
    #[must_use]
    pub fn command_input(mut self, input: CommandInput) -> Self {
        self.command_input = input;
        self
    }

    /// The exit codes beside 0 with which a command has a result, its stdout: a solver, for example, may end
    /// with 10 or 20. Any other code is [`TaskError::Exited`](crate::TaskError::Exited).
    #[must_use]
    pub fn ok_exit(mut self, codes: impl IntoIterator<Item = u32>) -> Self {
        self.ok_exit = codes.into_iter().collect();
        self
    }

    /// Measures the time of each task ([`Outcome::took`](crate::pool::Outcome::took)) and what it uses
    /// ([`Outcome::mem_peak`](crate::pool::Outcome::mem_peak),
    /// [`Outcome::fuel`](crate::pool::Outcome::fuel)). A guest that takes many short records in one call
    /// (`run-many`) gets them so, and the time of the first includes the handing over of all.
    #[must_use]
    pub fn timed(mut self, timed: bool) -> Self {
        self.timed = timed;
        self
    }

    /// How urgent the jobs of a pool with this target are. A [`Process`](crate::Process), which has no other
    /// jobs beside it, ignores it.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }
}

impl From<&str> for Target {
    fn from(name: &str) -> Self {
        Target::func(name)
    }
}

/// A target that was found in a module, with checked arguments.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) call: Call,
    pub(crate) ty: FuncType,
    pub(crate) priority: Priority,
}

/// What goes into a command and comes out of it.
static BYTES: LazyLock<Type> = LazyLock::new(|| Type::List(Box::new(Type::U8)));

impl Resolved {
    /// The types of the parameters that a record fills. For a command: the bytes or the text of its input.
    pub(crate) fn free(&self) -> Vec<&Type> {
        if self.is_command() {
            vec![&BYTES]
        } else {
            free_types(&self.ty, |position| self.call.fixed.is_given(position))
        }
    }

    /// The type of a result. For a command: the bytes or the text of its stdout.
    pub(crate) fn result_type(&self) -> Option<&Type> {
        if self.is_command() { Some(&BYTES) } else { self.ty.ok_type() }
    }

    fn is_command(&self) -> bool {
        self.call.output == Output::Stdout
    }

    /// Whether a record is the text of values, which is never blank.
    #[cfg(feature = "cli")]
    pub(crate) fn takes_values(&self) -> bool {
        match self.call.input {
            Input::Wave | Input::Json => !self.free().is_empty(),
            Input::Raw | Input::Stdin | Input::Asked | Input::Arg | Input::Words => false,
        }
    }

    /// Whether a result is the stdout of a command.
    #[cfg(feature = "cli")]
    pub(crate) fn gives_printed(&self) -> bool {
        self.is_command()
    }

    /// An error if workers would have to take more bytes apart than they have memory for.
    fn check_fixed(&self) -> Result<(), BuildError> {
        let (call, ty) = (&self.call, &self.ty);
        let all = ty.params.iter().zip(call.fixed.iter()).enumerate();
        let bytes =
            all.filter_map(|(i, (param, arg))| Some((i, param, arg.filter(|_| param.ty.is_bytes())?)));
        let mut len = 0;
        for (i, param, (_, bytes)) in bytes {
            len += bytes.len();
            if len > ARGUMENT_BYTES_MAX && call.unconverted(ty).is_none() {
                let most = size(ARGUMENT_BYTES_MAX as u64);
                let reason = format!("fixed bytes are limited to {most} in a function of this type, {ty}");
                return Err(BuildError::Argument { func: call.path.clone(), index: param.label(i), reason });
            }
        }
        Ok(())
    }

    /// An error if a parameter is not fixed.
    pub(crate) fn complete(self) -> Result<Resolved, BuildError> {
        let all = self.ty.params.iter().enumerate();
        let missing = all.filter(|(i, _)| !self.call.fixed.is_given(*i)).map(|(i, param)| param.described(i));
        let missing: Vec<String> = missing.collect();
        if missing.is_empty() {
            Ok(self)
        } else {
            Err(BuildError::MissingArguments { func: self.call.path, missing })
        }
    }
}

/// An error if no instance of the module can run under these limits and this policy.
pub(crate) fn check_module(info: &ModuleInfo, limits: &Limits, policy: &Policy) -> Result<(), BuildError> {
    // The limits first: the comparison of memory below relies on sensible ones.
    limits.check().map_err(|reason| BuildError::Limits { reason })?;
    let missing = policy::missing(policy, info.kind, &info.imports);
    if !missing.is_empty() {
        return Err(BuildError::MissingImports { missing });
    }
    if let Some(Misfit { func, wit, rust }) = policy::misfit(policy, info) {
        return Err(BuildError::Function { func, wit, rust });
    }
    // No instance could ever be made, so the error is reported here, before any worker starts.
    match info.memory_min {
        Some(asked) if asked > limits.memory => Err(BuildError::Memory { asked, limit: limits.memory }),
        _ => Ok(()),
    }
}

/// Finds the target in a module and checks everything that the types alone can tell.
pub(crate) fn resolve(target: &Target, info: &ModuleInfo) -> Result<Resolved, BuildError> {
    let export = info.target(target.name.as_deref())?;
    let given = bind(target, export, info.kind.integers())?;
    let fixed = fixed_args(export, given)?;
    let call = Call {
        path: export.path.clone(),
        input: input_form(target, export, &fixed)?,
        output: output_form(target, export)?,
        fixed,
        argv: if export.role == Role::Command { argv(target, export)? } else { Vec::new() },
        ok_exit: target.ok_exit.clone(),
        timed: target.timed,
    };
    let resolved = Resolved { call, ty: export.ty.clone(), priority: target.priority };
    resolved.check_fixed()?;
    Ok(resolved)
}

/// The arguments of a command. The first is the program's name, which every command has.
fn argv(target: &Target, export: &Export) -> Result<Vec<String>, BuildError> {
    // A guest may read arguments as C strings, which a NUL would cut off.
    if let Some(at) = target.argv.iter().position(|arg| arg.contains('\0')) {
        let reason = "an argument of a command has no NUL in it".to_owned();
        return Err(BuildError::Argument { func: export.path.clone(), index: at.to_string(), reason });
    }
    Ok(if target.argv.is_empty() { vec!["module".to_owned()] } else { target.argv.clone() })
}

/// Binds arguments by Python's rule: first those by position, then those by name; no name is given twice,
/// none is unknown.
fn bind(target: &Target, export: &Export, integers: Integers) -> Result<Vec<Option<Value>>, BuildError> {
    let params = &export.ty.params;
    if target.args.len() > params.len() {
        let (expected, given) = (params.len(), target.args.len());
        return Err(BuildError::TooManyArguments { func: export.path.clone(), expected, given });
    }
    let wrong =
        |index: String, reason: String| BuildError::Argument { func: export.path.clone(), index, reason };
    let mut fixed = vec![None; params.len()];
    for (i, arg) in target.args.iter().enumerate() {
        let index =
            || params[i].name.as_ref().map_or((i + 1).to_string(), |name| format!("{} ({name})", i + 1));
        fixed[i] = Some(value(arg, &params[i].ty, integers).map_err(|reason| wrong(index(), reason))?);
    }
    for (name, arg) in &target.kwargs {
        let Some(i) = params.iter().position(|p| p.name.as_ref() == Some(name)) else {
            let names: Vec<&str> = params.iter().filter_map(|p| p.name.as_deref()).collect();
            let known = if names.is_empty() {
                "its parameters have no names".to_owned()
            } else {
                format!("there is {}", names.join(", "))
            };
            return Err(wrong(name.clone(), format!("no parameter has that name; {known}")));
        };
        if fixed[i].is_some() {
            return Err(wrong(name.clone(), "it is given twice".to_owned()));
        }
        fixed[i] = Some(value(arg, &params[i].ty, integers).map_err(|reason| wrong(name.clone(), reason))?);
    }
    Ok(fixed)
}

/// The fixed arguments as workers get them: bytes and strings as they are, all other values as WAVE.
fn fixed_args(export: &Export, given: Vec<Option<Value>>) -> Result<FixedArgs, BuildError> {
    let mut fixed = FixedArgs::default();
    for (i, (value, param)) in given.into_iter().zip(&export.ty.params).enumerate() {
        let wrong = |reason: String| BuildError::Argument {
            func: export.path.clone(),
            index: param.label(i),
            reason: format!("{reason}; give it with each record instead"),
        };
        let (form, bytes) = match value {
            None => {
                fixed.push(None);
                continue;
            }
            Some(Value::String(text)) => (FixedForm::Raw, text.into_bytes()),
            Some(value) => match value.into_bytes(&param.ty) {
                Ok(bytes) => (FixedForm::Raw, bytes),
                Err(value) if !value.has_at_most(VALUES_MAX) => {
                    return Err(wrong(format!("a fixed value has at most {VALUES_MAX} parts")));
                }
                Err(value) => (FixedForm::Wave, to_wave(&value).into_bytes()),
            },
        };
        if fixed.bytes().len() + bytes.len() > FixedArgs::LEN_MAX {
            let most = size(FixedArgs::LEN_MAX as u64);
            return Err(wrong(format!("the fixed arguments of a function have at most {most} in all")));
        }
        fixed.push(Some((form, bytes)));
    }
    Ok(fixed)
}

fn value(arg: &Arg, ty: &Type, integers: Integers) -> Result<Value, String> {
    match arg {
        Arg::Value(value) => {
            // A core module's integers have no sign: -1 and 2^32 - 1 are the same bits.
            let of_bits = || value.as_integer().and_then(|n| integers.value(n, ty));
            value
                .clone()
                .coerce(ty)
                .or_else(of_bits)
                .ok_or_else(|| format!("expected {ty}, got {}", to_wave(value)))
        }
        Arg::Wave(text) => wave_or_text(text, ty, integers),
    }
}

/// An argument from a command line: WAVE, or any text for a `string` or bytes.
pub(crate) fn wave_or_text(text: &str, ty: &Type, integers: Integers) -> Result<Value, String> {
    // Bytes are written as a string, with or without quotes, or as a list of numbers.
    let as_string = || parse_wave(text, &Type::String).unwrap_or_else(|_| Value::String(text.to_owned()));
    match (parse_wave_of(text, ty, integers), ty) {
        (Ok(value), _) => Ok(value),
        (Err(_), Type::String) => Ok(as_string()),
        // A text that begins as a list is a wrong list, not a string.
        (Err(reason), _) if text.trim_start().starts_with('[') => Err(reason),
        (Err(reason), ty) => as_string().coerce(ty).filter(|_| ty.is_bytes()).ok_or(reason),
    }
}

fn input_form(target: &Target, export: &Export, fixed: &FixedArgs) -> Result<Input, BuildError> {
    if export.role == Role::Command {
        return Ok(match target.command_input {
            CommandInput::Stdin => Input::Stdin,
            CommandInput::Arg => Input::Arg,
            CommandInput::Words => Input::Words,
        });
    }
    let free = free_types(&export.ty, |position| fixed.is_given(position));
    let takes_raw = matches!(free[..], []) || matches!(free[..], [ty] if ty.is_bytes_or_string());
    match target.input {
        Format::Auto if takes_raw => Ok(Input::Raw),
        Format::Auto | Format::Wave => Ok(Input::Wave),
        Format::Json => Ok(Input::Json),
        Format::Raw if takes_raw => Ok(Input::Raw),
        Format::Raw => Err(BuildError::Format(format!(
            "{} is {}, which takes no raw bytes: use wave or json",
            export.path, export.ty
        ))),
    }
}

fn output_form(target: &Target, export: &Export) -> Result<Output, BuildError> {
    if export.role == Role::Command {
        return Ok(Output::Stdout);
    }
    let gives_raw = export.ty.ok_type().is_none_or(Type::is_bytes_or_string);
    match target.output {
        Format::Auto if gives_raw => Ok(Output::Raw),
        Format::Auto | Format::Wave => Ok(Output::Wave),
        Format::Json => Ok(Output::Json),
        Format::Raw if gives_raw => Ok(Output::Raw),
        Format::Raw => Err(BuildError::Format(format!(
            "{} is {}, which gives no raw bytes: use wave or json",
            export.path, export.ty
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ModuleKind;
    use crate::value::Param;

    fn info() -> ModuleInfo {
        let param = |name: &str, ty| Param { name: Some(name.to_owned()), ty };
        let ty = FuncType {
            params: vec![param("line", Type::String), param("factor", Type::F64), param("n", Type::U8)],
            result: Some(Type::U32),
        };
        let scale = Export { path: "scale".to_owned(), ty, role: Role::Function };
        ModuleInfo::of(ModuleKind::Component, vec![scale])
    }

    fn fixed(resolved: &Resolved) -> Vec<Option<&str>> {
        let text = |(_, bytes)| std::str::from_utf8(bytes).unwrap();
        resolved.call.fixed.iter().map(|arg| arg.map(text)).collect()
    }

    #[track_caller]
    fn refused(target: Target, said: &str) {
        let error = resolve(&target, &info()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }

    #[test]
    fn arguments_are_bound_by_position_and_by_name() {
        let resolved =
            resolve(&Target::func("scale").kwarg("factor", 2.5).kwarg_wave("n", "3"), &info()).unwrap();
        assert_eq!(resolved.free(), [&Type::String]);
        assert_eq!(fixed(&resolved), [None, Some("2.5"), Some("3")]);
        assert_eq!((resolved.call.input, resolved.call.output), (Input::Raw, Output::Wave));
        let resolved = resolve(&Target::default().arg("x").arg(2).arg(3), &info()).unwrap();
        assert_eq!(fixed(&resolved), [Some("x"), Some("2"), Some("3")]);
        assert!(resolved.complete().is_ok());
    }

    #[test]
    fn a_call_names_the_function_and_fixes_its_arguments() {
        let resolved = resolve(&Target::call("scale(\"a, b\", 2.5, 3)").unwrap(), &info()).unwrap();
        assert!(resolved.free().is_empty());
        assert_eq!(fixed(&resolved)[0], Some("a, b"));
        assert_eq!(resolve(&Target::call("scale").unwrap(), &info()).unwrap().free().len(), 3);
        assert!(Target::call("scale(1").unwrap_err().to_string().contains("is not a call"));
    }

    #[test]
    fn bytes_are_written_as_a_string_or_as_a_list() {
        let bytes = Type::List(Box::new(Type::U8));
        for text in ["abc", "\"abc\"", "[97, 98, 99]"] {
            assert_eq!(to_wave(&wave_or_text(text, &bytes, Integers::OfType).unwrap()), "[97, 98, 99]");
        }
        assert!(wave_or_text("abc", &Type::U8, Integers::OfType).is_err());
    }

    #[test]
    fn wrong_arguments_are_refused_with_the_parameters_type() {
        refused(Target::default().kwarg("n", 300), "argument n of scale: expected u8, got 300");
        refused(Target::default().kwarg_wave("n", "many"), "expected u8");
        refused(Target::default().kwarg("m", 3), "there is line, factor, n");
        refused(Target::default().arg("x").kwarg("line", "y"), "given twice");
        refused(Target::default().arg(1).arg(2).arg(3).arg(4), "takes 3 arguments, 4 are given");
        refused(Target::default().input(Format::Raw), "takes no raw bytes");
        let bytes = Type::List(Box::new(Type::U8));
        assert!(wave_or_text("[1, 2, 300]", &bytes, Integers::OfType).is_err());
        assert_eq!(wave_or_text("ab", &bytes, Integers::OfType).unwrap(), Value::from(vec![97u8, 98]));
        let incomplete = resolve(&Target::default().arg("x"), &info()).unwrap().complete().unwrap_err();
        assert_eq!(
            incomplete.to_string(),
            "scale needs a value for argument 2 (factor: f64), argument 3 (n: u8)"
        );
    }
}
