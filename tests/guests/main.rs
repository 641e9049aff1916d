//! Modules as people have them: what they import, how they begin and end, what they need of WebAssembly:
//! faults F131 to F144.

#[path = "../support/mod.rs"]
mod support;

mod exits;
mod features;
mod imports;
mod input;
mod state;
mod typed;

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use support::command::{
    Running, args, by_shell, ends, err, file, out, path_text, prebuilt, run, scratch, with_input, wpool,
};
use support::{builder, loader, wat};
use tempfile::TempDir;
use wpool::module::{CompileLimits, ImportKind, WasmFeature};
use wpool::{Isolation, ModuleError, Policy, Pool, Process, StartMethod, Target, TaskError};

/// A module's text as a file.
fn module(dir: &TempDir, text: &str) -> String {
    path_text(&file(dir, "module.wat", text))
}

/// A component around `answer: func() -> u32`, which is 42, with these imports and types before it.
fn answering(imports: &str) -> String {
    format!(
        r#"(component {imports}
            (core module $m (func (export "answer") (result i32) (i32.const 42)))
            (core instance $i (instantiate $m))
            (func (export "answer") (result u32) (canon lift (core func $i "answer"))))"#
    )
}

const TYPES: [&str; 7] = [
    // A record, a variant, an enum, flags, and a chain of names.
    r#"(import "demo:geo/types" (instance
        (type $p (record (field "x" u32) (field "y" u32))) (export "point" (type $point (eq $p)))
        (type $v (variant (case "none") (case "at" $point))) (export "place" (type $place (eq $v)))
        (type $e (enum "a" "b")) (export "kind" (type (eq $e)))
        (type $f (flags "r" "w")) (export "mode" (type (eq $f)))
        (export "spot" (type (eq $place)))))"#,
    // Types of one interface that are used in another, and in the world.
    r#"(import "demo:geo/types@1.0.0" (instance $a (type $p (record (field "x" u32))) (export "point" (type (eq $p)))))
       (alias export $a "point" (type $point))
       (import "demo:geo/more@1.0.0" (instance
            (alias outer 1 $point (type $q)) (export "point" (type $r (eq $q)))
            (type $l (list $r)) (export "line" (type (eq $l)))))
       (import "point" (type (eq $point)))"#,
    // A resource without a constructor.
    r#"(import "demo:geo/handles" (instance (export "handle" (type (sub resource)))))"#,
    r#"(import "demo:geo/handles" (instance $h (export "handle" (type (sub resource)))))
       (alias export $h "handle" (type $handle))
       (import "demo:geo/users" (instance
            (alias outer 1 $handle (type $h)) (export "handle" (type $mine (eq $h)))
            (type $o (own $mine)) (type $r (record (field "h" $o))) (export "holder" (type (eq $r)))))"#,
    r#"(import "outer" (instance (export "inner" (instance (export "r" (type (sub resource))) (type $t (tuple u8 u8)) (export "t" (type (eq $t)))))))"#,
    // A resource of an interface that is there, by another name.
    r#"(import "wasi:io/error@0.2.0" (instance $e (export "error" (type (sub resource)))))
       (alias export $e "error" (type $error))
       (import "demo:geo/users" (instance
            (alias outer 1 $error (type $e)) (export "mishap" (type $mine (eq $e))) (type $o (option (own $mine))) (export "maybe" (type (eq $o)))))"#,
    // Types of interfaces that exist elsewhere, and of one that could be granted.
    r#"(import "wasi:http/types@0.2.0" (instance (export "fields" (type (sub resource)))))
       (import "wasi:sockets/network@0.2.0" (instance (type $e (enum "unknown")) (export "error-code" (type (eq $e)))))
       (import "wasi:io/error@0.2.0" (instance (export "error" (type (sub resource)))))"#,
];

/// `answer(n)` is 40 + n once `_initialize` has run, and 1000 more for each further time; `calls` counts
/// itself.
const REACTOR: &str = r#"(module
    (global $base (mut i32) (i32.const -960)) (global $calls (mut i32) (i32.const 0))
    (func (export "_initialize") (global.set $base (i32.add (global.get $base) (i32.const 1000))))
    (func (export "calls") (param i32) (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1))) (global.get $calls))
    (func (export "answer") (param i32) (result i32) (i32.add (global.get $base) (local.get 0))))"#;
