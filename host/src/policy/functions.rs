//! The functions of the application that a module gets: whether they fit it, and what a call of one answers.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::Policy;
use super::error::PolicyError;
use super::function::{Function, FunctionBody, IN_INTERFACE, Path, find};
use super::imports::is_provided;
use crate::escape::shortened;
use crate::exchange::calls::Functions;
use crate::spec::exchange::{Answer, Bytes, ITEM_LEN_MAX};
use crate::spec::{ModuleInfo, ModuleKind, size};
use crate::value::{FuncType, args_from_wire, result_to_wire};

/// A function of the policy whose Rust type does not fit the import that would get it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    pub(crate) func: String,
    pub(crate) wit: String,
    pub(crate) rust: &'static str,
}

/// The first function that does not fit its import.
pub(crate) fn misfit(policy: &Policy, info: &ModuleInfo) -> Option<Misfit> {
    let mut bound = bindings(policy, info);
    bound.find_map(|(path, ty, function)| {
        let misfit = || Misfit { func: path, wit: ty.to_string(), rust: function.rust };
        (!(function.fits)(ty)).then(misfit)
    })
}

/// Each imported function that the policy gives: its path, its type, and what it gets.
fn bindings<'a>(
    policy: &'a Policy,
    info: &'a ModuleInfo,
) -> impl Iterator<Item = (String, &'a FuncType, &'a Function)> {
    let imports = info.imports.iter().filter(|import| !is_provided(info.kind, &import.name));
    let functions =
        imports.flat_map(|import| import.functions.iter().map(move |of| (import.path(of), &of.ty)));
    functions.filter_map(|(path, ty)| find(&policy.functions, &path).map(|function| (path, ty, function)))
}

/// Checks what can be told without a module.
pub(super) fn check(policy: &Policy) -> Result<(), PolicyError> {
    let Some(first) = policy.functions.first() else { return Ok(()) };
    let refused = |path: &str, reason: &str| {
        let what = format!("the function {path:?}");
        Err(PolicyError { what, reason: reason.to_owned() })
    };
    if policy.deterministic {
        return refused(&first.path, "the answers of an application cannot be deterministic");
    }
    if policy.function_threads == Some(0) {
        return refused(&first.path, "at least one thread is needed to call it");
    }
    for Function { path, .. } in &policy.functions {
        let Path { interface, name, .. } = Path::of(path);
        if name.is_empty() || interface == Some("") || path.chars().any(char::is_control) {
            return refused(
                path,
                "expected a path such as acme:shop/prices#price, or the name of a function",
            );
        }
        let interface = path.rsplit_once(IN_INTERFACE).map_or(path.as_str(), |(interface, _)| interface);
        if is_provided(ModuleKind::Component, interface) {
            return refused(path, "wpool provides this interface itself");
        }
    }
    Ok(())
}

/// The functions that the imports of one module get, by the numbers that workers have for them.
#[derive(Debug)]
pub(super) struct FunctionTable(Vec<Bound>);

/// A function, for the import that gets it.
struct Bound {
    path: String,
    ty: FuncType,
    call: Arc<FunctionBody>,
}

impl FunctionTable {
    pub(super) fn new(policy: &Policy, info: &ModuleInfo) -> FunctionTable {
        let bind = |(path, ty, function): (String, &FuncType, &Function)| Bound {
            path,
            ty: ty.clone(),
            call: function.call.clone(),
        };
        FunctionTable(bindings(policy, info).map(bind).collect())
    }

    /// The paths of the imports, in the order of their numbers.
    pub(super) fn paths(&self) -> Vec<String> {
        self.0.iter().map(|function| function.path.clone()).collect()
    }

    /// The functions as the exchange calls them, which knows no types.
    pub(super) fn into_functions(self, policy: &Policy) -> Functions {
        Functions {
            count: self.0.len(),
            threads: policy.function_threads,
            call: Arc::new(move |function, args| self.call(function, args)),
        }
    }

    /// Calls a function. Both its number and the arguments come from a worker.
    fn call(&self, function: u32, args: &[u8]) -> Answer {
        let called = match usize::try_from(function).ok().and_then(|at| self.0.get(at)) {
            Some(function) => function.call(args),
            None => Err("the application gives no function of that number".to_owned()),
        };
        match called {
            Ok(result) => Answer::Returned(Bytes(result)),
            Err(message) => Answer::Trapped { message },
        }
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.ty)
    }
}

impl Bound {
    fn call(&self, args: &[u8]) -> Result<Vec<u8>, String> {
        let said = |what: String| format!("{}: {what}", self.path);
        let args = args_from_wire(args, &self.ty.params).map_err(|e| said(format!("the arguments: {e}")))?;
        let result = self.ty.result.as_ref();
        // A panic costs the task that has called, and not the thread, which serves other tasks too.
        let called = catch_unwind(AssertUnwindSafe(|| (self.call)(args, result)));
        let value = called.unwrap_or_else(|panic| Err(said(panicked(&*panic))))?;
        let bytes = result_to_wire(value, result).map_err(|e| said(format!("the result: {e}")))?;
        if bytes.len() > ITEM_LEN_MAX {
            let (len, most) = (size(bytes.len() as u64), size(ITEM_LEN_MAX as u64));
            return Err(said(format!("the result takes {len}, and the most is {most}")));
        }
        Ok(bytes)
    }
}

/// The message of a panic.
fn panicked(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    match message.or_else(|| panic.downcast_ref::<String>().cloned()) {
        Some(message) => format!("it panicked: {}", shortened(&message)),
        None => "it panicked".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Import, ImportKind, ImportedFunction};
    use crate::value::{Param, Type};

    fn info(functions: &[(&str, Type, Option<Type>)]) -> ModuleInfo {
        let function = |(name, param, result): &(&str, Type, Option<Type>)| ImportedFunction {
            name: (*name).to_owned(),
            ty: FuncType { params: vec![Param { name: None, ty: param.clone() }], result: result.clone() },
        };
        let functions = functions.iter().map(function).collect();
        let import = Import { name: "a:b/c@1.0.0".to_owned(), kind: ImportKind::Interface, functions };
        ModuleInfo { imports: vec![import], ..ModuleInfo::of(ModuleKind::Component, vec![]) }
    }

    #[track_caller]
    fn is_refused(policy: Policy, said: &str) {
        let PolicyError { what, reason } = policy.resolve().unwrap_err();
        let error = format!("{what} cannot be granted: {reason}");
        assert!(error.contains(said), "{error}");
    }

    #[test]
    fn x14_a_policy_with_a_function_that_no_guest_can_get_is_refused() {
        let with = |path: &str| Policy::sealed().function(path, || ());
        for path in ["", "#f", "a:b/c#", "a\nb#f"] {
            is_refused(with(path), "expected a path such as acme:shop/prices#price");
        }
        is_refused(with("wasi:cli/stdout@0.2.0#get-stdout"), "wpool provides this interface itself");
        is_refused(with("f").deterministic(), "cannot be deterministic");
        is_refused(with("f").function_threads(0), "at least one thread");
        assert!(with("f").function_threads(1).resolve().is_ok());
        assert!(Policy::sealed().function_threads(0).resolve().is_ok());
    }

    #[test]
    fn x14_the_later_of_two_functions_counts_and_policies_are_compared() {
        let first = Policy::sealed().function("f", |n: u32| n);
        let second = first.clone().function("f", |n: u64| n);
        assert_eq!(second.functions.len(), 1);
        assert!(first == first.clone() && first != second);
        assert!(format!("{second:?}").contains("f: fn(u64) -> u64"), "{second:?}");
    }

    #[test]
    fn x14_a_function_of_another_type_is_found_before_anything_starts() {
        let info = info(&[("f", Type::U32, None), ("g", Type::String, Some(Type::U8))]);
        let policy = Policy::sealed().function("a:b/c#f", |_: u32| ()).function("a:b/c#other", || ());
        assert_eq!(misfit(&policy, &info), None);
        let policy = policy.function("a:b/c#g", |_: &str| -> String { String::new() });
        let Misfit { func, wit, rust } = misfit(&policy, &info).unwrap();
        assert_eq!((func.as_str(), wit.as_str()), ("a:b/c@1.0.0#g", "func(string) -> u8"));
        assert_eq!(rust, "fn(&str) -> alloc::string::String");
    }

    #[test]
    fn x14_a_call_answers_with_a_result_a_trap_or_the_panic() {
        let info = info(&[("f", Type::U32, Some(Type::U32)), ("g", Type::U32, None)]);
        let policy = Policy::sealed()
            .function("a:b/c#g", |n: u32| assert!(n != 1, "one is too few"))
            .function("a:b/c#f", |n: u32| -> Result<u32, String> {
                if n == 0 { Err("it is zero".to_owned()) } else { Ok(n + 1) }
            });
        let table = FunctionTable::new(&policy, &info);
        assert_eq!(table.paths(), ["a:b/c@1.0.0#f", "a:b/c@1.0.0#g"]);
        let said = |function, args: &[u8]| match table.call(function, args) {
            Answer::Trapped { message } => message,
            answer => panic!("{answer:?}"),
        };
        assert_eq!(table.call(0, b"w7"), Answer::Returned(Bytes(b"w8".to_vec())));
        assert_eq!(said(0, b"w0"), "it is zero");
        assert_eq!(table.call(1, b"w7"), Answer::Returned(Bytes(vec![])));
        assert_eq!(said(1, b"w1"), "a:b/c@1.0.0#g: it panicked: one is too few");
        assert!(said(2, b"w1").contains("no function of that number"));
        assert!(said(0, b"w-1").starts_with("a:b/c@1.0.0#f: the arguments: "));
        assert!(said(0, b"").contains("the arguments"));
    }
}
