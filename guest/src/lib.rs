//! Write guests for wpool, which is Python's `multiprocessing` for code you do not trust. A guest is a
//! few functions, compiled to a WebAssembly component. wpool runs them in a pool of sandboxed worker
//! processes.
//!
//! ```
//! use wpool_guest::process;
//!
//! #[wpool_guest::task]
//! fn hello(name: String) -> String {
//!     format!("hello {name} from {} (process {})", process::name(), process::id())
//! }
//! ```
//!
//! Build it as a `cdylib` for `wasm32-wasip2`, and map it over the lines of a file:
//!
//! ```text
//! $ cargo build --release --target wasm32-wasip2
//! $ wpool map target/wasm32-wasip2/release/hello.wasm names.txt -j 5
//! hello Ada from PoolWorker-1 (process 4711)
//! hello Grace from PoolWorker-2 (process 4712)
//! ```
//!
//! # Functions
//!
//! A crate has any number of tasks. Each is an export of its own name, with the WIT types of its parameters
//! and its result:
//!
//! ```
//! /// `scale: func(x: f64, factor: f64) -> f64`
//! #[wpool_guest::task]
//! fn scale(x: f64, factor: f64) -> f64 {
//!     x * factor
//! }
//!
//! /// `divide: func(dividend: s64, divisor: s64) -> result<s64, string>`
//! #[wpool_guest::task]
//! fn divide(dividend: i64, divisor: i64) -> Result<i64, String> {
//!     dividend.checked_div(divisor).ok_or_else(|| format!("{dividend} / {divisor} has no result"))
//! }
//! ```
//!
//! ```text
//! $ wpool call numbers.wasm 'scale(7, 2.5)'
//! 17.5
//! $ wpool map numbers.wasm --func scale --kw factor=2.5 --items 1 2
//! 2.5
//! 5
//! ```
//!
//! A library calls it as `pool.func::<(f64, f64), f64>("scale")`. Names are those of the source in
//! kebab-case: `count_words` is `count-words`. The names of parameters are those of `--kw`. `map` calls the
//! function `run` if no other is named, or the only one.
//!
//! [`ComponentType`] lists the types; its derive adds structs and enums of your own.
//!
//! A task may return `Result<U, E>`. An `Err` corresponds to an exception in Python: the task fails, and the
//! worker goes on with the next task. An `E` with a WIT type is passed as it is; of any other one the host
//! gets the message, as [`Display`](std::fmt::Display) writes it. A panic fails the task, too; its message
//! goes to stderr.
//!
//! # JSON
//!
//! A task with the word `json` takes a record of bytes, and reads it as its one argument. It returns bytes.
//!
//! | type | as the argument | as the result |
//! |---|---|---|
//! | [`String`], `&str` | the record, which must be UTF-8 | as it is |
//! | `Vec<u8>`, `&[u8]` | the record | as it is |
//! | `[u8; N]` | the record, which must have N bytes | as it is |
//! | integers, floats, [`bool`], [`char`] | parsed, without white space around it | as `{}` shows it |
//! | `()` | | empty |
//! | other serde types: structs, enums, tuples, `Vec<T>`, `Option<T>`, maps | JSON | JSON |
//!
//! If a record does not fit the argument's type, the task fails with a message, and the function is not
//! called.
//!
//! ```
//! #[derive(serde::Deserialize)]
//! struct Shot { speed: f64, angle: f64 }
//!
//! #[derive(serde::Serialize)]
//! struct Landing { distance: f64 }
//!
//! #[wpool_guest::task(json)]
//! fn shoot(shot: Shot) -> Result<Landing, String> {
//!     if !(0.0..=90.0).contains(&shot.angle) {
//!         return Err(format!("{}° is not an elevation", shot.angle));
//!     }
//!     Ok(Landing { distance: shot.speed.powi(2) * (2.0 * shot.angle.to_radians()).sin() / 9.81 })
//! }
//! ```
//!
//! # State
//!
//! By default each task gets a new instance of the component, so no record influences the result of another
//! one. A guest that needs state has an initializer for it, as `initializer` and `initargs` in Python:
//!
//! ```
//! use std::sync::OnceLock;
//!
//! static GREETING: OnceLock<String> = OnceLock::new();
//!
//! /// Called once in each instance, before its first task.
//! #[wpool_guest::init]
//! fn init(args: Vec<String>) -> Result<(), &'static str> {
//!     let greeting = args.into_iter().next().ok_or("the greeting is missing")?;
//!     GREETING.set(greeting).map_err(|_| "init was called twice")
//! }
//!
//! #[wpool_guest::task]
//! fn greet(name: &str) -> String {
//!     format!("{} {name}", GREETING.get().map_or("hello", String::as_str))
//! }
//!
//! /// Called once before an instance that has run is retired in good order.
//! #[wpool_guest::shutdown]
//! fn shutdown() {
//!     eprintln!("no more {}", GREETING.get().map_or("hello", String::as_str));
//! }
//! ```
//!
//! # Many records in one call
//!
//! A call from the host costs more than a short task. So [`task`] exports a second function beside one whose
//! parameter and result are a string or bytes: `shout-many` for `shout`, and for `run` that of the world
//! `wpool:task/batch-task`. It runs the task for many records, and reports each outcome before it begins the
//! next record. The host may use it if one instance serves all tasks of a worker. Results and errors are the
//! same.
//!
//! # Other worlds
//!
//! A guest that implements a WIT world uses wit-bindgen, also beside tasks: the linker merges
//! what the guest exports. The guest then depends on `wit-bindgen` with its default features, whose generator
//! makes a cold build a minute longer.
//!
//! ```text
//! wit_bindgen::generate!({
//!     inline: "package acme:plugin;
//!              world plugin { export transform: func(text: string) -> string; }",
//! });
//!
//! struct Plugin;
//!
//! impl Guest for Plugin {
//!     fn transform(text: String) -> String {
//!         text.to_uppercase()
//!     }
//! }
//!
//! export!(Plugin);
//! ```
//!
//! # Queues, locks and the rest
//!
//! A task that needs another one, or the host, uses shared objects, as in Python's `multiprocessing`: see
//! [`ipc`] for `Queue`, `Connection` (an end of a pipe), `Value` and `Dict`, and [`sync`] for `Lock`,
//! `RLock`, `Semaphore`, `Event`, `Condition` and `Barrier`. The host makes an object, and shares it under a
//! name:
//!
//! ```no_run
//! use wpool_guest::ipc::{Error, Queue};
//! use wpool_guest::sync::Lock;
//!
//! #[wpool_guest::task]
//! fn crawl(page: &str) -> Result<(), Error> {
//!     let (found, printer) = (Queue::<String>::open("found")?, Lock::open("printer")?);
//!     for word in page.split_whitespace().filter(|word| word.starts_with("http")) {
//!         found.put(word)?;
//!     }
//!     let _guard = printer.acquire()?;
//!     println!("{page}");
//!     Ok(())
//! }
//! ```
//!
//! # Testing a guest
//!
//! The attributes leave the function unchanged, and export nothing outside WebAssembly. An ordinary test may
//! call the function. The functions of [`process`] then describe the process of the test, and shared objects
//! are those that the test has made with `testing::share`:
//!
//! ```
//! use wpool_guest::ipc::{Error, Queue};
//!
//! #[wpool_guest::task]
//! fn words(line: &str) -> Result<(), Error> {
//!     Queue::<String>::open("words")?.put_many(line.split_whitespace())
//! }
//!
//! # fn main() -> Result<(), Error> {
//! wpool_guest::testing::share("queue:words");
//! words("one two")?;
//! assert_eq!(Queue::<String>::open("words")?.get()?, "one");
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! `json` (default): arguments and results of serde types. Without it a guest depends only on the small
//! runtime of its bindings.

#[doc(hidden)]
pub mod bindings;
pub mod ipc;
#[cfg(not(target_arch = "wasm32"))]
mod local;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod many;
pub mod process;
mod record;
pub mod sync;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
#[doc(hidden)]
pub mod typed;

/// The interfaces of shared objects: the host's, or in a unit test those of this process.
mod host {
    #[cfg(target_arch = "wasm32")]
    pub(crate) use crate::bindings::{communicating::wpool::ipc, synchronizing::wpool::sync};
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) use crate::local::{ipc, sync};
}

/// Makes a function a task: exports it under its name, with the WIT types of its parameters and its result.
///
/// The page of the [crate] has the rules. `#[task(json)]` is for types of serde.
///
/// ```
/// #[wpool_guest::task]
/// fn count_words(line: &str) -> usize {
///     line.split_whitespace().count()
/// }
/// ```
///
/// Other items do not compile:
///
/// ```compile_fail
/// #[wpool_guest::task]
/// async fn later(line: String) -> String { line }
/// # fn main() {}
/// ```
/// ```compile_fail
/// #[wpool_guest::task]
/// fn any<T: serde::Serialize + Default>(line: String) -> T { T::default() }
/// # fn main() {}
/// ```
/// ```compile_fail
/// #[wpool_guest::task]
/// fn init(a: u32) -> u32 { a } // the name of the initializer
/// # fn main() {}
/// ```
/// ```compile_fail
/// #[wpool_guest::task(json)]
/// fn two(a: u32, b: u32) -> u32 { a + b }
/// # fn main() {}
/// ```
/// ```compile_fail
/// #[wpool_guest::task]
/// fn changes(list: &mut Vec<u8>) { list.clear(); }
/// # fn main() {}
/// ```
/// ```compile_fail
/// struct Unknown;
/// #[wpool_guest::task]
/// fn neither_bytes_nor_text_nor_serde(_: Unknown) {}
/// # fn main() {}
/// ```
/// ```compile_fail
/// struct Unknown;
/// #[wpool_guest::task]
/// fn an_error_without_a_message() -> Result<(), Unknown> { Ok(()) }
/// # fn main() {}
/// ```
/// ```compile_fail
/// struct Guest;
/// impl Guest {
///     #[wpool_guest::task]
///     fn method(&self, line: String) -> String { line }
/// }
/// # fn main() {}
/// ```
/// ```compile_fail
/// mod a {
///     #[wpool_guest::task]
///     fn one() {}
/// }
/// mod b {
///     #[wpool_guest::task]
///     fn one() {}
/// }
/// # fn main() {}
/// ```
pub use wpool_guest_macro::task;

/// Gives a struct or an enum a WIT type, so that a task can take and return it.
///
/// | Rust | WIT |
/// |---|---|
/// | a struct with named fields | a record |
/// | a struct of `bool` with `#[component(flags)]` | flags |
/// | an enum whose cases have no values | an enum |
/// | another enum; several values of a case are a tuple | a variant |
///
/// ```
/// use wpool_guest::ComponentType;
///
/// #[derive(ComponentType)]
/// struct Point { x: f64, y: f64 }
///
/// #[derive(ComponentType)]
/// enum Shape { Empty, Circle(Point, f64), Polygon(Vec<Point>) }
///
/// #[derive(ComponentType)]
/// #[component(flags)]
/// struct Sides { left: bool, right: bool }
///
/// #[wpool_guest::task]
/// fn area(shape: Shape) -> Result<f64, String> {
///     match shape {
///         Shape::Empty => Ok(0.0),
///         Shape::Circle(_, radius) => Ok(std::f64::consts::PI * radius.powi(2)),
///         Shape::Polygon(points) => Err(format!("{} points", points.len())),
///     }
/// }
/// ```
/// ```compile_fail
/// #[derive(wpool_guest::ComponentType)]
/// struct Pair(f64, f64);
/// # fn main() {}
/// ```
/// ```compile_fail
/// #[derive(wpool_guest::ComponentType)]
/// struct Any<T> { value: T }
/// # fn main() {}
/// ```
/// ```compile_fail
/// #[derive(wpool_guest::ComponentType)]
/// struct Holder { file: std::fs::File }
/// # fn main() {}
/// ```
pub use wpool_guest_macro::ComponentType;

pub use typed::ComponentType;

/// Makes a function the initializer of this component: exports it as `init` of the world `wpool:task/init`.
///
/// The function is `fn(Vec<String>)` or `fn()`, and returns nothing or `Result<(), E>`, where `E` implements
/// [`Display`](std::fmt::Display). It is called once in each instance before its first task, with the
/// arguments of `--init-arg`. Each task has an instance of its own, unless the host is told to keep one
/// (`--init`, `--init-arg`, `--reuse`). An `Err` or a panic breaks the pool, once, with that message.
///
/// ```
/// # use std::sync::atomic::{AtomicU32, Ordering};
/// static BASE: AtomicU32 = AtomicU32::new(0);
///
/// #[wpool_guest::init]
/// fn init(args: Vec<String>) -> Result<(), std::num::ParseIntError> {
///     if let Some(base) = args.first() {
///         BASE.store(base.parse()?, Ordering::Relaxed);
///     }
///     Ok(())
/// }
/// ```
///
/// ```compile_fail
/// #[wpool_guest::init]
/// fn init(base: u32) {}
/// # fn main() {}
/// ```
/// ```compile_fail
/// #[wpool_guest::init]
/// fn init() -> u32 { 1 }
/// # fn main() {}
/// ```
pub use wpool_guest_macro::init;

/// Makes a function the last call of an instance: exports it as `shutdown` of the world
/// `wpool:task/shutdown`.
///
/// The function is `fn()`. It is called once before an instance that its worker keeps (`--init`,
/// `--init-arg`, `--reuse`, or that of a process) is retired in good order. It is not called when a worker
/// is terminated, nor in the instances that tasks have of their own.
///
/// ```
/// #[wpool_guest::shutdown]
/// fn shutdown() {
///     println!("done");
/// }
/// ```
///
/// ```compile_fail
/// #[wpool_guest::shutdown]
/// fn shutdown(reason: String) {}
/// # fn main() {}
/// ```
/// ```compile_fail
/// #[wpool_guest::shutdown]
/// fn shutdown() -> u32 { 1 }
/// # fn main() {}
/// ```
pub use wpool_guest_macro::shutdown;

/// The items that the attributes expand to. Not for use.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_arch = "wasm32")]
    pub use crate::__wpool_export as export;
    #[cfg(target_arch = "wasm32")]
    pub use crate::__wpool_export_many as export_many;
    pub use crate::bindings;
    #[cfg(target_arch = "wasm32")]
    pub use crate::many;
    pub use crate::record::{Argument, FromRecord, Hook, Outcome, Value};
    #[cfg(feature = "json")]
    pub use crate::record::{JsonArgument, JsonValue};
    pub use crate::record::{
        OtherArgument, OtherValue, PlainOutcome, RecordArgument, RecordValue, ResultOutcome,
    };
    pub use crate::typed;

    /// The traits whose methods the expansion calls: one `use` brings all of them into scope.
    pub mod traits {
        #[cfg(feature = "json")]
        pub use crate::record::{JsonArgument as _, JsonValue as _};
        pub use crate::record::{
            OtherArgument as _, OtherValue as _, PlainOutcome as _, RecordArgument as _, RecordValue as _,
            ResultOutcome as _,
        };
    }

    pub use std::result::Result;
    pub use std::string::String;
    pub use std::vec::Vec;
}
