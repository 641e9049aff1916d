//! The function that a worker calls before its first task.

use super::{Target, resolve};
use crate::error::BuildError;
use crate::spec::{Call, ModuleInfo};
use crate::value::{Type, Value};

/// The hook of world `wpool:task/stateful-task`.
pub(crate) const INIT: &str = "init";

/// Finds the initializer and binds its arguments.
pub(crate) fn initializer(name: &str, initargs: &[Value], info: &ModuleInfo) -> Result<Call, BuildError> {
    let export = info.target(Some(name))?;
    let target = match &export.ty.params[..] {
        [only] if only.ty == strings() && initargs.iter().all(|v| matches!(v, Value::String(_))) => {
            Target::func(name).arg(Value::List(initargs.to_vec()))
        }
        _ => initargs.iter().fold(Target::func(name), |target, value| target.arg(value.clone())),
    };
    Ok(resolve(&target, info)?.complete()?.call)
}

/// The initializer of a module that has one by its world, `init: func(args: list<string>) -> result<_,
/// string>`, without arguments.
pub(crate) fn own_initializer(info: &ModuleInfo) -> Result<Option<Call>, BuildError> {
    info.has_init().then(|| initializer(INIT, &[], info)).transpose()
}

fn strings() -> Type {
    Type::List(Box::new(Type::String))
}
