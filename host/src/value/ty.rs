//! The types of parameters and results, as the compiler process reports them.
//!
//! They are the value types of the component model. The text of a record or a variant has its fields or
//! cases, since the binary of a component has no names of types.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A value type of the component model.
///
/// ```
/// use wpool::value::Type;
///
/// let bytes = Type::List(Box::new(Type::U8));
/// assert_eq!(bytes.to_string(), "list<u8>");
/// assert!(bytes.is_bytes() && bytes.is_bytes_or_string() && bytes.is_supported());
/// assert!(!Type::Unsupported("stream<u8>".to_owned()).is_supported());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "the variants are the component model's own names")]
pub enum Type {
    Bool,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    F32,
    F64,
    Char,
    String,
    List(Box<Type>),
    /// A list with exactly this many elements.
    FixedList(Box<Type>, u32),
    Record(Vec<(String, Type)>),
    Tuple(Vec<Type>),
    Variant(Vec<(String, Option<Type>)>),
    Enum(Vec<String>),
    Option(Box<Type>),
    Result(Option<Box<Type>>, Option<Box<Type>>),
    Flags(Vec<String>),
    /// A resource handle, stream, future or map, with the text of its type. Such a value cannot leave its
    /// instance.
    Unsupported(String),
}

impl Type {
    /// Whether values of this type can be passed between processes.
    pub fn is_supported(&self) -> bool {
        match self {
            Type::Unsupported(_) => false,
            Type::List(t) | Type::FixedList(t, _) | Type::Option(t) => t.is_supported(),
            Type::Record(fields) => fields.iter().all(|(_, t)| t.is_supported()),
            Type::Tuple(types) => types.iter().all(Type::is_supported),
            Type::Variant(cases) => cases.iter().all(|(_, t)| t.as_ref().is_none_or(Type::is_supported)),
            Type::Result(ok, err) => [ok, err].into_iter().flatten().all(|t| t.is_supported()),
            _ => true,
        }
    }

    /// Whether this is `list<u8>`, whose values are passed as bytes, without a text form.
    pub fn is_bytes(&self) -> bool {
        matches!(self, Type::List(t) if **t == Type::U8)
    }

    /// Whether this is `list<u8>` or `string`.
    pub fn is_bytes_or_string(&self) -> bool {
        self.is_bytes() || *self == Type::String
    }
}

impl Type {
    /// The types directly inside this type.
    pub(super) fn parts(&self) -> Vec<&Type> {
        match self {
            Type::List(t) | Type::FixedList(t, _) | Type::Option(t) => vec![t],
            Type::Record(fields) => fields.iter().map(|(_, t)| t).collect(),
            Type::Tuple(types) => types.iter().collect(),
            Type::Variant(cases) => cases.iter().filter_map(|(_, t)| t.as_ref()).collect(),
            Type::Result(ok, err) => [ok, err].into_iter().flatten().map(|t| &**t).collect(),
            _ => vec![],
        }
    }

    /// Whether at most `depth` types are nested, this type included.
    pub(crate) fn is_within(&self, depth: usize) -> bool {
        depth > 0 && self.parts().iter().all(|t| t.is_within(depth - 1))
    }

    /// Whether all names in it are plain labels, so that its text can be shown.
    pub(crate) fn has_names(&self) -> bool {
        let own = match self {
            Type::Record(fields) => fields.iter().all(|(name, _)| is_label(name)),
            Type::Variant(cases) => cases.iter().all(|(name, _)| is_label(name)),
            Type::Enum(names) | Type::Flags(names) => names.iter().all(|name| is_label(name)),
            Type::Unsupported(what) => what.chars().all(crate::escape::is_plain),
            _ => true,
        };
        own && self.parts().iter().all(|t| t.has_names())
    }
}

/// Whether the text can be the name of a parameter, a field, a case or a flag.
fn is_label(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Writes a list with commas, each element by `each`.
fn commas<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    each: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        each(f, item)?;
    }
    Ok(())
}

impl fmt::Display for Type {
    /// The type in WIT. Records, variants, enums and flags are written with their parts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Bool => f.write_str("bool"),
            Type::S8 => f.write_str("s8"),
            Type::U8 => f.write_str("u8"),
            Type::S16 => f.write_str("s16"),
            Type::U16 => f.write_str("u16"),
            Type::S32 => f.write_str("s32"),
            Type::U32 => f.write_str("u32"),
            Type::S64 => f.write_str("s64"),
            Type::U64 => f.write_str("u64"),
            Type::F32 => f.write_str("f32"),
            Type::F64 => f.write_str("f64"),
            Type::Char => f.write_str("char"),
            Type::String => f.write_str("string"),
            Type::List(t) => write!(f, "list<{t}>"),
            Type::FixedList(t, n) => write!(f, "list<{t}, {n}>"),
            Type::Record(fields) => {
                f.write_str("record { ")?;
                commas(f, fields, |f, (name, ty)| write!(f, "{name}: {ty}"))?;
                f.write_str(" }")
            }
            Type::Tuple(types) => {
                f.write_str("tuple<")?;
                commas(f, types, |f, ty| write!(f, "{ty}"))?;
                f.write_str(">")
            }
            Type::Variant(cases) => {
                f.write_str("variant { ")?;
                commas(f, cases, |f, (name, ty)| match ty {
                    Some(ty) => write!(f, "{name}({ty})"),
                    None => f.write_str(name),
                })?;
                f.write_str(" }")
            }
            Type::Enum(names) => {
                f.write_str("enum { ")?;
                commas(f, names, |f, name| f.write_str(name))?;
                f.write_str(" }")
            }
            Type::Option(t) => write!(f, "option<{t}>"),
            Type::Result(None, None) => f.write_str("result"),
            Type::Result(Some(ok), None) => write!(f, "result<{ok}>"),
            Type::Result(None, Some(err)) => write!(f, "result<_, {err}>"),
            Type::Result(Some(ok), Some(err)) => write!(f, "result<{ok}, {err}>"),
            Type::Flags(names) => {
                f.write_str("flags { ")?;
                commas(f, names, |f, name| f.write_str(name))?;
                f.write_str(" }")
            }
            Type::Unsupported(what) => f.write_str(what),
        }
    }
}

/// A parameter of a function. The functions of a core module have no parameter names.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let module = guest("upper")?;
/// let run = module.info().target(Some("run"))?;
/// assert_eq!(run.ty.params[0].name.as_deref(), Some("input"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Param {
    /// The parameter's name, for binding by keyword.
    pub name: Option<String>,
    /// Its type.
    pub ty: Type,
}

impl Param {
    /// The parameter's name in a message. `index` counts from 0.
    pub(crate) fn label(&self, index: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("value {}", index + 1))
    }

    /// The argument in words. `index` counts from 0.
    pub(crate) fn described(&self, index: usize) -> String {
        match &self.name {
            Some(name) => format!("argument {} ({name}: {})", index + 1, self.ty),
            None => format!("argument {} ({})", index + 1, self.ty),
        }
    }
}

/// The type of an exported function.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let module = numbers()?;
/// let add = &module.info().target(Some("add"))?.ty;
/// assert_eq!(add.params.len(), 2);
/// assert_eq!(add.ok_type(), Some(&wpool::value::Type::S32));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FuncType {
    /// The parameters, in order.
    pub params: Vec<Param>,
    /// The result, if there is one. Several results of a core function are a tuple.
    pub result: Option<Type>,
}

impl FuncType {
    /// The type that a successful call gives: `T` if the result is `result<T, E>`.
    pub fn ok_type(&self) -> Option<&Type> {
        match &self.result {
            Some(Type::Result(ok, _)) => ok.as_deref(),
            other => other.as_ref(),
        }
    }

    /// Whether every parameter and the result can be passed between processes.
    pub fn is_supported(&self) -> bool {
        self.params.iter().all(|p| p.ty.is_supported()) && self.result.as_ref().is_none_or(Type::is_supported)
    }
}

impl FuncType {
    /// Whether at most `depth` types are nested in it.
    pub(crate) fn is_within(&self, depth: usize) -> bool {
        self.types().all(|ty| ty.is_within(depth))
    }

    /// Whether all names in it are plain labels.
    pub(crate) fn has_names(&self) -> bool {
        let mut params = self.params.iter().filter_map(|param| param.name.as_deref());
        params.all(is_label) && self.types().all(Type::has_names)
    }

    fn types(&self) -> impl Iterator<Item = &Type> {
        self.params.iter().map(|param| &param.ty).chain(&self.result)
    }
}

impl fmt::Display for FuncType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("func(")?;
        commas(f, &self.params, |f, p| match &p.name {
            Some(name) => write!(f, "{name}: {}", p.ty),
            None => write!(f, "{}", p.ty),
        })?;
        f.write_str(")")?;
        match &self.result {
            Some(ty) => write!(f, " -> {ty}"),
            None => Ok(()),
        }
    }
}
