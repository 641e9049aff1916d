//! Functions of the application, and which of them an import gets, by their names.

use std::fmt;
use std::sync::Arc;

use crate::escape::list;
use crate::spec::{Import, ImportKind, ImportedFunction};
use crate::value::{FuncType, HostFunc, Type, Value};

/// Between an interface and a function in a path. In the name of an import it stands for a function that
/// wpool's interface of that name does not have.
pub(crate) const IN_INTERFACE: char = '#';

/// What a call gives: the result, or the message of a trap.
pub(super) type Called = Result<Option<Value>, String>;
pub(super) type FunctionBody = dyn Fn(Vec<Value>, Option<&Type>) -> Called + Send + Sync;

/// A function as the caller gave it.
#[derive(Clone)]
pub(super) struct Function {
    pub(super) path: String,
    /// Its Rust type, for messages.
    pub(super) rust: &'static str,
    pub(super) fits: fn(&FuncType) -> bool,
    pub(super) call: Arc<FunctionBody>,
}

impl Function {
    pub(super) fn new<P, F: HostFunc<P>>(path: String, function: F) -> Function {
        // `P` has the form `fn(A, B) -> R`, which is what a reader wants to see of `F`.
        let rust = std::any::type_name::<P>();
        let call = move |args, result: Option<&Type>| function.answer(args, result);
        Function { path, rust, fits: F::fits, call: Arc::new(call) }
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.rust)
    }
}

/// The same function under the same path. Two closures are never the same, even if they are of one type.
impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.path == other.path && Arc::ptr_eq(&self.call, &other.call)
    }
}

impl Eq for Function {}

/// The parts of `acme:shop/prices@1.2.0#price`. A function that belongs to no interface has only the last
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Path<'p> {
    pub(super) interface: Option<&'p str>,
    version: Option<&'p str>,
    pub(super) name: &'p str,
}

impl<'p> Path<'p> {
    pub(super) fn of(path: &'p str) -> Path<'p> {
        let Some((interface, name)) = path.rsplit_once(IN_INTERFACE) else {
            return Path { interface: None, version: None, name: path };
        };
        let (interface, version) = match interface.split_once('@') {
            Some((interface, version)) => (interface, Some(version)),
            None => (interface, None),
        };
        Path { interface: Some(interface), version, name }
    }
}

/// How well a function of the policy fits the name of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    /// The policy names no version, which stands for all.
    AnyVersion,
    /// The versions are compatible. This is the policy's.
    Compatible([u64; 3]),
    Same,
}

fn matches(given: &str, wanted: &str) -> Option<Match> {
    let (ours, theirs) = (Path::of(given), Path::of(wanted));
    if (ours.interface, ours.name) != (theirs.interface, theirs.name) {
        return None;
    }
    match (ours.version, theirs.version) {
        (ours, theirs) if ours == theirs => Some(Match::Same),
        (None, _) => Some(Match::AnyVersion),
        (Some(ours), Some(theirs)) => {
            let (ours, theirs) = (numbers(ours)?, numbers(theirs)?);
            (series(ours)? == series(theirs)?).then_some(Match::Compatible(ours))
        }
        (Some(_), None) => None,
    }
}

/// The numbers of a version. `None`: it has more parts than these, as a pre-release does.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let mut parts = version.split('.').map(str::parse::<u64>);
    let numbers = [parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?];
    parts.next().is_none().then_some(numbers)
}

/// What compatible versions have in common, as the engine compares them when it links. `None`: the version is
/// compatible with itself only.
fn series([major, minor, _patch]: [u64; 3]) -> Option<[u64; 2]> {
    match (major, minor) {
        (0, 0) => None,
        (0, minor) => Some([0, minor]),
        (major, _) => Some([major, 0]),
    }
}

/// The function that an import of this path gets.
pub(super) fn find<'f>(functions: &'f [Function], wanted: &str) -> Option<&'f Function> {
    let found = functions.iter().filter_map(|given| Some((matches(&given.path, wanted)?, given)));
    found.max_by_key(|(how, _)| *how).map(|(_, given)| given)
}

/// Which functions of an import the application gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromApplication {
    All(Vec<String>),
    Some { given: Vec<String>, absent: Vec<String> },
    None,
}

/// Which functions of an import of a component these are, by name. Whether they fit the types is another
/// question.
pub(super) fn given(functions: &[Function], import: &Import) -> FromApplication {
    if import.functions.is_empty() {
        // The module is not compiled yet, so that only names of interfaces are known.
        let is_of_it = |given: &Function| match import.kind {
            ImportKind::Function => matches(&given.path, &import.name).is_some(),
            _ => {
                let any = format!("{}{IN_INTERFACE}{}", import.name, Path::of(&given.path).name);
                matches(&given.path, &any).is_some()
            }
        };
        let names: Vec<String> =
            functions.iter().filter(|f| is_of_it(f)).map(|f| Path::of(&f.path).name.to_owned()).collect();
        return if names.is_empty() { FromApplication::None } else { FromApplication::All(names) };
    }
    let (given, absent): (Vec<_>, Vec<_>) =
        import.functions.iter().partition(|function| find(functions, &import.path(function)).is_some());
    let names = |of: &[&ImportedFunction]| of.iter().map(|f| f.name.clone()).collect();
    match (&given[..], &absent[..]) {
        ([], _) => FromApplication::None,
        (given, []) => FromApplication::All(names(given)),
        (given, absent) => FromApplication::Some {
            given: names(given),
            absent: absent.iter().map(|function| function.wit()).collect(),
        },
    }
}

/// What to do about an import of which the policy gives nothing: for the message that it is missing.
pub(super) fn hint(functions: &[Function], import: &Import) -> Option<String> {
    let can_be_given = import.functions.iter().all(|function| function.ty.is_supported());
    if !can_be_given || import.name.contains(IN_INTERFACE) {
        return None;
    }
    let mut paths: Vec<&str> = functions.iter().map(|given| given.path.as_str()).collect();
    if paths.is_empty() {
        return Some("an application that embeds wpool can give its functions (Policy::function)".to_owned());
    }
    // The most similar ones first: one of them may be misspelt.
    paths.sort_by_key(|path| std::cmp::Reverse(similarity(path, &import.name)));
    let paths: Vec<String> = paths.into_iter().map(str::to_owned).collect();
    Some(format!("the policy gives no function of it, but {}", list(&paths, ", ")))
}

/// The number of characters that two texts share at their beginnings and at their ends.
fn similarity(a: &str, b: &str) -> usize {
    let same = |a: &mut dyn Iterator<Item = char>, b: &mut dyn Iterator<Item = char>| {
        a.zip(b).take_while(|(a, b)| a == b).count()
    };
    same(&mut a.chars(), &mut b.chars()) + same(&mut a.chars().rev(), &mut b.chars().rev())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Param;

    fn functions(paths: &[&str]) -> Vec<Function> {
        paths.iter().map(|path| Function::new((*path).to_owned(), |n: u32| n)).collect()
    }

    fn import(name: &str, kind: ImportKind, functions: &[&str]) -> Import {
        let param = Param { name: Some("n".to_owned()), ty: Type::U32 };
        let ty = FuncType { params: vec![param], result: Some(Type::U32) };
        let function = |name: &&str| ImportedFunction { name: (*name).to_owned(), ty: ty.clone() };
        Import { name: name.to_owned(), kind, functions: functions.iter().map(function).collect() }
    }

    #[test]
    fn x14_a_function_is_found_by_its_path_and_a_compatible_version() {
        let given = ["a:b/c#f", "a:b/c@1.2.0#f", "a:b/c@1.10.1#f", "a:b/c@0.2.1#f", "a:b/c@0.0.1#f", "f"];
        let functions = functions(&given);
        for (wanted, found) in [
            ("a:b/c#f", Some("a:b/c#f")),
            ("a:b/c@1.2.0#f", Some("a:b/c@1.2.0#f")),
            ("a:b/c@1.3.0#f", Some("a:b/c@1.10.1#f")),
            ("a:b/c@0.2.9#f", Some("a:b/c@0.2.1#f")),
            ("a:b/c@0.0.1#f", Some("a:b/c@0.0.1#f")),
            ("a:b/c@0.0.2#f", Some("a:b/c#f")),
            ("a:b/c@2.0.0#f", Some("a:b/c#f")),
            ("a:b/c@1.2.0-rc.1#f", Some("a:b/c#f")),
            ("f", Some("f")),
            ("a:b/c#g", None),
            ("a:b/d#f", None),
            ("a:b/f", None),
        ] {
            assert_eq!(find(&functions, wanted).map(|f| f.path.as_str()), found, "{wanted}");
        }
        assert!(find(&functions[1..], "a:b/c@2.0.0#f").is_none());
        assert!(find(&functions[1..], "a:b/c#f").is_none());
    }

    #[test]
    fn x14_what_an_import_lacks_is_told() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let functions = functions(&["a:b/c#f", "a:b/c#g", "h"]);
        let given = |name: &str, kind, of: &[&str]| given(&functions, &import(name, kind, of));
        let all = |of: &[&str]| FromApplication::All(names(of));
        assert_eq!(given("a:b/c@1.0.0", ImportKind::Interface, &["g", "f"]), all(&["g", "f"]));
        assert_eq!(given("h", ImportKind::Function, &["h"]), all(&["h"]));
        // Before the module is compiled, nothing is known but the name.
        assert_eq!(given("a:b/c@1.0.0", ImportKind::Interface, &[]), all(&["f", "g"]));
        assert_eq!(given("h", ImportKind::Function, &[]), all(&["h"]));
        assert_eq!(given("a:b/d", ImportKind::Interface, &[]), FromApplication::None);
        assert_eq!(given("a:b/d", ImportKind::Interface, &["f"]), FromApplication::None);
        let some = FromApplication::Some { given: names(&["f"]), absent: names(&["x: func(n: u32) -> u32"]) };
        assert_eq!(given("a:b/c", ImportKind::Interface, &["f", "x"]), some);
    }

    #[test]
    fn x14_a_misspelt_path_is_shown_beside_what_is_missing() {
        let hint = |paths: &[&str], import: &Import| hint(&functions(paths), import);
        let prices = import("acme:shop/prices", ImportKind::Interface, &["price"]);
        let said = hint(&["zeta:a/b#c", "acme:shop/price#price"], &prices).unwrap();
        assert_eq!(said, "the policy gives no function of it, but acme:shop/price#price, zeta:a/b#c");
        assert!(hint(&[], &prices).unwrap().contains("Policy::function"));
        let mut handles = prices;
        handles.functions[0].ty.result = Some(Type::Unsupported("own<resource>".to_owned()));
        assert_eq!(hint(&[], &handles), None);
        assert_eq!(hint(&[], &import("wpool:ipc/queues#f", ImportKind::Function, &[])), None);
    }
}
