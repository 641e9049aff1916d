//! Values: large fixed arguments, and texts that stand for large values.

use std::fmt::Write;
use std::time::Instant;

use wpool::target::Format;
use wpool::value::{Type, Value};
use wpool::{Module, Target};

use super::process::{load, number, own_peak, pool, status_kib};

const MIB: usize = 1 << 20;
const FIXED: &str = "host/benches/guests/fixed.wat";

/// For a fixed argument of this many MiB, each by MiB: the seconds of the first task, and the memory of the
/// coordinator and of the worker.
pub(crate) fn fixed(args: &[String]) -> Result<Vec<f64>, String> {
    let mib = number(args, 0)?;
    let pool = pool(&load(FIXED)?, 1)?;
    let call = |bytes: usize| -> Result<(), String> {
        let target = Target::func("run").arg(&vec![7u8; bytes][..]);
        let run = pool.func::<&str, u32>(target).map_err(|e| e.to_string())?;
        match pool.apply(&run, "abc") {
            Ok(sum) if sum as usize == bytes + 3 + 7 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    };
    call(10)?;
    let worker = pool.workers().first().map_or(0, |worker| worker.pid);
    let peaks = || (own_peak(), status_kib(worker, "VmHWM:").unwrap_or(f64::NAN));
    let (before, started) = (peaks(), Instant::now());
    call(mib * MIB)?;
    let (took, after) = (started.elapsed().as_secs_f64(), peaks());
    let by_mib = mib as f64 * 1024.0;
    Ok(vec![took / mib as f64, (after.0 - before.0) / by_mib, (after.1 - before.1) / by_mib])
}

/// The memory in MiB of the coordinator and of its worker after this many functions, one after the other,
/// each with its own fixed argument.
pub(crate) fn plans(args: &[String]) -> Result<Vec<f64>, String> {
    let functions = number(args, 0)?;
    let pool = pool(&load(FIXED)?, 1)?;
    for n in 0..functions {
        let argument: Vec<u8> = (0..65_536).map(|at| ((at * 31) ^ n) as u8).collect();
        let last = usize::from(argument[argument.len() - 1]);
        let run =
            pool.func::<&str, u32>(Target::func("run").arg(&argument[..])).map_err(|e| e.to_string())?;
        match pool.apply(&run, "abc") {
            Ok(sum) if sum as usize == 65_536 + 3 + last => {}
            other => return Err(format!("function {n}: {other:?}")),
        }
    }
    let worker = pool.workers().first().map_or(0, |worker| worker.pid);
    let now = |pid| status_kib(pid, "VmRSS:").map(|kib| kib / 1024.0).ok_or("a process has gone");
    Ok(vec![now(std::process::id())?, now(worker)?])
}

/// For a text of this many KiB: the memory of its value by the bytes of the text, and milliseconds for each
/// KiB. WAVE is read in this process, JSON in a worker. A refusal that names a limit is right too.
pub(crate) fn parse(args: &[String]) -> Result<Vec<f64>, String> {
    let [form, kind, _] = args else { return Err("expected a form, a kind and a size".to_owned()) };
    let (text, len) = (text(form, kind, number(args, 2)? << 10), number(args, 2)? as f64);
    let (grown, took) = match form.as_str() {
        "wave" => parse_wave(kind, &text)?,
        _ => parse_json(kind, &text)?,
    };
    Ok(vec![grown / len, took * 1e3 / len])
}

/// A list with as many elements as possible in a text of this length.
fn text(form: &str, kind: &str, len: usize) -> String {
    let element = match (form, kind) {
        ("wave", "options") => "{:}",
        (_, "options") => "{}",
        ("wave", _) => "c999",
        (_, _) => "\"c999\"",
    };
    let elements = len.saturating_sub(2) / (element.len() + 1);
    format!("[{}]", vec![element; elements].join(","))
}

fn parse_wave(kind: &str, text: &str) -> Result<(f64, f64), String> {
    let element = match kind {
        "options" => {
            Type::Record((0..1000).map(|n| (format!("f{n}"), Type::Option(Box::new(Type::U32)))).collect())
        }
        _ => Type::Variant((0..1000).map(|n| (format!("c{n}"), None)).collect()),
    };
    let ty = Type::List(Box::new(element));
    let (before, started) = (own_peak(), Instant::now());
    let value = Value::from_wave(text, &ty);
    let (took, after) = (started.elapsed().as_secs_f64(), own_peak());
    match value {
        Ok(Value::List(elements)) if elements.len() == text.matches(',').count() + 1 => {}
        Ok(_) => return Err("the value has the wrong length".to_owned()),
        Err(why) => names_a_limit(&why)?,
    }
    Ok((after - before, took))
}

/// The guest traps when it is asked for memory. So the worker reads the text, and no instance has the value.
fn parse_json(kind: &str, text: &str) -> Result<(f64, f64), String> {
    let module = Module::from_bytes(guest(kind).as_bytes()).map_err(|e| e.to_string())?;
    let pool = pool(&module, 1)?;
    let target = Target::func("run").input(Format::Json);
    let (mut inputs, mut outcomes) = pool.stream(&target, true).map_err(|e| e.to_string())?;
    let mut once = |text: &str| {
        inputs.push(text.as_bytes()).map_err(|e| e.to_string())?;
        let mut error = None;
        outcomes.take_into(&mut |outcome| error = outcome.result().err());
        Ok::<_, String>(error)
    };
    once("[]")?;
    let worker = pool.workers().first().map_or(0, |worker| worker.pid);
    let peak = || status_kib(worker, "VmHWM:").ok_or("the worker has gone");
    let (before, started) = (peak()?, Instant::now());
    let error = once(text)?;
    let (took, after) = (started.elapsed().as_secs_f64(), peak()?);
    match error {
        Some(wpool::TaskError::Trap { .. }) => {}
        Some(other) => names_a_limit(&other.to_string())?,
        None => return Err("a guest without memory took a value".to_owned()),
    }
    Ok((after - before, took))
}

fn names_a_limit(why: &str) -> Result<(), String> {
    let is_limit = ["limit", "at most", "too many", "too large"].iter().any(|word| why.contains(word));
    if is_limit { Ok(()) } else { Err(why.chars().take(200).collect()) }
}

/// A component whose function takes a list of records or of variants, and has no memory for it.
fn guest(kind: &str) -> String {
    let mut ty = String::new();
    for n in 0..1000 {
        // Writing to a string cannot fail.
        let _ok = match kind {
            "options" => write!(ty, "(field \"f{n}\" (option u32))"),
            _ => write!(ty, "(case \"c{n}\")"),
        };
    }
    let ty = if kind == "options" { format!("(record {ty})") } else { format!("(variant {ty})") };
    format!(
        r#"(component
            (core module $m
                (memory (export "memory") 1)
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                (func (export "run") (param i32 i32) (result i32) (i32.const 1)))
            (core instance $i (instantiate $m))
            (type $element {ty})
            (export $named "element" (type $element))
            (func (export "run") (param "all" (list $named)) (result u32)
                (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "cabi_realloc")))))"#
    )
}
