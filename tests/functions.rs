//! Functions that an application gives to its guests (rows X14 and X15 of the contract).

#[path = "support/methods.rs"]
mod methods;
mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use support::command::{run, scratch, wpool};
use support::{builder, wait_until, wat};
use wpool::events::WorkerState;
use wpool::ipc::Queue;
use wpool::policy::Grant;
use wpool::value::Value;
use wpool::{BuildError, Limit, Limits, Policy, Pool, PoolBuilder, Process, StartMethod, Target, TaskError};

methods::over_all_start_methods! {
    x14_values_of_every_type_go_to_the_application_and_back
    x14_an_error_is_a_value_a_trap_or_the_message_of_a_panic
    x14_closures_have_state_and_serve_all_workers
    x14_a_slow_function_is_under_the_tasks_time_limit_and_its_worker_lives_on
    x15_the_call_of_a_task_that_is_over_is_not_begun_and_its_answer_is_dropped
    x15_a_function_that_never_returns_keeps_no_pool_from_its_end
    x14_others_trap_if_unknown_imports_do
    x13_x14_a_function_may_use_shared_objects
}

/// A component that imports functions of several types, and exports nothing.
const IMPORTS: &str = r#"(component
    (import "acme:shop/prices@1.2.0" (instance
        (export "price" (func (param "sku" string) (result (result f64 (error string)))))
        (export "stock" (func (param "sku" string) (param "shop" u32) (result u32)))))
    (import "now" (func (result u64)))
    (core module $m (func (export "answer") (result i32) (i32.const 42)))
    (core instance $i (instantiate $m))
    (func (export "answer") (result u32) (canon lift (core func $i "answer"))))"#;

fn shop() -> Policy {
    Policy::sealed()
        .function("acme:shop/prices#price", |_: &str| -> Result<f64, String> { Ok(1.0) })
        .function("acme:shop/prices#stock", |_: &str, _: u32| 7u32)
        .function("now", || 1u64)
}

#[test]
fn x14_functions_are_checked_against_the_imports_before_anything_starts() {
    let module = wat(IMPORTS);
    let said = |policy: Policy| Pool::builder(&module).policy(policy).build().unwrap_err().to_string();
    let wrong = shop().function("acme:shop/prices#price", |_: u32| -> Result<f64, String> { Ok(1.0) });
    assert_eq!(
        said(wrong),
        "the module imports acme:shop/prices@1.2.0#price as func(sku: string) -> result<f64, string>, \
         which fn(u32) -> Result<f64, String> does not fit"
    );
    let wrong = Pool::builder(&module).policy(shop().function("now", || "soon")).build();
    assert!(matches!(wrong, Err(BuildError::Function { func, .. }) if func == "now"));
    let wrong = Process::builder(&module).policy(shop().function("now", |_: Value| 1u64)).build();
    assert!(matches!(wrong, Err(BuildError::Function { .. })));
}

#[test]
fn x14_what_the_application_does_not_give_is_missing() {
    let module = wat(IMPORTS);
    let missing = |policy: Policy| match Pool::builder(&module).policy(policy).build() {
        Err(BuildError::MissingImports { missing }) => missing.join("; "),
        other => panic!("{other:?}"),
    };
    let said = missing(Policy::sealed());
    assert!(said.contains("acme:shop/prices@1.2.0, now (no host interface of that name; "), "{said}");
    assert!(said.contains("an application that embeds wpool can give its functions (Policy::function)"));
    let said = missing(Policy::sealed().function("acme:shop/price#price", |_: &str| 1.0));
    assert!(said.contains("the policy gives no function of it, but acme:shop/price#price"), "{said}");
    let said = missing(Policy::sealed().function("acme:shop/prices@1.0.0#price", |_: &str| 1.0));
    let stock = "stock: func(sku: string, shop: u32) -> u32";
    assert!(said.contains(&format!("(the application gives price, but not {stock})")), "{said}");
    // Another major version is another interface.
    let said = missing(Policy::sealed().function("acme:shop/prices@2.0.0#price", |_: &str| 1.0));
    assert!(said.contains("but acme:shop/prices@2.0.0#price"), "{said}");
}

#[test]
fn x14_imports_are_described_with_their_functions() {
    let module = wat(IMPORTS);
    let functions: Vec<String> = module
        .imports()
        .flat_map(|import| import.functions.iter().map(|function| import.path(function)))
        .collect();
    assert_eq!(functions, ["acme:shop/prices@1.2.0#price", "acme:shop/prices@1.2.0#stock", "now"]);
    let granted: Vec<Grant> = module.info().grants(&shop()).map(|(_, grant)| grant).collect();
    let of = |names: &str| Grant::Granted(format!("functions of the application: {names}"));
    assert_eq!(granted, [of("price, stock"), of("now")]);
    // What wpool has itself is no business of an application.
    let clock = wat(r#"(component (import "wasi:clocks/wall-clock@0.2.0" (instance)))"#);
    assert!(clock.imports().all(|import| import.functions.is_empty()));
}

#[test]
fn x14_inspect_shows_what_an_application_would_have_to_give() {
    let dir = scratch();
    let module = dir.path().join("shop.wat");
    std::fs::write(&module, IMPORTS).unwrap();
    let module = module.to_str().unwrap();
    let text = String::from_utf8(run(wpool(["inspect", module])).stdout).unwrap();
    let imports = "  acme:shop/prices@1.2.0  MISSING: no host interface of that name; an application that \
                   embeds wpool can give its functions (Policy::function)\n      \
                   price: func(sku: string) -> result<f64, string>\n      \
                   stock: func(sku: string, shop: u32) -> u32\n  now  MISSING: as above\n      \
                   now: func() -> u64\n";
    assert!(text.contains(imports), "{text}");
    let json: serde_json::Value =
        serde_json::from_slice(&run(wpool(["inspect", module, "--json"])).stdout).unwrap();
    let stock = &json["imports"][0]["functions"][1];
    assert_eq!(stock["path"], "acme:shop/prices@1.2.0#stock");
    assert_eq!(stock["wit"], "stock: func(sku: string, shop: u32) -> u32");
    let refused = run(wpool(["call", module, "answer"]));
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("an application that embeds wpool can give"), "{said}");
}

/// Passes values of each type to functions of the application.
const FUNCTIONS: &str = include_str!("support/guests/functions.wat");

/// Functions that give back what they get.
fn echoes() -> Policy {
    Policy::sealed()
        .function("acme:echo/echo#text", |x: &str| x.to_owned())
        .function("acme:echo/echo#bytes", |x: &[u8]| x.to_vec())
        .function("acme:echo/echo#record", |x: Value| x)
        .function("acme:echo/echo#variant", |x: Value| x)
        .function("acme:echo/echo#option", |x: Option<Vec<String>>| x)
        .function("acme:echo/echo#enum", |x: Value| x)
        .function("acme:echo/echo#flags", |x: Value| x)
        .function("acme:echo/echo#tuple", |x: Value| x)
        .function("acme:echo/echo#result", |x: Value| x)
        .function("acme:echo/echo#number", |x: u64| x)
        .function("acme:echo/echo#several", |a: &str, b: u8, c: f32| format!("{a} {b} {c}"))
        .function("acme:echo/echo#nothing", || ())
        .function("price", |sku: &str| -> Result<f64, String> {
            match sku {
                "tea" => Ok(2.5),
                "panic" => panic!("the shop has burnt down"),
                _ => Err(format!("nobody sells {sku}")),
            }
        })
}

fn pool(method: StartMethod, policy: Policy) -> PoolBuilder {
    builder(&wat(FUNCTIONS), method).policy(policy)
}

fn x14_values_of_every_type_go_to_the_application_and_back(method: StartMethod) {
    let pool = pool(method, echoes()).build().unwrap();
    let call = |func: &str, text: &str| {
        let run = pool.func::<(), Value>(Target::func(func).arg_wave(text)).unwrap();
        pool.apply(&run, ()).unwrap().to_string()
    };
    for (func, text) in [
        ("text", "\"\u{e9} \\\"\""),
        ("text", "\"\""),
        ("bytes", "[0, 255, 10]"),
        ("record", "{a: 4294967295, b: \"x\", c: [1, 2]}"),
        ("variant", "nothing"),
        ("variant", "number(-0.5)"),
        ("variant", "words([\"a\", \"\"])"),
        ("option", "none"),
        ("option", "some([\"a\", \"b\"])"),
        ("enum", "green"),
        ("flags", "{x, y}"),
        ("flags", "{}"),
        ("tuple", "(true, -9223372036854775808, 'x')"),
        ("number", "18446744073709551615"),
    ] {
        assert_eq!(call(func, text), text, "{func}");
    }
    assert_eq!(call("result", "ok(7)"), "7");
    let several = pool.func::<(&str, u8, f32), String>("several").unwrap();
    assert_eq!(pool.apply(&several, ("x", 7, 1.5)).unwrap(), "x 7 1.5");
    let nothing = pool.func::<(), ()>("nothing").unwrap();
    pool.apply(&nothing, ()).unwrap();
    let long = pool.func::<Vec<u8>, Vec<u8>>("bytes").unwrap();
    let million = vec![7u8; 1 << 20];
    assert!(pool.apply(&long, million.clone()).unwrap() == million);
}

fn x14_an_error_is_a_value_a_trap_or_the_message_of_a_panic(method: StartMethod) {
    let policy = echoes().function("acme:echo/echo#number", |n: u64| -> Result<u64, String> {
        if n == 0 { Err("zero is not welcome".to_owned()) } else { Ok(n) }
    });
    let pool = pool(method, policy).processes(1).build().unwrap();
    let price = pool.func::<&str, f64>("price").unwrap();
    assert_eq!(pool.apply(&price, "tea"), Ok(2.5));
    let pids = support::pids(&pool);
    let failed = TaskError::Failed { message: "nobody sells fish".to_owned() };
    assert_eq!(pool.apply(&price, "fish"), Err(failed));
    let trapped = |error| match error {
        TaskError::Trap { message, .. } => message,
        other => panic!("{other:?}"),
    };
    let message = trapped(pool.apply(&price, "panic").unwrap_err());
    assert_eq!(message, "price: it panicked: the shop has burnt down");
    let number = pool.func::<u64, u64>("number").unwrap();
    assert_eq!(trapped(pool.apply(&number, 0).unwrap_err()), "zero is not welcome");
    assert_eq!(pool.apply(&number, 7), Ok(7));
    assert_eq!(support::pids(&pool), pids);
}

fn x14_closures_have_state_and_serve_all_workers(method: StartMethod) {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    let policy = echoes().function("acme:echo/echo#number", move |n: u64| {
        counted.fetch_add(1, Ordering::Relaxed);
        n
    });
    let pool = pool(method, policy.clone()).build().unwrap();
    let count = pool.func::<u64, u64>("count").unwrap();
    assert_eq!(pool.map(&count, [10; 50]).unwrap(), [10; 50]);
    assert_eq!(calls.load(Ordering::Relaxed), 500);
    // A process of its own, with the same functions.
    let target = Target::func("count").arg(7u64);
    let process = Process::builder(&wat(FUNCTIONS)).target(target).policy(policy).start_method(method);
    let mut process = process.build().unwrap();
    process.start().unwrap();
    assert_eq!(process.join().unwrap().exitcode, 0);
    assert_eq!(process.result::<u64>(), Some(7));
    assert_eq!(calls.load(Ordering::Relaxed), 507);
}

/// A function that tells of its beginning, and returns once it may.
struct Gate {
    begun: mpsc::Receiver<u64>,
    open: mpsc::Sender<()>,
}

fn gate() -> (Policy, Gate) {
    let (begin, begun) = mpsc::channel();
    let (open, opened) = mpsc::channel();
    let opened = Mutex::new(opened);
    let policy = echoes().function("acme:echo/echo#number", move |n: u64| {
        begin.send(n).unwrap();
        // An end of the test opens it as well.
        let _may_return = opened.lock().unwrap().recv();
        n
    });
    (policy, Gate { begun, open })
}

fn x14_a_slow_function_is_under_the_tasks_time_limit_and_its_worker_lives_on(method: StartMethod) {
    let (policy, gate) = gate();
    let mut limits = Limits::default();
    limits.time = Some(Duration::from_millis(100));
    let pool = pool(method, policy).processes(1).limits(limits).build().unwrap();
    let number = pool.func::<u64, u64>("number").unwrap();
    let text = pool.func::<&str, String>("text").unwrap();
    assert_eq!(pool.apply(&text, "a").as_deref(), Ok("a"));
    let pids = support::pids(&pool);
    let slow = pool.apply(&number, 1);
    assert!(matches!(slow, Err(TaskError::Limit { limit: Limit::Time, .. })), "{slow:?}");
    assert_eq!(gate.begun.recv(), Ok(1));
    // What the function gives now belongs to no task.
    gate.open.send(()).unwrap();
    gate.open.send(()).unwrap();
    assert_eq!(pool.apply(&number, 2), Ok(2));
    assert_eq!(support::pids(&pool), pids);
}

fn x15_the_call_of_a_task_that_is_over_is_not_begun_and_its_answer_is_dropped(method: StartMethod) {
    let (policy, gate) = gate();
    let pool = pool(method, policy.function_threads(1)).build().unwrap();
    let number = pool.func::<u64, u64>("number").unwrap();
    let first = pool.apply_async(&number, 1);
    assert_eq!(gate.begun.recv(), Ok(1));
    // There is one thread, so that this call waits.
    let second = pool.apply_async(&number, 2);
    let are_both = |state: WorkerState| {
        wait_until("both are so far", Duration::from_secs(30), || {
            pool.workers().iter().filter(|w| w.state == state).count() == 2
        });
    };
    are_both(WorkerState::Busy);
    assert!(second.cancel() && first.cancel());
    assert_eq!(second.get(), Err(TaskError::Cancelled));
    assert_eq!(first.get(), Err(TaskError::Cancelled));
    // A cancel is seen before the tasks have heard of it. Now they are over.
    are_both(WorkerState::Idle);
    gate.open.send(()).unwrap();
    gate.open.send(()).unwrap();
    assert_eq!(pool.apply(&number, 3), Ok(3));
    assert_eq!(gate.begun.try_iter().collect::<Vec<_>>(), [3]);
}

fn x15_a_function_that_never_returns_keeps_no_pool_from_its_end(method: StartMethod) {
    let (policy, gate) = gate();
    let pool = pool(method, policy).build().unwrap();
    let number = pool.func::<u64, u64>("number").unwrap();
    let first = pool.apply_async(&number, 1);
    assert_eq!(gate.begun.recv(), Ok(1));
    pool.terminate();
    pool.join().unwrap();
    assert_eq!(first.get(), Err(TaskError::Cancelled));
    drop(gate);
}

fn x14_others_trap_if_unknown_imports_do(method: StartMethod) {
    let policy = Policy::sealed().function("price", |_: &str| 1.5).trap_unknown_imports();
    let pool = pool(method, policy).build().unwrap();
    let price = pool.func::<&str, f64>("price").unwrap();
    assert_eq!(pool.apply(&price, "tea"), Ok(1.5));
    let number = pool.func::<u64, u64>("number").unwrap();
    let said = pool.apply(&number, 1).unwrap_err().to_string();
    assert!(said.contains("it called acme:echo/echo@1.0.0#number, which is not provided"), "{said}");
}

fn x13_x14_a_function_may_use_shared_objects(method: StartMethod) {
    let found = Queue::unbounded();
    let queue = found.clone();
    // The last handle inside of the closure may be dropped with it.
    let policy = echoes().function("acme:echo/echo#number", move |n: u64| -> Result<u64, String> {
        queue.put(&n).map_err(|error| error.to_string()).map(|()| n)
    });
    let pool = pool(method, policy).build().unwrap();
    let number = pool.func::<u64, u64>("number").unwrap();
    assert_eq!(pool.map(&number, 0..20).unwrap(), (0..20).collect::<Vec<_>>());
    drop(pool);
    let mut all: Vec<u64> = found.get_many(20).unwrap().into_iter().map(Result::unwrap).collect();
    all.sort_unstable();
    assert_eq!(all, (0..20).collect::<Vec<_>>());
}

#[test]
fn x14_functions_work_in_a_dummy_pool() {
    let pool = wpool::dummy::Pool::builder(&wat(FUNCTIONS)).policy(echoes()).build().unwrap();
    let price = pool.func::<&str, f64>("price").unwrap();
    assert_eq!(pool.apply(&price, "tea"), Ok(2.5));
}
