//! Rust functions that guests call: [`HostFunc`], and the types of their parameters and results.
//!
//! An argument comes out of a guest, so that its type is a [`FromValue`]. A result goes into one, so that its
//! type is an [`IntoValue`].

use std::fmt::Display;

use super::{FromValue, FuncType, IntoValue, Type, Value};

#[diagnostic::on_unimplemented(
    message = "guests cannot call this: its parameters must have types of values, and so must its result",
    note = "a closure's parameters need their types written out: `|sku: &str, count: u32| -> f64 {{ .. }}`"
)]
/// A Rust function or closure that guests can call: [`Policy::function`](crate::Policy::function).
///
/// It has up to six parameters, each a [`HostArg`], and gives a [`HostRet`]. `Params` only tells functions of
/// different types apart, and is always inferred. The parameters of a closure need their types written out.
///
/// ```
/// use wpool::value::{HostFunc, Type, Value};
///
/// let price = |sku: &str| -> Result<f64, String> { sku.parse().map_err(|_| format!("no {sku}")) };
/// let result = Type::Result(Some(Box::new(Type::F64)), Some(Box::new(Type::String)));
/// let given = price.answer(vec![Value::from("2.5")], Some(&result));
/// assert_eq!(given, Ok(Some(Value::Result(Ok(Some(Box::new(Value::F64(2.5))))))));
/// ```
pub trait HostFunc<Params>: Send + Sync + 'static {
    /// Whether a guest that imports a function of type `ty` can call this one.
    fn fits(ty: &FuncType) -> bool;

    /// Calls the function. `result`: the type of the import's result.
    ///
    /// # Errors
    /// The message of a trap: the function has failed, and the import has no error value for that; or a value
    /// does not fit its type.
    fn answer(&self, args: Vec<Value>, result: Option<&Type>) -> Result<Option<Value>, String>;
}

/// The type of a parameter of a [`HostFunc`]: any [`FromValue`], `&str` or `&[u8]`.
///
/// ```
/// use wpool::value::{HostArg, Type};
///
/// assert!(<&str as HostArg>::fits(&Type::String));
/// assert!(<Vec<u32> as HostArg>::fits(&Type::List(Box::new(Type::U32))));
/// ```
pub trait HostArg {
    /// Keeps the argument for the time of the call.
    type Kept;
    /// What the function takes.
    type Item<'a>;

    /// Whether an argument of type `ty` can be passed as this type.
    fn fits(ty: &Type) -> bool;

    /// Converts an argument. `None`: it does not fit.
    fn keep(value: Value) -> Option<Self::Kept>;

    /// The argument itself. Called once.
    fn lend(kept: &mut Self::Kept) -> Self::Item<'_>;
}

impl<T: FromValue> HostArg for T {
    type Kept = Option<T>;
    type Item<'a> = T;

    fn fits(ty: &Type) -> bool {
        <T as FromValue>::fits(ty)
    }

    fn keep(value: Value) -> Option<Option<T>> {
        T::from_value(value).map(Some)
    }

    fn lend(kept: &mut Option<T>) -> T {
        kept.take().expect("an argument is passed once")
    }
}

macro_rules! lent {
    ($($lent:ty => $kept:ty),*) => {$(
        impl HostArg for &$lent {
            type Kept = $kept;
            type Item<'a> = &'a $lent;

            fn fits(ty: &Type) -> bool {
                <$kept as FromValue>::fits(ty)
            }

            fn keep(value: Value) -> Option<$kept> {
                <$kept>::from_value(value)
            }

            fn lend(kept: &mut $kept) -> &$lent {
                kept
            }
        }
    )*};
}
lent!(str => String, [u8] => Vec<u8>);

/// The type of a result of a [`HostFunc`]: any [`IntoValue`], `()`, or a `Result` of these.
///
/// `T` is given for an import with a result of that type, or of type `result<T, ..>`. An `Err` becomes the
/// import's error value, if it fits the error type of the import's result; an import's `result<T>` has no
/// room for the value. Otherwise an `Err` is a trap with its message.
///
/// ```
/// use wpool::value::{HostRet, Type, Value};
///
/// let failed: Result<u32, String> = Err("no such thing".to_owned());
/// let result = Type::Result(Some(Box::new(Type::U32)), Some(Box::new(Type::String)));
/// let error = Value::Result(Err(Some(Box::new(Value::from("no such thing")))));
/// assert_eq!(failed.clone().into_result(Some(&result)), Ok(Some(error)));
/// assert_eq!(failed.into_result(Some(&Type::U32)), Err("no such thing".to_owned()));
/// ```
pub trait HostRet {
    /// Whether this type can be given for a result of type `result`. `None`: the import has no result.
    fn fits(result: Option<&Type>) -> bool;

    /// The value for a result of type `result`.
    ///
    /// # Errors
    /// The message of a trap.
    fn into_result(self, result: Option<&Type>) -> Result<Option<Value>, String>;
}

/// What a success gives if the import's result is a `result`: `ok(..)`.
fn ok(value: Option<Value>) -> Option<Value> {
    Some(Value::Result(Ok(value.map(Box::new))))
}

impl HostRet for () {
    fn fits(result: Option<&Type>) -> bool {
        matches!(result, None | Some(Type::Result(None, _)))
    }

    fn into_result(self, result: Option<&Type>) -> Result<Option<Value>, String> {
        Ok(result.and_then(|_| ok(None)))
    }
}

impl<T: IntoValue> HostRet for T {
    fn fits(result: Option<&Type>) -> bool {
        match result {
            Some(ty) if <T as IntoValue>::fits(ty) => true,
            Some(Type::Result(Some(ty), _)) => <T as IntoValue>::fits(ty),
            Some(_) | None => false,
        }
    }

    fn into_result(self, result: Option<&Type>) -> Result<Option<Value>, String> {
        let value = match result {
            Some(ty) if <T as IntoValue>::fits(ty) => self.into_value(ty).map(Some),
            Some(Type::Result(Some(ty), _)) => self.into_value(ty).map(|value| ok(Some(value))),
            Some(_) | None => None,
        };
        value.ok_or_else(|| {
            let ty = result.map_or("no value".to_owned(), ToString::to_string);
            format!("the result does not fit {ty}")
        })
    }
}

impl<T: HostRet, E: IntoValue + Display> HostRet for Result<T, E> {
    fn fits(result: Option<&Type>) -> bool {
        match result {
            Some(Type::Result(ok, _)) => T::fits(ok.as_deref()),
            other => T::fits(other),
        }
    }

    fn into_result(self, result: Option<&Type>) -> Result<Option<Value>, String> {
        match (self, result) {
            (Ok(value), Some(Type::Result(ty, _))) => value.into_result(ty.as_deref()).map(ok),
            (Ok(value), other) => value.into_result(other),
            (Err(_), Some(Type::Result(_, None))) => Ok(Some(Value::Result(Err(None)))),
            (Err(error), Some(Type::Result(_, Some(ty)))) if E::fits(ty) => {
                let message = error.to_string();
                let value = error.into_value(ty).ok_or(message)?;
                Ok(Some(Value::Result(Err(Some(Box::new(value))))))
            }
            (Err(error), _) => Err(error.to_string()),
        }
    }
}

macro_rules! functions {
    ($(($($name:ident)*))*) => {$(
        impl<Func, R, $($name),*> HostFunc<fn($($name),*) -> R> for Func
        where
            // The first bound finds the types of the parameters. The second lends to the function what it
            // takes by reference, for any lifetime.
            Func: Fn($($name),*) -> R + for<'a> Fn($($name::Item<'a>),*) -> R + Send + Sync + 'static,
            R: HostRet,
            $($name: HostArg,)*
        {
            fn fits(ty: &FuncType) -> bool {
                let mut params = ty.params.iter();
                $(params.next().is_some_and(|param| $name::fits(&param.ty)) &&)*
                    params.next().is_none() && R::fits(ty.result.as_ref())
            }

            #[allow(non_snake_case, reason = "each variable has the name of its type; there may be none")]
            fn answer(&self, args: Vec<Value>, result: Option<&Type>) -> Result<Option<Value>, String> {
                // A function that takes what is lent: without it, either of the two bounds could be meant.
                fn with<R, $($name),*>(function: impl Fn($($name),*) -> R, $($name: $name),*) -> R {
                    function($($name),*)
                }
                let mut args = args.into_iter();
                $(
                    let kept = args.next().and_then($name::keep);
                    let mut $name = kept.ok_or("an argument does not fit the function's parameter")?;
                )*
                if args.next().is_some() {
                    return Err("there are more arguments than the function has parameters".to_owned());
                }
                with(self, $($name::lend(&mut $name)),*).into_result(result)
            }
        }
    )*};
}
functions!(()(A)(A B)(A B C)(A B C D)(A B C D E)(A B C D E F));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Param;

    fn ty(params: &[Type], result: Option<Type>) -> FuncType {
        FuncType { params: params.iter().map(|ty| Param { name: None, ty: ty.clone() }).collect(), result }
    }

    fn fits<P, F: HostFunc<P>>(_function: &F, params: &[Type], result: Option<Type>) -> bool {
        F::fits(&ty(params, result))
    }

    fn result_of(ok: Option<Type>, err: Option<Type>) -> Type {
        Type::Result(ok.map(Box::new), err.map(Box::new))
    }

    #[test]
    fn x14_a_function_fits_imports_of_its_types() {
        let price = |_sku: &str, _count: u32| -> f64 { 1.0 };
        let params = [Type::String, Type::U32];
        assert!(fits(&price, &params, Some(Type::F64)));
        assert!(fits(&price, &params, Some(result_of(Some(Type::F64), Some(Type::String)))));
        assert!(!fits(&price, &params, Some(Type::String)));
        assert!(!fits(&price, &params, None));
        assert!(!fits(&price, &[Type::String], Some(Type::F64)));
        assert!(!fits(&price, &[Type::String, Type::U32, Type::U32], Some(Type::F64)));
        assert!(!fits(&price, &[Type::Bool, Type::U32], Some(Type::F64)));
        assert!(fits(&|| (), &[], None));
        assert!(fits(&|| (), &[], Some(result_of(None, Some(Type::String)))));
        assert!(!fits(&|| (), &[], Some(Type::U8)));
        let bytes = Type::List(Box::new(Type::U8));
        assert!(fits(&|_: &[u8], _: Vec<u8>, _: String| (), &[bytes.clone(), bytes, Type::String], None));
        assert!(fits(&|_: Value| -> Value { Value::Bool(true) }, &[Type::Enum(vec![])], Some(Type::U8)));
    }

    #[test]
    fn x14_an_error_is_the_imports_error_value_if_it_has_one() {
        let fails = |n: u32| -> Result<(), u32> { if n == 0 { Ok(()) } else { Err(n) } };
        let call = |n: u32, ty: Option<Type>| fails.answer(vec![Value::U32(n)], ty.as_ref());
        let error = |value| Ok(Some(Value::Result(Err(value))));
        assert_eq!(call(7, Some(result_of(None, Some(Type::U8)))), error(Some(Box::new(Value::U8(7)))));
        assert_eq!(call(7, Some(result_of(None, None))), error(None));
        assert_eq!(call(700, Some(result_of(None, Some(Type::U8)))), Err("700".to_owned()));
        assert_eq!(call(7, Some(result_of(None, Some(Type::String)))), Err("7".to_owned()));
        assert_eq!(call(7, None), Err("7".to_owned()));
        assert_eq!(call(0, None), Ok(None));
        assert_eq!(call(0, Some(result_of(None, None))), Ok(ok(None)));
    }

    #[test]
    fn x14_arguments_and_results_that_do_not_fit_are_told() {
        let small = |n: u64| -> u64 { n };
        let args = |n| vec![Value::U64(n)];
        assert_eq!(small.answer(args(7), Some(&Type::U8)), Ok(Some(Value::U8(7))));
        assert_eq!(small.answer(args(700), Some(&Type::U8)), Err("the result does not fit u8".to_owned()));
        assert!(small.answer(vec![], Some(&Type::U8)).is_err());
        assert!(small.answer(vec![Value::Bool(true)], Some(&Type::U8)).is_err());
        let concatenated = |a: &str, b: &[u8]| -> String { format!("{a}{}", b.len()) };
        let given =
            concatenated.answer(vec![Value::from("x"), Value::Bytes(vec![1, 2])], Some(&Type::String));
        assert_eq!(given, Ok(Some(Value::from("x2"))));
    }
}
