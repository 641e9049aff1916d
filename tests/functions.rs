//! Functions that an application gives to its guests (rows X14 and X15 of the contract).

mod support;

use support::command::{run, scratch, wpool};
use support::wat;
use wpool::policy::Grant;
use wpool::value::Value;
use wpool::{BuildError, Policy, Pool, Process};

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
